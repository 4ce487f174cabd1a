"""Files of one record per line, appended as work is done, each with a digest of its own.

A process may be killed, or the disk be full, in the middle of a line: the last line counts only
if it is complete. Any other line that is not as it was written is damage, and is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sim.storage.files import DamagedError, replacing

SEAL = "line_sha256"  # the last key of a line: the digest of the others
_LOOKS_SEALED = re.compile(rf'"{SEAL}": ".{{64}}"\}}$'.encode())
_SEALED = re.compile(rf'(?s)(.*), "{SEAL}": "([0-9a-f]{{64}})"\}}')


def sealed(record: Mapping[str, Any]) -> str:
    """Return a record that is not empty as one line of JSON whose last key is a digest.

    Examples
    --------
    >>> line = sealed({"run": 3})
    >>> line[:30], unsealed(line)
    ('{"run": 3, "line_sha256": "a4e', {'run': 3})
    """
    text = json.dumps(record)
    return f'{text[:-1]}, "{SEAL}": "{_digest(text)}"}}'


def unsealed(line: str) -> dict[str, Any] | None:
    """Return the record of a line that :func:`sealed` has written; None if it is damaged."""
    match = _SEALED.fullmatch(line)
    if match is None or _digest(f"{match[1]}}}") != match[2]:
        return None
    record: dict[str, Any] = json.loads(f"{match[1]}}}")
    return record


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add a record; an incomplete last line gives way to it.

    Raises
    ------
    OSError
        With the file's name, if it cannot be written.
    """
    try:
        with path.open("a+b") as file:
            file.truncate(_complete(path))
            file.write(sealed(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def read(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file, in their order; none if there is no file.

    A file in which no line has a digest was written by an earlier version, and is read as it is.

    Raises
    ------
    DamagedError
        Naming the file and the first line that is not as it was written.
    """
    if not path.exists():
        return []
    lines = path.read_bytes()[: _complete(path)].split(b"\n")[:-1]
    earlier = not any(map(_LOOKS_SEALED.search, lines))
    records = []
    for number, raw in enumerate(lines, 1):
        record = _earlier(raw) if earlier else unsealed(raw.decode("utf-8", "replace"))
        if record is None:
            raise DamagedError(
                f"{path}: line {number} is damaged: it is not as it was written; bring the file "
                "back from a copy, or remove that line to have its work done again"
            )
        records.append(record)
    return records


def seal(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Give every line of a file of an earlier version its digest, before more is appended.

    ``records`` are those that :func:`read` has returned.
    """
    if records:
        with replacing(path) as partial:
            partial.write_text("".join(f"{sealed(record)}\n" for record in records))


def _earlier(raw: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(raw)
    except (ValueError, RecursionError):  # no JSON, or brackets within thousands of brackets
        return None
    return record if isinstance(record, dict) else None


def _complete(path: Path) -> int:
    """Return the size of a file up to the end of its last whole line."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
        if not size or file.read(1) == b"\n":
            return size
        file.seek(0)
        return file.read().rfind(b"\n") + 1


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
