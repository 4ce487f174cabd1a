"""Tables that only programs write: a note and a digest per column, checked when they are read.

The note is one line of JSON with a digest of its own (see :mod:`sim.storage.journal`): in the
metadata of a Parquet file, on the first line of a CSV file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.storage.files import DamagedError, replacing
from sim.storage.journal import SEAL, sealed, unsealed

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_COLUMNS = "columns"
_KEY = b"bandwise"


class NoNoteError(ValueError):
    """A file is no table of ours."""


def write_parquet(frame: pd.DataFrame, note: Mapping[str, Any], path: Path) -> None:
    """Write a table with its note."""
    _write(_parquet(frame, note), path)


def restore_parquet(frame: pd.DataFrame, note: Mapping[str, Any], path: Path) -> None:
    """Write what was read from a file again if a byte of it is another.

    The digests cover what we read. Other programs also read each column's least and greatest
    value, which the file holds as well.
    """
    whole = _parquet(frame, note)
    if path.read_bytes() != whole:
        _write(whole, path)


def _write(content: bytes, path: Path) -> None:
    with replacing(path) as partial:
        partial.write_bytes(content)


def _parquet(frame: pd.DataFrame, note: Mapping[str, Any]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    metadata = {**(table.schema.metadata or {}), _KEY: _with_digests(frame, note).encode()}
    content = BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), content)
    return content.getvalue()


def write_csv(frame: pd.DataFrame, note: Mapping[str, Any], path: Path, heading: str) -> None:
    """Write a table with its note, which follows ``heading`` on the first line."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        file.write(f"{heading}{_with_digests(frame, note)}\n")
        frame.to_csv(file, index=False)


def note_of_parquet(path: Path) -> dict[str, Any]:
    """Return the note of a Parquet file, of which nothing else is read.

    Raises
    ------
    NoNoteError
        If it is no Parquet file or has no note.
    DamagedError
        If the note is not as it was written.
    """
    import pyarrow.parquet as pq

    try:
        text = (pq.read_schema(path).metadata or {})[_KEY].decode()
    except OSError as error:
        if error.errno is not None:
            raise
        raise NoNoteError(f"{path}: no Parquet file, or a damaged one") from error
    except Exception as error:
        raise NoNoteError(f"{path}: no Parquet file of ours, or a damaged one") from error
    return _read_note(text, path)


def read_parquet(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a table and its note.

    Raises
    ------
    NoNoteError
        If it is no Parquet file or has no note.
    DamagedError
        With the file and the column that is not as it was written.
    """
    note = note_of_parquet(path)
    try:
        frame = arrow_table(path).to_pandas()
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise DamagedError(f"{path}: damaged: it cannot be read ({reason})") from error
    _check(frame, note, path)
    return frame, note


def arrow_table(path: Path) -> pa.Table:
    """Read a Parquet file as a whole, its texts too, which pyarrow would check only when used."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    table.validate(full=True)
    return table


def read_csv(path: Path, heading: str, types: Mapping[str, Any]) -> tuple[pd.DataFrame, Any]:
    """Return a table and its note.

    Parameters
    ----------
    types
        Of every column.

    Raises
    ------
    NoNoteError
        If the first line has no note.
    DamagedError
        With the file and the column that is not as it was written.
    """
    import pyarrow as pa
    from pyarrow import csv

    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            first = file.readline()
        if not first.startswith(heading):
            raise NoNoteError(f"{path}: its first line does not begin with {heading.strip()}")
        note = _read_note(first.removeprefix(heading).removesuffix("\n"), path)
        arrow = {float: pa.float64(), int: pa.int64(), bool: pa.bool_(), str: pa.string()}
        table = csv.read_csv(  # reads every float back as it was
            path,
            csv.ReadOptions(skip_rows=1, use_threads=False),  # errors then name the row
            convert_options=csv.ConvertOptions(
                column_types={name: arrow[kind] for name, kind in types.items()},
                null_values=[""],
            ),
        )
        frame = table.to_pandas()
    except (OSError, NoNoteError, DamagedError):
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise DamagedError(f"{path}: damaged: it cannot be read ({reason})") from error
    _check(frame, note, path)
    return frame, note


def _with_digests(frame: pd.DataFrame, note: Mapping[str, Any]) -> str:
    digests = {str(name): _digest(frame[name]) for name in frame.columns}
    return sealed({**note, "rows": len(frame), _COLUMNS: digests})


def _read_note(text: str, path: Path) -> dict[str, Any]:
    note = unsealed(text)
    if note is not None:
        return note
    try:
        earlier = json.loads(text)
    except (ValueError, RecursionError):
        earlier = None
    # Earlier versions wrote no digests.
    if isinstance(earlier, dict) and not {_COLUMNS, SEAL} & set(earlier):
        return earlier
    if f'"{SEAL}"' in text or f'"{_COLUMNS}"' in text:
        raise DamagedError(f"{path}: damaged: its note is not as it was written")
    raise NoNoteError(f"{path}: its note cannot be read")


def _check(frame: pd.DataFrame, note: Mapping[str, Any], path: Path) -> None:
    if _COLUMNS not in note:
        return
    digests = note[_COLUMNS]
    if list(frame.columns) != list(digests):
        raise DamagedError(f"{path}: damaged: its columns are not those that were written")
    if len(frame) != note["rows"]:
        raise DamagedError(
            f"{path}: damaged: it has {len(frame)} rows, {note['rows']} were written"
        )
    for name, digest in digests.items():
        if _digest(frame[name]) != digest:
            raise DamagedError(f"{path}: damaged: column {name} is not as it was written")


def _digest(column: pd.Series[Any]) -> str:
    """Digest the values, in whatever way a library holds them."""
    import numpy as np

    kind = column.dtype.kind
    if kind == "f":
        values = column.to_numpy("<f8", copy=True)
        values[np.isnan(values)] = np.nan  # of which there are many
        content = values.tobytes()
    elif kind in "iu":
        content = column.to_numpy("<i8").tobytes()
    elif kind == "b":
        content = column.to_numpy(bool).tobytes()
    else:
        kind = "O"
        gone = column.isna().tolist()
        texts = [None if none else value for none, value in zip(gone, column.tolist(), strict=True)]
        content = json.dumps(texts, default=str).encode()
    return hashlib.sha256(kind.encode() + content).hexdigest()
