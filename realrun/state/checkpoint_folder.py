"""Who may write checkpoints into a folder: one command at a time, rank by rank.

Each rank locks a file of its own, since ranks may share the folder or have a disk each.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sim.storage.files import clear_partial
from sim.storage.locks import LockedError, locked


@contextmanager
def alone_in(folder: Path, rank: int) -> Iterator[None]:
    """Keep other commands' processes of this rank out of a folder, which is made.

    Raises
    ------
    LockedError
        Naming the process that is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "--checkpoints", f".rank-{rank:05d}.lock"):
        yield


def check_free(folder: Path, workers: int) -> None:
    """Refuse a folder in which another command writes checkpoints.

    Raises
    ------
    LockedError
        Naming its process.
    """
    if folder.is_dir():
        for rank in range(workers):
            with alone_in(folder, rank):
                pass  # what it locked is removed, whatever left it there


def tidy(folder: Path, workers: int) -> None:
    """Remove what workers that were ended, maybe in the middle of a file, have left."""
    with suppress(LockedError, OSError):
        check_free(folder, workers)
        clear_partial(folder)
