"""Collectives of one group as gloo carries them out: every rank in its own time.

A rank's part begins when it has called and one of its threads is free, whether the others
are there or not, and ends when it has its own result (:mod:`sim.network.gloo`).
"""

from __future__ import annotations

from collections import deque

from sim.clock import Clock
from sim.members import Members, family, root_of
from sim.network.gloo import part
from sim.network.message_links import MessageLinks
from sim.network.messages import End, ends
from sim.program import QUANTIZED
from sim.runtime.groups import Call, Collective, Simulated, exchange, joined, passed_on
from sim.runtime.transport import Transport


class _Lane:
    """Connections of their own and, on each rank, threads that take one call after the other."""

    def __init__(self, links: MessageLinks, members: Members, threads: int) -> None:
        ranks = members.ranks
        self.connections = links.connections(len(ranks), ranks if members.name else None)
        self.free = dict.fromkeys(ranks, threads)
        self.waiting: dict[int, deque[tuple[Collective, Call]]] = {rank: deque() for rank in ranks}


class GlooGroup:
    """The collectives of one group.

    int8 and fp4 have connections and a thread of their own, as in realrun: they are two
    exchanges that nothing may separate. Parameters are those of :class:`Group`, and ``links``,
    which carry the messages.
    """

    def __init__(
        self,
        name: str,
        members: Members,
        simulated: Simulated,
        clock: Clock,
        transport: Transport,
        concurrent: int,
        quantize_block: int,
        links: MessageLinks,
    ) -> None:
        self.name = name
        self.members = members
        self.simulated = simulated
        self.calls: dict[int, Collective] = {}
        self._clock = clock
        self._transport = transport
        self._quantize_block = quantize_block
        self._plain = _Lane(links, members, concurrent)
        self._quantized = _Lane(links, members, 1)
        self._places = {rank: place for place, rank in enumerate(members.ranks)}
        self._ends: dict[int, list[End]] = {}
        self._unfinished: dict[int, int] = {}

    def arrive(self, call: Call) -> None:
        """Note that a member has called, and let it begin."""
        now = self._clock.now
        collective = joined(self.calls, call, now)
        # Nobody has a result before all have called, and nobody reads what is in flight.
        if (
            collective.complete(len(self.members), now)
            and collective.numbers
            and family(collective.operation) != "broadcast"
        ):
            exchange(collective, self.members, self.simulated, self._quantize_block)
        lane = self._quantized if call.dtype in QUANTIZED else self._plain
        lane.waiting[call.row.rank].append((collective, call))
        self._begin(lane, call.row.rank)

    def _begin(self, lane: _Lane, rank: int) -> None:
        while lane.free[rank] and lane.waiting[rank]:
            lane.free[rank] -= 1
            self._run(lane, *lane.waiting[rank].popleft())

    def _run(self, lane: _Lane, collective: Collective, call: Call) -> None:
        transport, kind = self._transport, collective.kind
        rank, number = call.row.rank, call.row.call
        if number not in self._ends:
            self._ends[number] = ends(lane.connections)
            self._unfinished[number] = len(self.members)
        extra = transport.first_extra(number)
        call.row.work_s = transport.alone_s(kind) + extra
        rate = transport.begins(kind, rank)

        def ended() -> None:
            transport.ends(rank, rate)
            if not call.activity.ended:  # nor failed
                call.row.end_s = self._clock.now
            if family(collective.operation) == "broadcast":
                passed_on(collective, call, self.members.ranks[root_of(collective.operation)])
            self._unfinished[number] -= 1
            if not self._unfinished[number]:
                del self.calls[number], self._ends[number], self._unfinished[number]
            lane.free[rank] += 1
            self._begin(lane, rank)
            call.activity.end()

        # Which of a rank's threads is first is chance, and another's on another rank.
        end = self._ends[number][self._places[rank]]
        woken_s = lane.connections.links.waking_s() / 2
        end.run(part(end, *kind, before_s=extra + woken_s), ended)
