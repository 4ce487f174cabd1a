"""Traces as files: Parquet and CSV to read back, Chrome trace events to look at."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from sim.perfetto import write
from sim.trace import COLUMNS, Context, Row, Trace, Window

SCHEMA = 2  # 1 had no column that says what commits an update


def save(trace: Trace, path: Path) -> None:
    """Write a trace: .parquet, .csv, or .json / .json.gz for a timeline viewer (Perfetto).

    Raises
    ------
    ValueError
        For any other suffix.
    """
    name = path.name
    if name.endswith((".json", ".json.gz")):
        write(trace, path)
        return
    note = {"schema": SCHEMA, "total_s": trace.total_s, "context": asdict(trace.context)}
    frame = trace.frame()
    if name.endswith(".parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pandas(frame, preserve_index=False)
        metadata = {**(table.schema.metadata or {}), b"bandwise": json.dumps(note).encode()}
        pq.write_table(table.replace_schema_metadata(metadata), path)
    elif name.endswith(".csv"):
        with path.open("w", newline="") as file:
            file.write("# bandwise trace: " + json.dumps(note) + "\n")
            frame.to_csv(file, index=False)
    else:
        raise ValueError(f"{path}: write a trace as .parquet, .csv, .json or .json.gz")


def load(path: Path) -> Trace:
    """Read a trace back from .parquet or .csv.

    Raises
    ------
    ValueError
        If the file is not a trace.
    """
    import pandas as pd

    try:
        if path.name.endswith(".parquet"):
            import pyarrow.parquet as pq

            table = pq.read_table(path)
            note = json.loads((table.schema.metadata or {})[b"bandwise"])
            frame = table.to_pandas()
        else:
            with path.open() as file:
                note = json.loads(file.readline().removeprefix("# bandwise trace: "))
            texts = dict.fromkeys(("program", "operation", "detail", "group"), str)
            frame = pd.read_csv(path, skiprows=1, dtype=texts).fillna(dict.fromkeys(texts, ""))
        if note["schema"] == 1:
            frame["commits"] = False
        context = dict(note["context"])
        rows = [
            Row(*values) for values in zip(*(frame[name].tolist() for name in COLUMNS), strict=True)
        ]
        total_s = float(note["total_s"])
    except OSError:
        raise
    except Exception as problem:
        raise ValueError(
            f"{path}: not a trace; give a .parquet or .csv file written by --trace"
        ) from problem
    for name, value in context.items():
        if isinstance(value, list):
            context[name] = tuple(value)
    context["sent_share"] = {key: tuple(v) for key, v in context["sent_share"].items()}
    if context.get("window") is not None:
        context["window"] = Window(**context["window"])
    # The file holds every rank's own rows.
    context["standing_for"] = {rank: (rank,) for rank in range(len(context["site_of"]))}
    return Trace(rows, Context(**context), total_s)
