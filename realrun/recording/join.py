"""The files of all processes, made one recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realrun.errors import RunError
from realrun.recording.edges import edges_of
from realrun.recording.load import load_of
from realrun.recording.matching import check_directed, check_even, check_ranks
from realrun.recording.parts import SUFFIX, Part, PartError, read_part
from realrun.recording.rows import note_ready, rows_of, start_of
from sim.recording.vocabulary import COMPUTATION
from sim.trace.table import Context, Row, Trace

_NS = 1e-9
_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
_WIDEST = 8  # bytes of an element, as buffers count them


@dataclass(frozen=True)
class Joined:
    """A recording: the rows of all ranks, and what is known of where they come from."""

    trace: Trace
    about: dict[str, Any]
    #: What the user should know, a line each.
    notes: tuple[str, ...] = ()


def join(folder: Path, *, killed: str = "", most: int | None = None) -> Joined:
    """Make one recording of the files in a folder.

    Parameters
    ----------
    folder
        Where the processes have written.
    killed
        Why the program did not end by itself; "" where it did. Then what was recorded until the
        first process ended is enough.
    most
        How many steps to keep.

    Raises
    ------
    RunError
        In one line, if there is nothing that can be replayed.
    """
    parts = _parts(folder)
    workers = parts[0].workers
    check_ranks(parts, workers)
    for part in parts:
        if part.device:
            raise RunError(
                f"rank {part.rank}: a collective carried tensors on {part.device}; only the CPU's "
                "are recorded, because a GPU computes while its program is ahead: run it on gloo"
            )
    check_directed(parts)
    if not killed and all(part.ended for part in parts):  # os._exit loses what came last
        check_even(parts)
    edges = edges_of(parts)
    steps = min(len(each) for each in edges) - 1
    dropped = 1 if steps > 2 else 0  # its caches and connections are cold
    last = steps if most is None else min(steps, most + dropped)
    if last - dropped < 1:
        raise RunError(
            "no step was recorded as a whole; let the program run for longer, or mark where a step "
            "begins with realrun.step()"
        )
    ranges = [each[dropped : last + 1] for each in edges]
    marked = bool(parts[0].marks)
    return _joined(parts, ranges, marked=marked, dropped=dropped, killed=killed)


def _parts(folder: Path) -> list[Part]:
    found: dict[int, Part] = {}
    for path in sorted(folder.rglob(f"*{SUFFIX}")):
        try:
            part = read_part(path)
        except (PartError, ValueError, KeyError, OSError) as error:
            text = str(error) if isinstance(error, PartError) else f"{path}: cannot be read"
            raise RunError(text) from error
        if not part.about or not part.calls:
            continue
        if part.rank in found:
            raise RunError(
                f"rank {part.rank} began twice (a program that was restarted, or two groups of "
                "all processes in turn); record a program that calls init_process_group once"
            )
        found[part.rank] = part
    if not found:
        raise RunError(
            "the program called no collective of torch.distributed; is it started with the "
            "processes that it expects (--nproc), and not by python -I or -E, which ignore "
            "PYTHONPATH?"
        )
    return [found[rank] for rank in sorted(found)]


def _joined(
    parts: Sequence[Part],
    ranges: Sequence[Sequence[int]],
    *,
    marked: bool,
    dropped: int,
    killed: str,
) -> Joined:
    one_clock = len({part.about["clock"] for part in parts}) == 1 and parts[0].about["clock"] != ""
    starts = [start_of(part, edges[0]) for part, edges in zip(parts, ranges, strict=True)]
    rows: list[Row] = []
    for part, edges, start in zip(parts, ranges, starts, strict=True):
        rows += rows_of(part, edges, min(starts) if one_clock else start)
    if one_clock:
        note_ready(rows)
    total = max(row.end_s for row in rows if row.end_s == row.end_s)
    workers, steps = parts[0].workers, len(ranges[0]) - 1
    context = Context(
        sites=tuple(f"rank-{rank}" for rank in range(workers)),
        site_of=tuple(range(workers)),
        layers=1,
        n_grad_accumulation=(1,) * workers,
        step_s=tuple(
            sum(row.work_s for row in rows if row.rank == rank and row.operation == COMPUTATION)
            / steps
            for rank in range(workers)
        ),
        micro_batch_tokens=(1.0,) * workers,
        concurrent=1,
        first_collective_s=0.0,
        standing_for={rank: (rank,) for rank in range(workers)},
        method="recording",
        measured=True,
        causes={COMPUTATION: "compute"},
    )
    first = parts[0].about
    spans = [
        (start, part.events[edges[-1] - 1].end)
        for part, edges, start in zip(parts, ranges, starts, strict=True)
    ]
    about = {
        "workers": workers,
        "steps": steps,
        "steps_by": "marks" if marked else "repetition",
        "steps_dropped": dropped,
        "groups": sorted({c.ranks for part in parts for c in part.calls if not c.directed}),
        "torch": first["torch"],
        "backend": first["backend"],
        "threads": first["threads"],
        "one_clock": one_clock,
        **load_of(parts, spans),
        "killed": killed,
    }
    return Joined(Trace(rows, context, total), about)
