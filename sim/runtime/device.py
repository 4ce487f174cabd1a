"""A worker's device: two queues of computations, and what slows them down."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from sim.clock import SAME_INSTANT, Timer
from sim.compute import cold_start_s

if TYPE_CHECKING:
    from sim.runtime.activity import Activity
    from sim.runtime.run import Runtime
    from sim.scenario.resolved import Worker
    from sim.trace import Row


class Queue:
    """One queue of a worker's device: computations one after the other, in order of the calls.

    ``stretch`` is how much slower than undisturbed it runs at present.
    """

    __slots__ = ("busy", "device", "jobs", "left", "runtime", "timer", "updated")

    def __init__(self, runtime: Runtime, device: Device) -> None:
        self.runtime = runtime
        self.device = device
        self.jobs: deque[tuple[float, tuple[Row, ...], Activity]] = deque()
        self.left = 0.0
        self.updated = 0.0
        self.timer: Timer | None = None
        self.busy = False

    def put(self, work: float, rows: tuple[Row, ...], activity: Activity) -> None:
        """Queue ``work`` undisturbed seconds; an idle queue does no work at once."""
        if work <= 0 and not self.busy:
            now = self.runtime.clock.now
            for row in rows:
                row.begin_s = row.end_s = now
            activity.end()
            return
        if cold := self.device.cold_start_s():
            work += cold
            rows[0].work_s += cold
        self.jobs.append((work, rows, activity))
        if not self.busy:
            self._begin()
            self.device.changed(self)

    def _begin(self) -> None:
        work, rows, _ = self.jobs[0]
        now = self.runtime.clock.now
        for row in rows:
            row.begin_s = now
        self.busy = True
        self.left = work
        self.updated = now
        self.reschedule(self.device.stretch(self))

    def reschedule(self, stretch: float) -> None:
        """Set the end of the computation under way anew."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.runtime.clock.after(self.left * stretch, self._end)

    def progress(self, stretch: float) -> None:
        """Account for the time since the last change, during which ``stretch`` held."""
        now = self.runtime.clock.now
        self.left = max(0.0, self.left - (now - self.updated) / stretch)
        self.updated = now

    def _end(self) -> None:
        now = self.runtime.clock.now
        self.runtime.wire.end_before(now * (1 + SAME_INSTANT))
        if self.timer is not None:  # set again, where a collective that just ended slowed this down
            self.timer.cancel()
        _, rows, activity = self.jobs.popleft()
        self.busy = False
        self.device.warm_until = now
        if len(rows) == 1:
            rows[0].end_s = now
        else:  # several operations in one go: each its share of the time, in order
            begin = rows[0].begin_s
            total = sum(row.work_s for row in rows)
            for row in rows:
                row.begin_s = begin
                begin += (now - rows[0].begin_s) * (row.work_s / total if total else 0.0)
                row.end_s = begin
            rows[-1].end_s = now
        if self.jobs:
            self._begin()
        else:
            self.device.changed(self)
        activity.end()


class Device:
    """The two queues of one worker and what disturbs them."""

    __slots__ = (
        "communicating",
        "contention",
        "disturbed",
        "line",
        "machine",
        "on_line",
        "per_byte",
        "queues",
        "side",
        "stretches",
        "traffic",
        "warm_until",
    )

    def __init__(self, runtime: Runtime, worker: Worker) -> None:
        self.contention = worker.machine.communication_slowdown
        self.side = worker.machine.side_slowdown
        self.per_byte = worker.machine.communication_s_per_byte
        self.line, self.on_line = inf, 0.0
        if worker.machine.transmission_slowdown:
            rates, factors = zip(*worker.machine.transmission_slowdown, strict=True)
            self.line = runtime.links.slowest_from(worker.rank)
            self.on_line = float(np.interp(self.line, rates, factors) - 1)
        self.disturbed = (
            self.contention != 1.0 or self.per_byte > 0 or self.on_line > 0
        )  # by communication
        self.machine = worker.machine
        self.warm_until = 0.0  # when its last computation ended
        self.queues = (Queue(runtime, self), Queue(runtime, self))
        self.stretches = [1.0, 1.0]
        self.communicating = 0
        self.traffic = 0.0  # bytes/s that its collectives now send, on average

    def cold_start_s(self) -> float:
        """How much longer a computation takes that begins now, after a pause."""
        if not self.machine.cold_start or self.queues[0].busy or self.queues[1].busy:
            return 0.0
        return cold_start_s(self.machine, self.queues[0].runtime.clock.now - self.warm_until)

    def communicates(self, more: int, rate: float) -> None:
        """Note that a collective went on the wire (+1) or left it (-1)."""
        self.communicating += more
        self.traffic = self.traffic + more * rate if self.communicating else 0.0
        self.changed()

    def stretch(self, queue: Queue) -> float:
        """How many times slower than undisturbed the queue now runs."""
        factor = self.contention if self.communicating else 1.0
        # Bytes that are on the line a part of the time slow computation down that part.
        on_line = self.on_line * min(1.0, self.traffic / self.line)
        factor *= 1 + self.traffic * self.per_byte + on_line
        if self.queues[0].busy and self.queues[1].busy:
            factor *= self.side
        self.stretches[self.queues.index(queue)] = factor
        return factor

    def changed(self, by: Queue | None = None) -> None:
        """Something began or ended: bring the queues' speeds up to date."""
        if not self.disturbed and self.side == 1.0:
            return
        for index, queue in enumerate(self.queues):
            if queue.busy and queue is not by:
                before = self.stretches[index]
                after = self.stretch(queue)
                if after != before:
                    queue.progress(before)
                    queue.reschedule(after)
