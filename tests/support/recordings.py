"""Small recordings for tests: rows as a recorded program leaves them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sim.members import group_of, members_of
from sim.recording.files import save
from sim.recording.vocabulary import COMPUTATION
from sim.trace.table import ROUND, WAIT, Context, Row, Trace

Did = tuple[Any, ...]
"""("computes", seconds), ("sends", operation, bytes[, ranks]) or ("waits", steps back, which)."""


def recorded(ranks: Sequence[Sequence[Sequence[Did]]], dtype: str = "fp32") -> Trace:
    """A recording of what each rank did in each step; collectives take no time in it."""
    rows: list[Row] = []
    workers = len(ranks)
    for rank, steps in enumerate(ranks):
        now, counts = 0.0, dict[str, int]()
        sent: list[list[Row]] = []
        for number, step in enumerate(steps):
            rows.append(Row(rank, "main", ROUND, str(number), "", -1, 0.0, 1, now, now))
            sent.append([])
            for what, *rest in step:
                if what == "computes":
                    end = now + rest[0]
                    rows.append(
                        Row(rank, "main", COMPUTATION, "", "", -1, 0.0, 1, now, end, now, rest[0])
                    )
                    now = end
                elif what == "sends":
                    operation, size, *over = rest
                    members = members_of(over[0] if over else None, workers)
                    group = group_of("main", operation, members)
                    call = counts[group] = counts.get(group, -1) + 1
                    detail = f"buffer {dtype}"
                    row = Row(rank, "main", operation, detail, group, call, size, 1, now, now)
                    rows.append(row)
                    sent[-1].append(row)
                else:
                    back, which = rest
                    of = sent[number - back][which] if back <= number else None
                    if of is not None:
                        rows.append(
                            Row(rank, "main", WAIT, "", of.group, of.call, 0.0, 1, now, now)
                        )
        rows.append(Row(rank, "main", ROUND, str(len(steps)), "", -1, 0.0, 0, now, now))
    everyone = range(workers)
    context = Context(
        sites=tuple(f"rank-{rank}" for rank in everyone),
        site_of=tuple(everyone),
        layers=1,
        n_grad_accumulation=(1,) * workers,
        step_s=(1.0,) * workers,
        micro_batch_tokens=(1.0,) * workers,
        concurrent=1,
        first_collective_s=0.0,
        standing_for={rank: (rank,) for rank in everyone},
        method="recording",
        measured=True,
        causes={COMPUTATION: "compute"},
    )
    return Trace(rows, context, max(row.end_s for row in rows))


def written(path: Path, ranks: Sequence[Sequence[Sequence[Did]]], dtype: str = "fp32") -> Path:
    """Write such a recording."""
    save(recorded(ranks, dtype), {"workers": len(ranks)}, path)
    return path


def blocking_steps() -> Trace:
    """A recording of two ranks that compute, and wait for an all-reduce."""
    step: list[Did] = [("computes", 0.1), ("sends", "all_reduce", 1e6), ("waits", 0, 0)]
    return recorded([[step] * 3] * 2)
