"""Collectives of one group: matched by call number, carried out in that order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import isnan
from typing import Any

import numpy as np

from sim.clock import Clock
from sim.members import Members, family, root_of
from sim.models.rounding import Floats, carried, reduced
from sim.runtime.activity import Activity
from sim.runtime.errors import CollectiveMismatch
from sim.runtime.transport import Kind, Transport
from sim.trace.table import Row

Numbers = tuple[int, Floats, Floats]
"""Rank, what it sent as its dtype rounds it, and where the result goes."""

Simulated = Mapping[int, tuple[int, ...]]
"""The ranks that are simulated, each with all the ranks that it stands for."""


@dataclass(slots=True, eq=False)
class Call:
    """What one rank has called; ``numbers`` where its buffer holds any."""

    row: Row
    activity: Activity
    dtype: str
    mean: bool
    numbers: Numbers | None


class Collective:
    """One call number of one group: who has called it, and with what."""

    __slots__ = ("calls", "kind", "last_call_s", "mean", "numbers", "operation")

    def __init__(self, first: Call) -> None:
        row = first.row
        self.operation = row.operation
        self.kind: Kind = (row.operation, first.dtype, row.bytes)
        self.mean = first.mean
        self.last_call_s = 0.0  # so far
        self.calls: list[Call] = []
        self.numbers: list[Numbers] = []

    @property
    def arrived(self) -> list[int]:
        """Ranks that have called, in that order."""
        return [call.row.rank for call in self.calls]

    @property
    def failed(self) -> bool:
        """Whether it has failed for a member."""
        return any(call.activity.error is not None for call in self.calls)

    def complete(self, members: int, now: float) -> bool:
        """Whether all members have called; if the last one just did, note when."""
        if len(self.calls) < members:
            return False
        for call in self.calls:
            if isnan(call.row.ready_s):  # who has a broadcast's result was not to wait for others
                call.row.ready_s = call.activity.ready_s = now
        return True

    def end(self, now: float) -> None:
        """Note when it has ended for all members."""
        for call in self.calls:
            if not call.activity.ended:  # nor failed
                call.row.end_s = now


def joined(calls: dict[int, Collective], call: Call, now: float) -> Collective:
    """Let a rank join the collective of its call number, which is made by the first."""
    row = call.row
    collective = calls.get(row.call)
    if collective is None:
        collective = calls[row.call] = Collective(call)
    elif (row.operation, call.dtype, row.bytes) != collective.kind:
        operation, dtype, size = collective.kind
        raise CollectiveMismatch(
            f"call {row.call} of group {row.group}: rank {row.rank} calls {row.operation} of "
            f"{row.bytes:.0f} bytes ({call.dtype}), but rank {collective.arrived[0]} called "
            f"{operation} of {size:.0f} bytes ({dtype}); "
            "every worker must issue the same collectives in the same order"
        )
    collective.last_call_s = now
    collective.calls.append(call)
    if call.numbers is not None:
        collective.numbers.append(call.numbers)
    return collective


def passed_on(collective: Collective, call: Call, root: int) -> None:
    """Give one rank what the root broadcasts, which it may have before all others have called."""
    row = call.row
    if call.numbers is not None:
        sent = {member: values for member, values, _ in collective.numbers}
        call.numbers[2][...] = sent[root]
    if isnan(row.ready_s):  # who calls later does not concern it
        row.ready_s = call.activity.ready_s = collective.last_call_s


class Group:
    """The collectives of one group, carried out in the order of their call numbers.

    Parameters
    ----------
    name
        The program's group.
    members
        Who takes part.
    simulated
        Those of them that are simulated, each with all that it stands for.
    clock
        Virtual time.
    transport
        What happens to one of its collectives that all have called.
    concurrent
        How many are under way at once.
    quantize_block
        Values per scale of int8 and fp4.
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
    ) -> None:
        self.name = name
        self.members = members
        self.simulated = simulated
        self.calls: dict[int, Collective] = {}
        self._clock = clock
        self._transport = transport
        self._concurrent = concurrent
        self._quantize_block = quantize_block
        self._callers = len(simulated)
        self._granted = 0  # call numbers below this are or were on the wire
        self._running = 0

    def arrive(self, call: Call) -> None:
        """Note that a member has called; with the last one the collective is ready."""
        now = self._clock.now
        collective = joined(self.calls, call, now)
        if collective.complete(self._callers, now):
            self._grant()

    def _grant(self) -> None:
        """Put on the wire what is ready and whose turn it is."""
        while self._running < self._concurrent:
            number = self._granted
            collective = self.calls.get(number)
            if collective is None or len(collective.calls) < self._callers:
                return
            self._granted += 1
            self._running += 1
            ended = partial(self._finish, number, collective)
            alone_s = self._transport.carry(collective.kind, self.name, number, ended)
            for call in collective.calls:
                call.row.work_s = alone_s

    def _finish(self, number: int, collective: Collective) -> None:
        """Give the result to all members and the place on the wire to the next."""
        del self.calls[number]
        self._running -= 1
        collective.end(self._clock.now)
        if collective.numbers:
            exchange(collective, self.members, self.simulated, self._quantize_block)
        self._grant()
        for call in collective.calls:
            call.activity.end()


def numbers_of(rank: int, buffer: Any, dtype: str, quantize_block: int, weight: float) -> Numbers:
    """Round the numbers that a buffer holds, times a weight, as its dtype does."""
    values: Floats = buffer.values
    weighted = values if weight == 1 else values * weight
    sent = carried(weighted, dtype, quantize_block)
    if hasattr(buffer, "sent"):
        buffer.sent = sent
    return rank, sent, values


def exchange(
    collective: Collective, members: Members, simulated: Simulated, quantize_block: int
) -> None:
    """Let a collective act on buffers that hold numbers; rounded as its dtype rounds."""
    arrived = sorted(collective.numbers, key=lambda item: item[0])
    sent = [
        values
        for rank, values, _ in arrived
        for _ in range(len(simulated[rank]))  # workers simulated once count all
    ]
    count = len(sent)
    length = len(sent[0])

    def own_slice(rank: int) -> slice:
        place = members.place(rank)
        return slice(length * place // count, length * (place + 1) // count)

    if collective.operation in ("all_reduce", "reduce_scatter"):
        result = reduced(
            sent,
            collective.kind[1],
            quantize_block,
            mean=collective.mean,
            back=collective.operation == "all_reduce",
        )
    elif collective.operation == "all_gather":
        slices = map(own_slice, members.ranks)
        result = np.concatenate([values[own] for values, own in zip(sent, slices, strict=True)])
    elif family(collective.operation) == "broadcast":
        result = sent[root_of(collective.operation)]
    else:
        for rank, _, target in arrived:
            own = own_slice(rank)
            target[...] = np.concatenate([values[own] for values in sent])
        return
    for rank, _, target in arrived:
        if collective.operation == "reduce_scatter":
            # A worker receives its own slice and nothing else: what it must not read is poison.
            own = own_slice(rank)
            target[...] = np.nan
            target[own] = result[own]
        else:
            target[...] = result
