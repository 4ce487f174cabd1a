"""Files that appear whole or not at all, and what a crash has left of others."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sim.storage.locks import taken

_PREFIX = ".bandwise-partial-"


class DamagedError(ValueError):
    """A file is not as it was written; the message names the file and the place."""


@contextmanager
def replacing(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield where to write; what is there at the end becomes ``path`` in one step.

    The yielded path has the same name in a temporary folder next to ``path``, so whatever a
    writer leaves there besides (some write to hidden files first) goes with that folder. If
    anything is raised, an existing ``path`` stays as it was.

    Parameters
    ----------
    overwrite
        False: whatever other processes do, an existing ``path`` is never replaced.

    Raises
    ------
    FileExistsError
        If ``path`` exists at the end and is not to be overwritten.
    OSError
        With the name of ``path``, whichever file of the temporary folder it happened to.

    Examples
    --------
    >>> path = Path(tempfile.mkdtemp()) / "answer.txt"
    >>> with replacing(path) as partial:
    ...     _ = partial.write_text("42")
    >>> path.read_text(), [each.name for each in path.parent.iterdir()]
    ('42', ['answer.txt'])
    """
    target = Path(os.path.realpath(path))  # of a symbolic link the file, not the link
    folder = None
    try:
        folder, held = _folder_in(target.parent)
        try:
            partial = folder / target.name
            yield partial
            flush(partial)
            if not overwrite:
                target.open("x").close()  # this name is ours now
            partial.replace(target)
            flush(target.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)
    except OSError as error:
        inside = folder is None or str(error.filename).startswith(str(folder))
        if error.filename is not None and not inside:
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def clear_partial(folder: Path) -> None:
    """Remove the temporary folders that a process which was killed has left in ``folder``.

    Those of processes that are still writing stay.
    """
    for left in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            handle = os.open(left, os.O_RDONLY)
            try:
                if taken(handle, without_locks=False):
                    shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(handle)


def check_writable(path: Path) -> None:
    """Write a few bytes next to ``path`` and remove them, before hours of work rely on it.

    Raises
    ------
    OSError
        With the name of ``path``, if its folder cannot be written to or its disk is full.
    """
    parent = Path(os.path.realpath(path)).parent
    clear_partial(parent)
    folder = None
    try:
        folder, held = _folder_in(parent)
        try:
            probe = folder / "probe"
            probe.write_bytes(bytes(4096))
            flush(probe)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def free_bytes(path: Path) -> int:
    """Return the bytes that are free where ``path`` is, or where its folder would be made."""
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    return shutil.disk_usage(there).free


def flush(path: Path) -> None:
    """Have the disk take what was written: a name must not outlive its bytes."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _folder_in(parent: Path) -> tuple[Path, int]:
    """Make a folder that is locked as long as this process writes there; return its handle too."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        with suppress(FileNotFoundError):  # another process may clear it before it is locked
            handle = os.open(folder, os.O_RDONLY)
            if taken(handle) and folder.exists():
                return folder, handle
            os.close(handle)
