"""When things happen on what computes: at once on a CPU, on a stream's events on a GPU.

A GPU's host runs ahead of it: the moment of a call says nothing. So a moment is a mark on the
current stream, and is read when the GPU has come by; nothing is waited for meanwhile.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import torch

Use = Callable[[list[float]], None]
Mark = Any
"""Seconds on a CPU, an event on a GPU."""

_ANCHOR_S = 10.0  # elapsed_time is a 32-bit number of milliseconds: exact over short times only


class Host:
    """A CPU: what was called has ended when the call returns."""

    def __init__(self) -> None:
        self._origin = perf_counter()

    def now(self) -> float:
        """Seconds since this was made, on the host's clock."""
        return perf_counter() - self._origin

    def mark(self) -> Mark:
        """Mark this moment in what the current thread has called."""
        return self.now()

    def passed(self, mark: Mark) -> bool:
        """Whether the device has come by a mark."""
        return True

    def after(self, mark: Mark) -> None:
        """Let what the current thread calls next begin after a mark; the host goes on."""

    def later(self, marks: Sequence[Mark], use: Use) -> None:
        """Call ``use`` with the seconds of some marks, as soon as they are known."""
        use(list(marks))

    def drain(self) -> None:
        """Wait until what the current thread has called has ended."""

    def settle(self) -> None:
        """Use the marks that the device has come by."""

    def close(self) -> None:
        """Wait for the device, and use all marks."""

    @contextmanager
    def beside(self, mark: Mark) -> Iterator[None]:
        """Run what this thread calls beside the main program's, beginning after a mark."""
        yield


class Card(Host):
    """A GPU: calls queue on the current stream; a spawned program has the second one.

    Parameters
    ----------
    device
        Which one.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device
        self._pending: deque[tuple[Sequence[Mark], Use]] = deque()
        self._lock = threading.Lock()
        self._side: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        torch.cuda.synchronize(device)
        self._anchor = self.mark()
        self._anchor.synchronize()
        self._anchored_s = self.now()

    def mark(self) -> Mark:
        """Record an event on the current stream."""
        event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def passed(self, mark: Mark) -> bool:
        """Whether the event has happened."""
        return bool(mark.query())

    def after(self, mark: Mark) -> None:
        """Let the current stream wait for the event."""
        torch.cuda.current_stream(self._device).wait_event(mark)

    def later(self, marks: Sequence[Mark], use: Use) -> None:
        """Call ``use`` in the first :meth:`settle` after the events have happened."""
        with self._lock:
            self._pending.append((marks, use))

    def drain(self) -> None:
        """Wait for the current stream."""
        torch.cuda.current_stream(self._device).synchronize()

    def settle(self) -> None:
        """Use the events that have happened, in the order in which they were handed in."""
        with self._lock:
            while self._pending and all(event.query() for event in self._pending[0][0]):
                self._use(*self._pending.popleft())

    def close(self) -> None:
        """Wait for all streams, and use all events."""
        torch.cuda.synchronize(self._device)
        self.settle()

    @contextmanager
    def beside(self, mark: Mark) -> Iterator[None]:
        """Use the second stream in this thread, from an event of the first on."""
        with torch.cuda.device(self._device), torch.cuda.stream(self._side):
            self._side.wait_event(mark)
            yield

    def _use(self, events: Sequence[Mark], use: Use) -> None:
        times = [self._anchored_s + self._anchor.elapsed_time(event) / 1e3 for event in events]
        use(times)
        latest = max(range(len(times)), key=times.__getitem__)
        if times[latest] - self._anchored_s > _ANCHOR_S:
            self._anchor, self._anchored_s = events[latest], times[latest]


def timed_on(device: torch.device) -> Host:
    """Return the clock of a device."""
    return Card(device) if device.type == "cuda" else Host()
