"""One time for all ranks, and the trace that rank 0 puts together from all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist

from realrun.runtime.shared import Shared
from sim.trace.table import WAIT, Context, Row, Trace

_ROUND_TRIPS = 20


@dataclass(frozen=True)
class Offset:
    """Seconds by which this rank's clock is ahead of rank 0's, and how far that may be off."""

    seconds: float
    uncertainty: float


def offset_to_first(shared: Shared, control: Any = None) -> Offset:
    """Compare clocks with rank 0 by round trips; all ranks call it together."""
    return offset_between(shared.rank, shared.workers, shared.now, control)


def offset_between(rank: int, workers: int, now: Callable[[], float], control: Any) -> Offset:
    """Return how far this rank's clock is ahead of rank 0's.

    The shortest of twenty round trips counts, and half of it is the uncertainty. Rank 0 takes
    the others one after the other. ``control`` is a gloo group; None is the default one.
    """
    best = Offset(0.0, 0.0)
    for other in range(1, workers):
        if rank == 0:
            for _ in range(_ROUND_TRIPS):
                question = torch.zeros(1, dtype=torch.float64)
                dist.recv(question, src=other, group=control)
                dist.send(torch.tensor([now()], dtype=torch.float64), dst=other, group=control)
        elif rank == other:
            trips = []
            for _ in range(_ROUND_TRIPS):
                begin = now()
                dist.send(torch.zeros(1, dtype=torch.float64), dst=0, group=control)
                answer = torch.zeros(1, dtype=torch.float64)
                dist.recv(answer, src=0, group=control)
                end = now()
                trips.append((end - begin, (begin + end) / 2 - float(answer)))
            shortest, ahead = min(trips)
            best = Offset(ahead, shortest / 2)
    return best


def gathered(
    shared: Shared, context: Context, before: Offset, after: Offset, control: Any = None
) -> tuple[Trace, float] | None:
    """Rows of all ranks on rank 0's clock, with each collective's last arrival; None elsewhere.

    A rank's clock is moved by its offset, interpolated between the start and the end of the
    run. The second result is the residual: the largest uncertainty or drift of any rank.
    """
    end = max((row.end_s for row in shared.rows if row.end_s == row.end_s), default=0.0)
    drift = after.seconds - before.seconds

    def moved(time: float) -> float:
        return time - before.seconds - (drift * time / end if end > 0 else 0.0)

    rows = [
        (
            *(getattr(row, name) for name in Row.__slots__[:8]),
            moved(row.begin_s),
            moved(row.end_s),
            *(getattr(row, name) for name in Row.__slots__[10:]),
        )
        for row in shared.rows
    ]
    residual = max(before.uncertainty, after.uncertainty) + abs(drift)
    parts: list[Any] | None = [None] * shared.workers if shared.rank == 0 else None
    dist.gather_object((rows, residual, shared.causes), parts, group=control)
    if parts is None:
        return None
    everything = [Row(*row) for part, _, _ in parts for row in part]
    _arrivals(everything)
    total = max((row.end_s for row in everything if row.end_s == row.end_s), default=0.0)
    causes = {name: cause for _, _, declared in parts for name, cause in declared.items()}
    return Trace(everything, replace(context, causes=causes), total), max(
        residual for _, residual, _ in parts
    )


def _arrivals(rows: Iterable[Row]) -> None:
    """Write into collectives and waits for them when the last member had called."""
    called: dict[tuple[str, int], float] = {}
    for row in rows:
        if row.call >= 0 and row.bytes > 0:
            key = (row.group, row.call)
            called[key] = max(called.get(key, row.begin_s), row.begin_s)
    for row in rows:
        if row.call >= 0 and (row.bytes > 0 or row.operation == WAIT):
            # A wait for a spawned program has no members to arrive.
            row.ready_s = called.get((row.group, row.call), row.end_s)
