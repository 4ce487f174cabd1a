"""Results of studies and sweeps, read back to be drawn; people may have edited them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.figures.causes import CAUSES
from sim.operations import RENAMED_CAUSES
from sim.storage.table_files import NoNoteError, arrow_table, read_parquet
from sim.text.visible import unguarded_columns

if TYPE_CHECKING:
    import pandas as pd

BANDWIDTH = "network.bandwidth_bytes_per_s"
_UTILIZATION = "compute_utilization_fraction"
_BOUNDS = "figures_are_bounds"
_MOST_VALUES = 5_000_000  # rows x columns: 100,000 runs
_MOST_BYTES = 256 * 2**20  # of a CSV file
_ROUNDING = 1e-6


def load(path: Path) -> pd.DataFrame:
    """Return results.csv or results.parquet, checked for what pictures rely on.

    Raises
    ------
    ValueError
        With the file and, where a value is wrong, its row (the first is 1), column and text.
    DamagedError
        If a program wrote the file and it is not as it was written.
    """
    try:
        frame = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise ValueError(f"{path}: {_NOT_RESULTS}") from error
    if _UTILIZATION not in frame or "schema" not in frame:
        trace = "operation" in frame or str(frame.columns[0]).startswith("# bandwise trace")
        hint = "; it looks like a trace, so draw --kind timeline" if trace else ""
        raise ValueError(f"{path}: not the results of study or sweep{hint}")
    if frame.empty:
        raise ValueError(f"{path}: has no runs")
    for name in (BANDWIDTH, _UTILIZATION, *(f"{cause}_fraction" for cause in CAUSES)):
        if name in frame:
            frame[name] = _numbers(frame[name], path)
    if _BOUNDS in frame and frame[_BOUNDS].dtype != bool:
        wrong = ~frame[_BOUNDS].astype(str).isin(["True", "False"])
        _refuse(frame[_BOUNDS], wrong, "must be True or False", path)
    return frame


def check_breakdown(frame: pd.DataFrame, path: Path) -> None:
    """Refuse results that do not say where all of the time went.

    Raises
    ------
    ValueError
        With the file, and the first row whose causes do not add up to one.
    """
    for was, now in RENAMED_CAUSES.items():
        if f"{was}_fraction" in frame:
            raise ValueError(
                f"{path}: column {was}_fraction: it is called {now}_fraction now; rename it, or "
                "run the study again"
            )
    causes = [f"{cause}_fraction" for cause in CAUSES if f"{cause}_fraction" in frame]
    if f"{CAUSES[0]}_fraction" not in causes:
        raise ValueError(
            f"{path}: has no column {CAUSES[0]}_fraction; a breakdown needs one CAUSE_fraction "
            f"per cause of {', '.join(CAUSES)}"
        )
    total = frame[causes].sum(axis=1)
    wrong = (total - 1).abs() > 0.01
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise ValueError(
            f"{path}: row {row + 1}: its causes add up to {total.iloc[row]:.4g}, not to 1; "
            "a CAUSE_fraction is wrong or missing"
        )


_NOT_RESULTS = "cannot be read; give results.csv or results.parquet of study or sweep"


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow.parquet as pq

    with _naming(path):
        about = pq.ParquetFile(path).metadata
    if about.num_rows * about.num_columns > _MOST_VALUES:
        raise ValueError(
            f"{path}: {about.num_rows} rows of {about.num_columns} columns are more than the "
            f"{_MOST_VALUES} values that can be drawn"
        )
    try:
        return read_parquet(path)[0]
    except NoNoteError:
        with _naming(path):
            frame: pd.DataFrame = arrow_table(path).to_pandas()
            return frame


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Have every error name the file; those of pyarrow are of many classes and name none."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{path}: {_NOT_RESULTS}") from error


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise ValueError(f"{path}: {size} bytes are more than the {_MOST_BYTES} that can be drawn")
    with path.open("rb") as file:
        file.seek(max(size - 1, 0))
        if file.read() not in (b"\n", b""):
            raise ValueError(
                f"{path}: its last line has no end: the file was cut off, or needs a line end there"
            )
    _check_whole_rows(path)
    try:  # "nan" and "None" are texts; only what is empty is missing
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], index_col=False)
        return unguarded_columns(frame)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = str(error).rpartition("error: ")[2].strip()
        raise ValueError(f"{path}: {_NOT_RESULTS} ({reason})") from error


def _check_whole_rows(path: Path) -> None:
    """Refuse a row of more or fewer values than there are columns: which is whose is unknown."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        try:
            columns = len(next(rows, ()))
            wrong = next((row for row in rows if len(row) not in (0, columns)), None)
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: {_NOT_RESULTS} ({error})") from error
        if wrong is not None:
            raise ValueError(
                f"{path}: line {rows.line_num} has {len(wrong)} values for {columns} columns"
            )


def _numbers(column: pd.Series[Any], path: Path) -> pd.Series[float]:
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    if column.name == BANDWIDTH:
        wrong = ~((numbers > 0) & (numbers < inf))
        _refuse(column, wrong, "must be bytes/s, more than 0", path)
    else:
        wrong = ~numbers.between(0, 1 + _ROUNDING)
        _refuse(column, wrong, "must be a fraction, from 0 to 1", path)
    return numbers


def _refuse(column: pd.Series[Any], wrong: pd.Series[bool], rule: str, path: Path) -> None:
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        value = column.iloc[row]
        shown = "is empty; it" if column.isna().iloc[row] else f'is "{value}"; it'
        raise ValueError(f"{path}: row {row + 1}, column {column.name} {shown} {rule}")
