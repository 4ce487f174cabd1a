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
from typing import Any, NamedTuple

import torch

Use = Callable[[list[float]], None]
Mark = Any
"""Seconds on a CPU, an event on a GPU."""

# The GPU has a clock of its own. Compared as seldom as this, the two are half a millisecond apart
# if one gains 50 microseconds in a second, and the wait for it costs nothing to speak of.
_ANCHOR_S = 10.0


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
        """Let what the current thread calls next begin after a mark; the host continues."""

    def later(self, marks: Sequence[Mark], use: Use) -> None:
        """Call ``use`` with the seconds of some marks, as soon as they are known."""
        use(list(marks))

    def drain(self) -> None:
        """Wait until what the current thread has called has ended, and use the marks passed.

        Raises
        ------
        Exception
            Whatever a ``use`` raises.
        """

    def settle(self) -> None:
        """Use the marks that the device has come by; raises what a ``use`` raises."""

    def close(self) -> None:
        """Wait for the device, and use all marks."""

    @contextmanager
    def in_background(self, mark: Mark) -> Iterator[None]:
        """Run what this thread calls next to the main program's, beginning after a mark."""
        yield


class _Anchor(NamedTuple):
    """An event that has happened, and when: seconds on the host's clock."""

    event: Any
    at: float


class _Moment(NamedTuple):
    """An event on a stream, and an anchor that had happened before it was recorded.

    So what is measured from the one to the other is never negative, in whatever order streams
    run, and short: ``elapsed_time`` is a 32-bit number of milliseconds.
    """

    event: Any
    since: _Anchor


def _seconds(moments: Sequence[_Moment]) -> list[float]:
    """When events happened; all from one anchor, so that their order is that on the GPU."""
    anchor = min((moment.since for moment in moments), key=lambda anchor: anchor.at)
    return [anchor.at + anchor.event.elapsed_time(moment.event) / 1e3 for moment in moments]


class Card(Host):
    """A GPU: calls queue on the current stream; a spawned program has the second one.

    Parameters
    ----------
    device
        Which one, with its index.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device
        self._pending: deque[tuple[Sequence[Mark], Use]] = deque()
        self._lock = threading.Lock()
        self._side: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        torch.cuda.synchronize(device)
        self._anchor = self._anchored()

    def mark(self) -> Mark:
        """Record an event on the current stream."""
        anchor = self._anchor  # first: another thread may put a later one in its place
        return _Moment(self._recorded(), anchor)

    def passed(self, mark: Mark) -> bool:
        """Whether the event has happened."""
        return bool(mark.event.query())

    def after(self, mark: Mark) -> None:
        """Let the current stream wait for the event."""
        self._stream().wait_event(mark.event)

    def later(self, marks: Sequence[Mark], use: Use) -> None:
        """Call ``use`` in the first :meth:`settle` after the events have happened."""
        with self._lock:
            self._pending.append((marks, use))

    def drain(self) -> None:
        """Wait for the current stream, and use the events that have happened."""
        self._stream().synchronize()
        if self._old():
            self._anchor = self._anchored()
        self._use()

    def settle(self) -> None:
        """Use the events that have happened, in the order in which they were handed in.

        Every ten seconds it waits for the stream first, to compare the clocks.
        """
        if self._old():
            self.drain()
        else:
            self._use()

    def close(self) -> None:
        """Wait for all streams, and use all events."""
        torch.cuda.synchronize(self._device)
        self._use()

    @contextmanager
    def in_background(self, mark: Mark) -> Iterator[None]:
        """Use the second stream in this thread, from an event of the first on."""
        with torch.cuda.device(self._device), torch.cuda.stream(self._side):
            self.after(mark)
            yield

    def _stream(self) -> Any:
        return torch.cuda.current_stream(self._device)

    def _recorded(self) -> Any:
        event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(self._stream())
        return event

    def _anchored(self) -> _Anchor:
        """Compare the clocks, on a stream that has nothing to do."""
        before = self.now()
        event = self._recorded()
        event.synchronize()
        return _Anchor(event, (before + self.now()) / 2)

    def _old(self) -> bool:
        return self.now() - self._anchor.at > _ANCHOR_S

    def _use(self) -> None:
        with self._lock:
            while self._pending and all(self.passed(mark) for mark in self._pending[0][0]):
                marks, use = self._pending.popleft()
                use(_seconds(marks))


def timed_on(device: torch.device) -> Host:
    """Return the clock of a device."""
    return Card(device) if device.type == "cuda" else Host()
