"""The files of all processes, made one recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import nan
from pathlib import Path
from typing import Any

from realrun.errors import RunError
from realrun.recording.edges import Channel, edges_of
from realrun.recording.load import load_of
from realrun.recording.parts import SUFFIX, Call, Event, Part, PartError, read_part
from sim.members import broadcast_from, control_group, group_of, members_of, sent_by
from sim.program import DTYPE_BITS
from sim.recording.vocabulary import COMPUTATION, ROUND_TRIPS, written_as
from sim.trace.table import CONTROL, ROUND, WAIT, Context, Row, Trace

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
    _check_ranks(parts, workers)
    for part in parts:
        if part.device:
            raise RunError(
                f"rank {part.rank}: a collective carried tensors on {part.device}; only the CPU's "
                "are recorded, because a GPU computes while its program is ahead: run it on gloo"
            )
    _check_directed(parts)
    if not killed and all(part.ended for part in parts):  # os._exit loses what came last
        _check_even(parts)
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


def _check_ranks(parts: Sequence[Part], workers: int) -> None:
    for part in parts:
        if part.workers != workers:
            raise RunError(
                f"two programs were recorded: rank {parts[0].rank} is one of {workers} processes, "
                f"rank {part.rank} one of {part.workers}; record one at a time"
            )
    missing = sorted(set(range(workers)) - {part.rank for part in parts})
    if missing:
        raise RunError(
            f"of {workers} processes rank {missing[0]} called no collective, or has written "
            "elsewhere; join the folders of all machines"
        )


def _check_directed(parts: Sequence[Part]) -> None:
    """Refuse a recv of which nobody knows who sent."""
    for part in parts:
        if any(call.directed and not call.ranks for call in part.calls):
            raise RunError(
                f"rank {part.rank} receives from any rank and has not waited for it, so who sent "
                "is not known; give recv its source"
            )


def _check_even(parts: Sequence[Part]) -> None:
    """Refuse ranks of which one issued fewer collectives of a group than another.

    Nor may one have received what nobody sent, or the other way round.
    """
    counts: dict[Channel, dict[int, int]] = {}
    for part in parts:
        issued = Counter(call.channel for call in part.calls if len(call.ranks) > 1)
        for channel, count in issued.items():
            counts.setdefault(channel, dict.fromkeys(channel[0], 0))[part.rank] = count
    for (ranks, directed), by_rank in counts.items():
        most, fewest = max(by_rank, key=by_rank.__getitem__), min(by_rank, key=by_rank.__getitem__)
        if by_rank[most] == by_rank[fewest]:
            continue
        if directed:
            sender, receiver = ranks
            raise RunError(
                f"rank {sender} sent {by_rank[sender]} times to rank {receiver}, which received "
                f"{by_rank[receiver]}; each recv must meet a send"
            )
        group = "all ranks" if len(ranks) == parts[0].workers else f"ranks {list(ranks)}"
        raise RunError(
            f"rank {fewest} issued {by_rank[fewest]} collectives over {group}, rank {most} "
            f"{by_rank[most]}; every member must issue the same ones"
        )


def _joined(
    parts: Sequence[Part],
    ranges: Sequence[Sequence[int]],
    *,
    marked: bool,
    dropped: int,
    killed: str,
) -> Joined:
    one_clock = len({part.about["clock"] for part in parts}) == 1 and parts[0].about["clock"] != ""
    starts = [_start(part, edges[0]) for part, edges in zip(parts, ranges, strict=True)]
    rows: list[Row] = []
    for part, edges, start in zip(parts, ranges, starts, strict=True):
        rows += _rows(part, edges, min(starts) if one_clock else start)
    if one_clock:
        _note_ready(rows)
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


def _start(part: Part, edge: int) -> int:
    """Return when the step begins whose first event that is: as the event before it ends."""
    return part.events[edge - 1].end if edge else part.events[0].begin


def _rows(part: Part, edges: Sequence[int], start: int) -> list[Row]:
    """Return the rows of one rank, in the order of its program."""
    workers, rank = part.workers, part.rank
    calls = {call.number: call for call in part.calls}
    sent: dict[int, Row] = {}
    counts: Counter[str] = Counter()
    rows: list[Row] = []

    def at(moment: int) -> float:
        return max(0, moment - start) * _NS

    now = _start(part, edges[0])
    for number, (first, last) in enumerate(pairwise(edges)):
        begun = len(rows)
        rows.append(Row(rank, "main", ROUND, str(number), "", -1, 0.0, 1, at(now), at(now)))
        for event in part.events[first:last]:
            if event.begin > now:
                rows.append(_computed(rank, at(now), at(event.begin)))
                now = event.begin
            call = calls[event.call]
            if not event.waits:
                row = sent[call.number] = _sent(rank, call, workers, counts, at)
                rows.append(row)
            elif call.number in sent:
                waited = sent[call.number]
                rows.append(_waited(rank, waited, at(event.begin), at(event.end)))
                if call.completed is None:
                    waited.end_s = at(event.end)
            # An issue that takes long is the host's work, as the computation around it is.
            if event.end > now:
                if not event.waits:
                    rows.append(_computed(rank, at(now), at(event.end)))
                now = event.end
        # A step counts as an update, where the program computes in it last.
        for row in reversed(rows[begun:]):
            if row.operation == COMPUTATION:
                row.commits = True
                break
    rows.append(Row(rank, "main", ROUND, str(len(edges) - 1), "", -1, 0.0, 0, at(now), at(now)))
    return rows


def _computed(rank: int, begin: float, end: float) -> Row:
    detail, times = "", 1
    return Row(
        rank, "main", COMPUTATION, detail, "", -1, 0.0, times, begin, end, begin, end - begin
    )


def _sent(rank: int, call: Call, workers: int, counts: Counter[str], at: Any) -> Row:
    ranks = call.ranks
    if call.operation == CONTROL:
        group = control_group("main", members_of(ranks, workers))
        number = counts[group]
        counts[group] += 1
        begin = at(call.begin)
        return Row(rank, "main", CONTROL, "", group, number, 0.0, ROUND_TRIPS, begin, nan)
    members = members_of(ranks, workers)
    operation, name = written_as(call.operation)
    if call.directed:
        operation = sent_by(ranks[0], members)
    elif call.root is not None:
        operation = broadcast_from(call.root, members)
    group = group_of("main", operation, members)
    number = counts[group]
    counts[group] += 1
    size = float(max(call.bytes, 1))
    end = nan if call.completed is None else at(call.completed)
    begin = at(call.begin)
    detail = f"{name} {_dtype(call)}"
    return Row(rank, "main", operation, detail, group, number, size, 1, begin, end)


def _dtype(call: Call) -> str:
    known = _DTYPES.get(call.dtype)
    if known in DTYPE_BITS:
        return str(known)
    import torch

    kind = getattr(torch, call.dtype, None) if call.dtype else None
    return f"{min(_WIDEST, kind.itemsize) if kind is not None else 1}B"


def _waited(rank: int, sent: Row, begin: float, end: float) -> Row:
    return Row(rank, "main", WAIT, "", sent.group, sent.call, 0.0, 1, begin, end)


def _note_ready(rows: Sequence[Row]) -> None:
    """Note when the last member had issued each collective; clocks are one machine's."""
    last: dict[tuple[str, int], float] = {}
    for row in rows:
        if row.bytes > 0 or row.operation == CONTROL:
            key = (row.group, row.call)
            last[key] = max(last.get(key, 0.0), row.begin_s)
    for row in rows:
        if row.bytes > 0 or row.operation in (CONTROL, WAIT):
            row.ready_s = last.get((row.group, row.call), nan)


__all__ = ["Event", "Joined", "join"]
