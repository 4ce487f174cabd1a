"""Traces as files: Parquet and CSV to read back, Chrome trace events to look at."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.members import Members, named
from sim.operations import COMPUTED, RENAMED_CAUSES
from sim.storage.files import DamagedError, free_bytes
from sim.storage.table_files import NoNoteError, read_csv, read_parquet, write_csv, write_parquet
from sim.trace.perfetto import write
from sim.trace.table import COLUMNS, Context, Row, Trace, Window

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 3  # 1 had no column that says what commits an update; 1 and 2 had no digests
_HEADING = "# bandwise trace: "
_TEXTS = ("program", "operation", "detail", "group")
_COUNTS = ("rank", "call", "times")
_TYPES: dict[str, type] = {
    **dict.fromkeys(COLUMNS, float),
    **dict.fromkeys(_TEXTS, str),
    **dict.fromkeys(_COUNTS, int),
    "commits": bool,
}
_BYTES_PER_ROW = {".parquet": 10, ".csv": 60, ".json": 150, ".gz": 10}  # at least


def save(trace: Trace, path: Path, more: Mapping[str, Any] | None = None) -> None:
    """Write a trace: .parquet, .csv, or .json / .json.gz for a timeline viewer (Perfetto).

    Parameters
    ----------
    more
        What else its note is to hold, by key; not for .json.

    Raises
    ------
    ValueError
        For any other suffix.
    OSError
        If it cannot be written, or has no room.
    """
    if not path.name.endswith((".json", ".json.gz", ".parquet", ".csv")):
        raise ValueError(f"{path}: write a trace as .parquet, .csv, .json or .json.gz")
    _check_room(trace, path)
    if path.suffix in (".json", ".gz"):
        write(trace, path)
        return
    context = asdict(trace.context)
    if (window := context["window"]) is not None and window["shortened"] == 1:
        del window["shortened"]  # as files were before links could vary
    note = {"schema": SCHEMA, "total_s": trace.total_s, "context": context, **(more or {})}
    frame = trace.frame().astype(_TYPES)
    if path.suffix == ".parquet":
        write_parquet(frame, note, path)
    else:
        write_csv(frame, note, path, _HEADING)


def _check_room(trace: Trace, path: Path) -> None:
    standing_for = trace.context.standing_for
    rows = sum(len(standing_for.get(row.rank, (row.rank,))) for row in trace.rows)
    needed, free = rows * _BYTES_PER_ROW[path.suffix], free_bytes(path)
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"{rows} rows need at least {needed / 1e6:.3g} MB, and {free / 1e6:.3g} MB are free",
            str(path),
        )


def load(path: Path) -> Trace:
    """Read a trace back from .parquet or .csv.

    Raises
    ------
    DamagedError
        If it is not as it was written, or holds what no trace can: with file, column and row.
    ValueError
        If the file is not a trace.
    """
    try:
        if path.suffix == ".parquet":
            frame, note = read_parquet(path)
        else:
            frame, note = read_csv(path, _HEADING, _TYPES)
        schema = note["schema"]
        if schema == SCHEMA and "columns" not in note:
            raise DamagedError(f"{path}: damaged: its digests are missing")
        if schema == 1:
            frame["commits"] = False
        total_s = float(note["total_s"])
        context = _context(note["context"])
        columns = [frame[name].tolist() for name in COLUMNS]
    except (OSError, DamagedError):
        raise
    except Exception as problem:
        why = f" ({str(problem).partition(': ')[2]})" if isinstance(problem, NoNoteError) else ""
        raise ValueError(
            f"{path}: not a trace{why}; give a .parquet or .csv file written by --trace"
        ) from problem
    if schema not in (1, 2, SCHEMA):
        raise ValueError(f"{path}: a trace of schema {schema}, which a later bandwise wrote")
    _check_context(context, total_s, path)
    _check_values(frame, context.site_of, path)
    return Trace([Row(*values) for values in zip(*columns, strict=True)], context, total_s)


def _context(found: dict[str, Any]) -> Context:
    context: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in found.items()
    }
    context["sent_share"] = {key: tuple(v) for key, v in context["sent_share"].items()}
    if context.get("window") is not None:
        context["window"] = Window(**context["window"])
    if causes := context.get("causes"):
        context["causes"] = {name: RENAMED_CAUSES.get(was, was) for name, was in causes.items()}
    # The file holds every rank's own rows.
    context["standing_for"] = {rank: (rank,) for rank in range(len(context["site_of"]))}
    return Context(**context)


def _check_context(context: Context, total_s: float, path: Path) -> None:
    workers, sites = len(context.site_of), len(context.sites)
    for rank, site in enumerate(context.site_of):
        if not 0 <= site < sites:
            raise DamagedError(f"{path}: site_of puts rank {rank} at site {site} of {sites}")
    by_rank = {
        "n_grad_accumulation": context.n_grad_accumulation,
        "step_s": context.step_s,
        "micro_batch_tokens": context.micro_batch_tokens,
    }
    # Of an earlier version, which had none, or of a run of which nobody knows them.
    for name in ("accelerators", "peak_flops"):
        if values := getattr(context, name):
            by_rank[name] = values
    for name, values in by_rank.items():
        if len(values) != workers:
            raise DamagedError(f"{path}: {name} has {len(values)} values for {workers} workers")
    for operation, cause in context.causes.items():
        if cause not in COMPUTED:
            raise DamagedError(f"{path}: {operation} has the cause {cause}, which is none")
    for key, share in context.sent_share.items():
        members = len(_members(key, workers, f"{path}: sent_share of {key}"))
        if len(share) != members:
            raise DamagedError(
                f"{path}: sent_share of {key} has {len(share)} values for {members} workers"
            )
    if not 0 <= total_s < inf:
        raise DamagedError(f"{path}: total_s is {total_s}; it must be finite and not negative")


def _members(group: str, workers: int, where: str) -> Members:
    try:
        return named(group, workers)
    except (ValueError, OverflowError):
        raise DamagedError(f"{where}: these are no ranks of {workers} workers") from None


def _check_values(frame: pd.DataFrame, site_of: tuple[int, ...], path: Path) -> None:
    """Refuse the first value that no trace can hold; a time is nan where nothing happened."""
    not_negative = "must be finite and not negative"
    rules = {
        "rank": (~frame["rank"].between(0, len(site_of) - 1), f"must be 0 to {len(site_of) - 1}"),
        "operation": (frame["operation"] == "", "must not be empty"),
        "begin_s": (~frame["begin_s"].between(0, inf, inclusive="left"), not_negative),
        **{
            name: ((frame[name] < 0) | (frame[name] == inf), not_negative)
            for name in ("bytes", "times", "end_s", "ready_s", "work_s")
        },
    }
    for group in frame["group"].unique():
        _members(group, len(site_of), f'{path}: column group has "{group}"')
    for name, (wrong, rule) in rules.items():
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            value = frame[name].iloc[row]
            raise DamagedError(f'{path}: row {row + 1}, column {name} is "{value}"; it {rule}')
