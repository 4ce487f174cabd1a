"""Collectives of one group as gloo carries them out: every rank in its own time.

A rank's part begins when it has called and one of its threads is free, whether the others
are there or not, and ends when it has its own result (:mod:`sim.gloo`).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sim.gloo import part
from sim.messages import End, ends
from sim.program import QUANTIZED
from sim.runtime.groups import Call, Collective, exchange, joined, passed_on
from sim.wires import Connections, Wires

if TYPE_CHECKING:
    from sim.runtime.run import Runtime


class _Lane:
    """Connections of their own and, on each rank, threads that take one call after the other."""

    def __init__(self, wires: Wires, workers: int, threads: int) -> None:
        self.connections = Connections(wires, workers)
        self.free = [threads] * workers
        self.waiting: list[deque[tuple[Collective, Call]]] = [deque() for _ in range(workers)]


class GlooGroup:
    """The collectives of one group.

    int8 and fp4 have connections and a thread of their own, as in realrun: they are two
    exchanges that nothing may separate.
    """

    def __init__(self, runtime: Runtime, name: str, wires: Wires) -> None:
        self.runtime = runtime
        self.name = name
        self.calls: dict[int, Collective] = {}
        self._workers = len(runtime.scenario.workers)
        self._plain = _Lane(wires, self._workers, runtime.concurrent)
        self._quantized = _Lane(wires, self._workers, 1)
        self._ends: dict[int, list[End]] = {}
        self._unfinished: dict[int, int] = {}

    def arrive(self, call: Call) -> None:
        """Note that a member has called, and let it begin."""
        collective = joined(self.calls, call, self.runtime.clock.now)
        # Nobody has a result before all have called, and nobody reads what is in flight.
        if (
            collective.complete(self.runtime)
            and collective.numbers
            and collective.operation != "broadcast"
        ):
            exchange(collective, self.runtime.standing_for, self.runtime.quantize_block)
        lane = self._quantized if call.dtype in QUANTIZED else self._plain
        lane.waiting[call.row.rank].append((collective, call))
        self._begin(lane, call.row.rank)

    def _begin(self, lane: _Lane, rank: int) -> None:
        while lane.free[rank] and lane.waiting[rank]:
            lane.free[rank] -= 1
            self._run(lane, *lane.waiting[rank].popleft())

    def _run(self, lane: _Lane, collective: Collective, call: Call) -> None:
        runtime, rank, number = self.runtime, call.row.rank, call.row.call
        if number not in self._ends:
            self._ends[number] = ends(lane.connections)
            self._unfinished[number] = self._workers
        extra = runtime.first_extra(number)
        seconds = runtime.links.cost(*collective.kind).seconds
        call.row.work_s = seconds + extra
        rates = runtime.rates(collective, seconds)
        rate = rates[rank] if rates else 0.0
        device = runtime.devices[rank]
        device.communicates(+1, rate)

        def ended() -> None:
            device.communicates(-1, rate)
            call.row.end_s = runtime.clock.now
            if collective.operation == "broadcast":
                passed_on(collective, call)
            self._unfinished[number] -= 1
            if not self._unfinished[number]:
                del self.calls[number], self._ends[number], self._unfinished[number]
            lane.free[rank] += 1
            self._begin(lane, rank)
            call.activity.end()

        # Which of a rank's threads is first is chance, and another's on another rank.
        end = self._ends[number][rank]
        woken_s = lane.connections.wires.waking_s() / 2
        end.run(part(end, *collective.kind, before_s=extra + woken_s), ended)
