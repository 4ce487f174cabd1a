"""Chrome trace events for a timeline viewer such as Perfetto."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from sim.members import named
from sim.storage.files import replacing
from sim.trace.table import CONTROL, LOOK, ROUND, SPAWN, WAIT, Trace, share_key

_MICROSECONDS = 1e6
_THREADS = ("compute", "sending", "waiting")


def events(trace: Trace) -> list[dict[str, Any]]:
    """Turn rows into events: process = site, threads = compute, sending, waiting of each worker.

    Predicted and measured runs use the same names, told apart by the process's prefix, so
    that one file can show both. Flow arrows lead from the start of a collective to the wait
    for it; a counter per site shows the rate at which its workers send, in Gbit/s.
    """
    context = trace.context
    prefix = "measured" if context.measured else "predicted"
    offset = 1000 if context.measured else 0
    found: list[dict[str, Any]] = []
    for site, name in enumerate(context.sites):
        found.append(
            {
                "ph": "M",
                "name": "process_name",
                "pid": offset + site,
                "args": {"name": f"{prefix}: {name}"},
            }
        )
    for rank, site in enumerate(context.site_of):
        for number, thread in enumerate(_THREADS):
            found.append(
                {
                    "ph": "M",
                    "name": "thread_name",
                    "pid": offset + site,
                    "tid": 3 * rank + number,
                    "args": {"name": f"worker {rank} {thread}"},
                }
            )
    on_wire = {(row.rank, row.group, row.call): start for row, start in trace.on_wire()}
    for row in trace.rows:
        for rank in context.standing_for.get(row.rank, (row.rank,)):
            pid = offset + context.site_of[rank]
            # A collective's slice begins when it can have gone on the wire: calls wait in line.
            begin = row.begin_s
            if row.bytes > 0:
                begin = on_wire.get((row.rank, row.group, row.call), begin)
            start, length = begin * _MICROSECONDS, (row.end_s - begin) * _MICROSECONDS
            event: dict[str, Any] = {
                "name": f"{row.operation} {row.detail}".strip(),
                "pid": pid,
                "ts": start,
            }
            flow = {
                "name": "collective",
                "cat": row.group,
                "pid": pid,
                "id": f"{offset}/{rank}/{row.group}/{row.call}",
            }
            if row.operation in (ROUND, LOOK, SPAWN):
                found.append({**event, "ph": "i", "s": "t", "tid": 3 * rank})
            elif row.operation == WAIT:
                tid = 3 * rank + 2
                name = f"wait {row.group} {row.call}"
                found.append({**event, "name": name, "ph": "X", "tid": tid, "dur": length})
                found.append({**flow, "ph": "f", "bp": "e", "tid": tid, "ts": start + length})
            elif row.bytes > 0 or row.operation == CONTROL:
                tid = 3 * rank + 1
                found.append(
                    {
                        **event,
                        "ph": "X",
                        "tid": tid,
                        "dur": length,
                        "args": {"bytes": row.bytes, "ready_s": row.ready_s},
                    }
                )
                found.append({**flow, "ph": "s", "tid": tid, "ts": start})
            elif length > 0:
                found.append(
                    {
                        **event,
                        "ph": "X",
                        "tid": 3 * rank,
                        "dur": length,
                        "args": {"times": row.times},
                    }
                )
    rates: dict[int, list[tuple[float, float]]] = {}
    for row, start in trace.on_wire():
        share = context.sent_share.get(share_key(row))
        if share and row.end_s > start:
            members = named(row.group, len(context.site_of))
            for rank in context.standing_for.get(row.rank, (row.rank,)):
                place = members.place(rank) if members.name else rank
                rate = row.bytes * share[place] * 8e-9 / (row.end_s - start)
                changes = rates.setdefault(offset + context.site_of[rank], [])
                changes += [(start, rate), (row.end_s, -rate)]
    for pid, changes in rates.items():
        rate = 0.0
        for at, change in sorted(changes):
            rate += change
            found.append(
                {
                    "ph": "C",
                    "name": "sending Gbit/s",
                    "pid": pid,
                    "ts": at * _MICROSECONDS,
                    "args": {"Gbit/s": round(max(rate, 0.0), 6)},
                }
            )
    return found


def write(trace: Trace, path: Path) -> None:
    """Write a trace's events to a .json or .json.gz file."""
    write_events(events(trace), path)


def write_events(found: list[dict[str, Any]], path: Path) -> None:
    """Write events, of one trace or several, to a .json or .json.gz file."""
    text = json.dumps({"traceEvents": found, "displayTimeUnit": "ms"})
    content = text.encode()
    with replacing(path) as partial:
        partial.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
