"""Recordings on disk: a trace whose note says that it is one, and of what."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sim.recording.plan import Plan, plan_of
from sim.storage.table_files import NoNoteError, note_of_parquet
from sim.trace.files import load as load_trace
from sim.trace.files import save as save_trace
from sim.trace.table import Trace

SUFFIX = ".parquet"
_KEY = "recording"


class RecordingError(ValueError):
    """A file is no recording, or one that cannot be replayed; the message says why."""


@dataclass(frozen=True)
class Recording:
    """A recording: what each worker does, and what is known of where it comes from."""

    plan: Plan
    about: Mapping[str, Any]
    #: SHA-256 of the file, in hexadecimal.
    sha256: str

    @property
    def workers(self) -> int:
        """How many processes were recorded."""
        return self.plan.workers


def save(trace: Trace, about: Mapping[str, Any], path: Path) -> None:
    """Write a recording; it appears whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written, or has no room.
    """
    save_trace(trace, path, {_KEY: dict(about)})


def load(path: Path) -> Recording:
    """Read a recording.

    Raises
    ------
    RecordingError
        If it is none.
    sim.storage.files.DamagedError
        If it is not as it was written.
    OSError
        If it cannot be read.
    """
    status = path.stat()
    return _load(path.absolute(), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)
def _load(path: Path, changed: int, size: int) -> Recording:
    """Read a recording once, as long as the file is the same."""
    try:
        about = note_of_parquet(path).get(_KEY)
    except NoNoteError:
        about = None
    if about is None:
        raise RecordingError(
            "is no recording; give a .parquet file that realrun record has written"
        )
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Recording(plan_of(load_trace(path)), about, sha256)
