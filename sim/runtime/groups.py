"""Collectives of one group: matched by call number, carried out in that order."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING

import numpy as np

from sim.rounding import Floats, reduced
from sim.runtime.errors import CollectiveMismatch

if TYPE_CHECKING:
    from sim.runtime.activity import Activity
    from sim.runtime.run import Runtime
    from sim.trace import Row


Numbers = tuple[int, Floats, Floats]
"""Rank, what it sent as its dtype rounds it, and where the result goes."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """What one rank has called; ``numbers`` where its buffer holds any."""

    row: Row
    activity: Activity
    dtype: str
    mean: bool
    numbers: Numbers | None


class Collective:
    """One call number of one group: who has arrived, and with what."""

    __slots__ = (
        "activities",
        "arrived",
        "bytes",
        "dtype",
        "last_call_s",
        "mean",
        "numbers",
        "operation",
        "rows",
    )

    def __init__(self, first: Call) -> None:
        self.operation = first.row.operation
        self.dtype = first.dtype
        self.bytes = first.row.bytes
        self.mean = first.mean
        self.last_call_s = 0.0  # so far
        self.arrived: list[int] = []
        self.rows: list[Row] = []
        self.activities: list[Activity] = []
        self.numbers: list[Numbers] = []

    @property
    def kind(self) -> tuple[str, str, float]:
        """Operation, dtype and bytes: what its time depends on."""
        return self.operation, self.dtype, self.bytes

    def complete(self, runtime: Runtime) -> bool:
        """Whether all members have called; if the last one just did, note when."""
        if len(self.arrived) < len(runtime.simulated):
            return False
        now = runtime.clock.now
        for row in self.rows:
            row.ready_s = now
        for activity in self.activities:
            activity.ready_s = now
        return True


def joined(calls: dict[int, Collective], call: Call, now: float) -> Collective:
    """Let a rank join the collective of its call number, which is made by the first."""
    row = call.row
    collective = calls.get(row.call)
    if collective is None:
        collective = calls[row.call] = Collective(call)
    elif (row.operation, call.dtype, row.bytes) != collective.kind:
        raise CollectiveMismatch(
            f"call {row.call} of group {row.group}: rank {row.rank} calls {row.operation} of "
            f"{row.bytes:.0f} bytes ({call.dtype}), but rank {collective.arrived[0]} called "
            f"{collective.operation} of {collective.bytes:.0f} bytes ({collective.dtype}); "
            "every worker must issue the same collectives in the same order"
        )
    collective.last_call_s = now
    collective.arrived.append(row.rank)
    collective.rows.append(row)
    collective.activities.append(call.activity)
    if call.numbers is not None:
        collective.numbers.append(call.numbers)
    return collective


def passed_on(collective: Collective, call: Call) -> None:
    """Give one rank what rank 0 broadcasts, which it may have before all others have called."""
    row, activity = call.row, call.activity
    if call.numbers is not None:
        sent = {member: values for member, values, _ in collective.numbers}
        call.numbers[2][...] = sent[0]
    if isnan(row.ready_s):  # who calls later does not concern it
        row.ready_s = activity.ready_s = collective.last_call_s
        collective.rows.remove(row)
        collective.activities.remove(activity)


class Group:
    """The collectives of one group, carried out in the order of their call numbers."""

    def __init__(self, runtime: Runtime, name: str) -> None:
        self.runtime = runtime
        self.name = name
        self.calls: dict[int, Collective] = {}
        self.granted = 0  # call numbers below this are or were on the wire
        self.running = 0

    def arrive(self, call: Call) -> None:
        """Note that a member has called; with the last one the collective is ready."""
        collective = joined(self.calls, call, self.runtime.clock.now)
        if collective.complete(self.runtime):
            self.grant()

    def grant(self) -> None:
        """Put on the wire what is ready and whose turn it is."""
        runtime = self.runtime
        while self.running < runtime.concurrent:
            collective = self.calls.get(self.granted)
            if collective is None or len(collective.arrived) < len(runtime.simulated):
                return
            call = self.granted
            self.granted += 1
            self.running += 1
            runtime.start(self, call, collective)

    def finish(self, call: int) -> None:
        """Give the result to all members and the place on the wire to the next."""
        collective = self.calls.pop(call)
        self.running -= 1
        now = self.runtime.clock.now
        for row in collective.rows:
            row.end_s = now
        if collective.numbers:
            exchange(collective, self.runtime.standing_for, self.runtime.quantize_block)
        self.grant()
        for activity in collective.activities:
            activity.end()


def exchange(
    collective: Collective, standing_for: dict[int, tuple[int, ...]], quantize_block: int
) -> None:
    """Let a collective act on buffers that hold numbers; rounded as its dtype rounds."""
    arrived = sorted(collective.numbers, key=lambda item: item[0])
    sent = [
        values
        for rank, values, _ in arrived
        for _ in range(len(standing_for[rank]))  # workers simulated once count all
    ]
    count = len(sent)
    length = len(sent[0])
    if collective.operation in ("all_reduce", "reduce_scatter"):
        result = reduced(
            sent,
            collective.dtype,
            quantize_block,
            mean=collective.mean,
            back=collective.operation == "all_reduce",
        )
    elif collective.operation == "all_gather":
        slices = [slice(length * i // count, length * (i + 1) // count) for i in range(count)]
        result = np.concatenate([values[own] for values, own in zip(sent, slices, strict=True)])
    elif collective.operation == "broadcast":
        result = sent[0]
    else:
        for rank, _, target in arrived:
            own = slice(length * rank // count, length * (rank + 1) // count)
            target[...] = np.concatenate([values[own] for values in sent])
        return
    for rank, _, target in arrived:
        if collective.operation == "reduce_scatter":
            # A worker receives its own slice and nothing else: what it must not read is poison.
            own = slice(length * rank // count, length * (rank + 1) // count)
            target[...] = np.nan
            target[own] = result[own]
        else:
            target[...] = result
