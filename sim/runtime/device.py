"""A worker's device: two queues of computations, and what slows them down."""

from __future__ import annotations

from collections import deque
from math import inf

import numpy as np

from sim.clock import SAME_INSTANT, Clock, Timer
from sim.network.flows import Flows
from sim.records.cold_start import cold_start_s
from sim.records.scenario import Machine
from sim.runtime.activity import Activity
from sim.trace.table import Row


class Queue:
    """One queue of a worker's device: computations one after the other, in order of the calls."""

    __slots__ = (
        "_activity",
        "_clock",
        "_device",
        "_left",
        "_number",
        "_rows",
        "_timer",
        "_updated",
        "_waiting",
        "busy",
    )

    def __init__(self, clock: Clock, device: Device, number: int) -> None:
        self._clock = clock
        self._device = device
        self._number = number
        self._waiting: deque[tuple[float, tuple[Row, ...], Activity]] = deque()
        self.busy = False
        # Of the computation under way:
        self._rows: tuple[Row, ...] = ()
        self._activity: Activity | None = None
        self._left = 0.0
        self._updated = 0.0
        self._timer: Timer | None = None

    def put(self, work: float, rows: tuple[Row, ...], activity: Activity) -> None:
        """Queue ``work`` undisturbed seconds; an idle queue does no work at once."""
        if work <= 0 and not self.busy:
            now = self._clock.now
            for row in rows:
                row.begin_s = row.end_s = now
            activity.end()
            return
        device = self._device
        if device.cools and (cold := device.cold_start_s()):
            work += cold
            rows[0].work_s += cold
        if self.busy:
            self._waiting.append((work, rows, activity))
            return
        self._begin(work, rows, activity)
        if device.varies:
            device.changed(self)

    def _begin(self, work: float, rows: tuple[Row, ...], activity: Activity) -> None:
        now = self._clock.now
        if not activity.ended:  # nor failed
            for row in rows:
                row.begin_s = now
        self.busy = True
        self._rows, self._activity = rows, activity
        if self._device.varies:
            self._left = work
            self._updated = now
            work *= self._device.stretch(self._number)
        self._timer = self._clock.after(work, self._end)

    def stretched(self, before: float, after: float) -> None:
        """Let the computation under way continue ``after`` times slower instead of ``before``."""
        now = self._clock.now
        self._left = max(0.0, self._left - (now - self._updated) / before)
        self._updated = now
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.after(self._left * after, self._end)

    def _end(self) -> None:
        now, device = self._clock.now, self._device
        if device.flows.next_end <= now * (1 + SAME_INSTANT):
            device.flows.end_before(now * (1 + SAME_INSTANT))
            if self._timer is not None:  # set again by a collective that has just ended
                self._timer.cancel()
        rows, activity = self._rows, self._activity
        assert activity is not None
        self.busy = False
        device.warm_until = now
        if activity.ended:  # it has failed, and its rows with it
            for row in rows[1:]:
                row.end_s = row.begin_s
        elif len(rows) == 1:
            rows[0].end_s = now
        else:  # several operations in one go: each its share of the time, in order
            begin = rows[0].begin_s
            total = sum(row.work_s for row in rows)
            for row in rows:
                row.begin_s = begin
                begin += (now - rows[0].begin_s) * (row.work_s / total if total else 0.0)
                row.end_s = begin
            rows[-1].end_s = now
        if self._waiting:
            self._begin(*self._waiting.popleft())
        elif device.varies:
            device.changed(self)
        activity.end()


class Device:
    """The two queues of one worker and what disturbs them.

    Parameters
    ----------
    clock
        Virtual time.
    machine
        The worker's.
    slowest_path
        Bytes/s of its slowest path to another worker.
    flows
        The collectives now under way: at one instant they end before computations.
    """

    __slots__ = (
        "_by_path",
        "_clock",
        "_communicating",
        "_contention",
        "_machine",
        "_per_byte",
        "_side",
        "_slowest_path",
        "_stretches",
        "_traffic",
        "cools",
        "disturbed",
        "flows",
        "queues",
        "varies",
        "warm_until",
    )

    def __init__(self, clock: Clock, machine: Machine, slowest_path: float, flows: Flows) -> None:
        self._clock = clock
        self._machine = machine
        self.flows = flows
        self._contention = machine.communication_slowdown
        self._side = machine.background_slowdown
        self._per_byte = machine.communication_s_per_byte
        self._slowest_path, self._by_path = inf, 0.0
        if machine.transmission_slowdown:
            rates, factors = zip(*machine.transmission_slowdown, strict=True)
            self._slowest_path = slowest_path
            self._by_path = float(np.interp(slowest_path, rates, factors) - 1)
        #: Whether communication slows it down.
        self.disturbed = self._contention != 1.0 or self._per_byte > 0 or self._by_path > 0
        #: Whether computations are slowed down at times.
        self.varies = self.disturbed or self._side != 1.0
        #: Whether the first computation after a pause takes longer.
        self.cools = bool(machine.cold_start)
        self.warm_until = 0.0  # when its last computation ended
        self.queues = (Queue(clock, self, 0), Queue(clock, self, 1))
        self._stretches = [1.0, 1.0]  # how much slower than undisturbed each queue now runs
        self._communicating = 0
        self._traffic = 0.0  # bytes/s that its collectives now send, on average

    def cold_start_s(self) -> float:
        """How much longer a computation takes that begins now, after a pause."""
        if self.queues[0].busy or self.queues[1].busy:
            return 0.0
        return cold_start_s(self._machine, self._clock.now - self.warm_until)

    def communicates(self, more: int, rate: float) -> None:
        """Note that a collective went on the wire (+1) or left it (-1)."""
        self._communicating += more
        self._traffic = self._traffic + more * rate if self._communicating else 0.0
        if self.varies:
            self.changed()

    def stretch(self, number: int) -> float:
        """How many times slower than undisturbed a queue now runs."""
        factor = self._contention if self._communicating else 1.0
        # Bytes that are on the link a part of the time slow computation down that part.
        by_path = self._by_path * min(1.0, self._traffic / self._slowest_path)
        factor *= 1 + self._traffic * self._per_byte + by_path
        if self.queues[0].busy and self.queues[1].busy:
            factor *= self._side
        self._stretches[number] = factor
        return factor

    def changed(self, by: Queue | None = None) -> None:
        """Something began or ended: bring the queues' speeds up to date."""
        for number, queue in enumerate(self.queues):
            if queue.busy and queue is not by:
                before = self._stretches[number]
                after = self.stretch(number)
                if after != before:
                    queue.stretched(before, after)
