"""The rows of one recorded rank, as a trace has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import nan
from typing import Any

from realrun.recording.parts import Call, Part
from sim.members import broadcast_from, control_group, group_of, members_of, sent_by
from sim.program import DTYPE_BITS
from sim.recording.vocabulary import COMPUTATION, ROUND_TRIPS, written_as
from sim.trace.table import CONTROL, ROUND, WAIT, Row

_NS = 1e-9
_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
_WIDEST = 8  # bytes of an element, as buffers count them


def start_of(part: Part, edge: int) -> int:
    """Return when the step begins whose first event that is: as the event before it ends."""
    return part.events[edge - 1].end if edge else part.events[0].begin


def rows_of(part: Part, edges: Sequence[int], start: int) -> list[Row]:
    """Return the rows of one rank, in the order of its program."""
    workers, rank = part.workers, part.rank
    calls = {call.number: call for call in part.calls}
    sent: dict[int, Row] = {}
    counts: Counter[str] = Counter()
    rows: list[Row] = []

    def at(moment: int) -> float:
        return max(0, moment - start) * _NS

    now = start_of(part, edges[0])
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


def note_ready(rows: Sequence[Row]) -> None:
    """Note when the last member had issued each collective; clocks are one machine's."""
    last: dict[tuple[str, int], float] = {}
    for row in rows:
        if row.bytes > 0 or row.operation == CONTROL:
            key = (row.group, row.call)
            last[key] = max(last.get(key, 0.0), row.begin_s)
    for row in rows:
        if row.bytes > 0 or row.operation in (CONTROL, WAIT):
            row.ready_s = last.get((row.group, row.call), nan)
