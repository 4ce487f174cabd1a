"""The trace of a large run in short: what the workers of each class did, and rows of some workers.

A class is a site where sites hold several workers. Where every worker is a site of its own, and
there are more than a hundred, it is a tenth of the workers, by the seconds of their inner step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sim.storage.table_files import write_csv, write_parquet
from sim.trace.packed import TEXTS, PackedRows
from sim.trace.table import Trace

if TYPE_CHECKING:
    import pandas as pd

_MOST_SITES = 100
_TENTHS = 10
_HEADING = "# bandwise trace by class: "


def class_of(trace: Trace) -> list[str]:
    """Return the class of each rank."""
    context = trace.context
    if len(context.sites) <= _MOST_SITES or len(context.sites) < trace.workers:
        return [context.sites[site] for site in context.site_of]
    place = np.argsort(np.argsort(context.step_s, kind="stable"), kind="stable")
    return [f"tenth {tenth + 1}" for tenth in (place * _TENTHS // trace.workers).tolist()]


def by_class(trace: Trace) -> pd.DataFrame:
    """Return what the workers of each class did, one row per kind and number."""
    import pandas as pd

    packed = trace.packed
    if packed is None:
        packed = PackedRows()
        for row in trace.rows:
            packed.append(row)
        packed.close()
    columns = packed.columns
    weights, names = np.zeros(trace.workers), np.empty(trace.workers, dtype=object)
    names[:] = class_of(trace)
    found, numbers = np.unique(names.astype(str), return_inverse=True)
    for rank, ranks in trace.context.standing_for.items():
        weights[rank] = len(ranks)  # a class has workers that are alike, or one of each
    keys: dict[str, NDArray[np.integer]] = {"class": numbers[columns["rank"]]}
    keys |= {name: columns[name] for name in TEXTS}
    frame = pd.DataFrame(keys)
    each = [columns["rank"], *(columns[name] for name in TEXTS)]
    frame["number"] = frame.groupby(each, sort=False).cumcount()
    frame["workers"] = weights[columns["rank"]].astype(int)
    for name in ("bytes", "begin_s", "end_s", "work_s"):
        frame[name] = columns[name]
    groups = frame.groupby(["class", *TEXTS, "number"], sort=True)
    table = groups.agg(
        workers=("workers", "sum"),
        bytes=("bytes", "mean"),
        begin_least_s=("begin_s", "min"),
        begin_s=("begin_s", "mean"),
        begin_most_s=("begin_s", "max"),
        end_least_s=("end_s", "min"),
        end_s=("end_s", "mean"),
        end_most_s=("end_s", "max"),
        work_s=("work_s", "mean"),
    ).reset_index()
    table["class"] = [str(found[number]) for number in table["class"]]
    for name in TEXTS:
        table[name] = [packed.texts[number] for number in table[name]]
    order = ["class", "begin_s", "end_s"]
    return table.sort_values(order, kind="stable", ignore_index=True)


def save_by_class(trace: Trace, path: Path) -> None:
    """Write :func:`by_class` as .parquet or .csv."""
    table, note = by_class(trace), {"workers": trace.workers, "total_s": trace.total_s}
    if path.suffix == ".parquet":
        write_parquet(table, note, path)
    else:
        write_csv(table, note, path, _HEADING)


def of_ranks(trace: Trace, ranks: Sequence[int]) -> Trace:
    """Return a trace that has the rows of some ranks, and is of the same run."""
    rows = []
    for rank in sorted(set(ranks)):
        for row in trace.rows_of(rank):
            row.rank = rank
            rows.append(row)
    standing_for: dict[int, tuple[int, ...]] = {rank: (rank,) for rank in sorted(set(ranks))}
    return Trace(rows, replace(trace.context, standing_for=standing_for), trace.total_s)
