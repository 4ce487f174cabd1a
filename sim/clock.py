"""Virtual time, on SimPy: what is due when, and what *the same instant* means.

Timers fire in the order of their times. Of those due at the very same time the ``first`` ones come
first, and among equals the one that was set earlier. Times that were computed along different ways
may differ in their last digits although they mean the same: times within ``SAME_INSTANT`` of each
other, relative, are the same instant, and at one instant collectives end before computations. The
second rule is kept by the device, which lets end what ends then before a computation of its own
(:mod:`sim.runtime.device`); without it the number of micro-batches that a method takes while it
communicates would change when all durations are scaled.

The interface is that of trio's clocks: a time, and something to be done later.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop
from typing import Any

import simpy
from simpy.core import EmptySchedule
from simpy.events import NORMAL, URGENT

SAME_INSTANT = 1e-12  # relative

Action = Callable[[], None]


class Timer:
    """Something that will be done once; made by :meth:`Clock.after`."""

    __slots__ = ("action",)

    def __init__(self, action: Action) -> None:
        self.action: Action | None = action

    def cancel(self) -> None:
        """Have nothing done; of no effect once it is done."""
        self.action = None


class _Timers(simpy.Environment):
    """SimPy's environment where all events are timers: none fails, and none is waited for.

    So a step need not look at either, which it would do for every operation that is simulated.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def step(self) -> None:
        """Let the next timer fire."""
        try:
            self._now, _, _, timer = heappop(self._queue)
        except IndexError:
            raise EmptySchedule from None
        action = timer.action  # type: ignore[attr-defined]
        if action is not None:
            self._clock.now = self._now
            action()


class Clock:
    """Virtual time in seconds.

    Examples
    --------
    >>> clock, seen = Clock(), []
    >>> late = clock.after(3.0, lambda: seen.append("never"))
    >>> for name, first in (("computed", False), ("received", True)):
    ...     timer = clock.after(2.0, lambda name=name: seen.append((name, clock.now)), first=first)
    >>> late.cancel()
    >>> clock.run()
    >>> seen
    [('received', 2.0), ('computed', 2.0)]
    """

    def __init__(self) -> None:
        self._env = _Timers(self)
        self._schedule: Callable[[Any, Any, float], None] = self._env.schedule
        #: Seconds since the beginning.
        self.now: float = self._env.now

    def after(self, seconds: float, action: Action, *, first: bool = False) -> Timer:
        """Do something in that many seconds, at least 0.

        Parameters
        ----------
        first
            Before what is due at the same time without it.
        """
        timer = Timer(action)
        self._schedule(timer, URGENT if first else NORMAL, seconds)
        return timer

    def run(self) -> None:
        """Let time pass until nothing is due any more."""
        self._env.run()
        self.now = self._env.now
