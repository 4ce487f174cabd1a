"""Where outer state is between two uses: on the device, or in the host's memory.

A fragment's outer parameters and momentum are used once in many steps. In the host's memory
they leave the device to what is used in every step, and visit it in a room as large as the
largest fragment with its momentum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor


class OnDevice:
    """Outer state that stays where it is used."""

    def kept(self, values: Tensor) -> Tensor:
        """Return a copy of some values, to be kept."""
        return values.clone()

    @contextmanager
    def visiting(self, kept: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """Yield what is kept where it can be computed with; in there only."""
        yield list(kept)

    def back(self, values: Tensor, kept: Tensor | None) -> Tensor:
        """Keep values that have been computed, in the place of older ones if there are any.

        Returns what is kept. Visitors are given back before they leave.
        """
        return values

    def settle(self) -> None:
        """Let the host wait until it can read what is kept."""


class OnHost(OnDevice):
    """Outer state in the host's memory.

    A GPU copies on a stream of its own, during the computation: there as soon as the host has
    called it and the room is free, back once the values are computed. Streams wait for each
    other, the host for neither. On a CPU both places are the machine's memory; the copies are
    made all the same.

    Parameters
    ----------
    device
        What computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._room = torch.empty(0, device=device)
        self._stream: Any = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._left = self._marked()  # when the last visitors had left the room

    def kept(self, values: Tensor) -> Tensor:
        """Return a copy of some values, to be kept."""
        copy = self._place(values)
        copy.copy_(values)
        return copy

    @contextmanager
    def visiting(self, kept: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """Yield what is kept where it can be computed with; in there only."""
        sizes = [values.numel() for values in kept]
        if sum(sizes) > len(self._room):
            self._make_room(sum(sizes))
        here = list(torch.split(self._room[: sum(sizes)], sizes))
        with self._beside():
            if self._stream is not None:
                self._stream.wait_event(self._left)
            for visitor, values in zip(here, kept, strict=True):
                visitor.copy_(values, non_blocking=True)
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
        yield here
        if self._stream is not None:
            self._left = self._marked()

    def back(self, values: Tensor, kept: Tensor | None) -> Tensor:
        """Keep values that have been computed; see :meth:`OnDevice.back`."""
        place = self._place(values) if kept is None else kept
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            values.record_stream(self._stream)
        with self._beside():
            place.copy_(values, non_blocking=True)
        return place

    def settle(self) -> None:
        """Let the host wait until it can read what is kept."""
        if self._stream is not None:
            self._stream.synchronize()

    def _place(self, values: Tensor) -> Tensor:
        """Make room in the host's memory, fixed there so that a GPU can copy by itself."""
        if self._device.type == "meta":  # a rehearsal: sizes without contents
            return torch.empty_like(values)
        pinned = self._stream is not None
        return torch.empty(values.shape, dtype=values.dtype, pin_memory=pinned)

    def _make_room(self, size: int) -> None:
        """Make a larger room; the old one is freed when both streams have passed it."""
        if self._stream is not None and len(self._room):
            self._room.record_stream(self._stream)
        self._room = self._room.new_empty(size)
        if self._stream is not None:
            self._left = self._marked()  # the memory may have been another tensor's until now

    def _beside(self) -> Any:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _marked(self) -> Any:
        event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event
