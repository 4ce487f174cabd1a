"""Locks on files and folders, which the system releases however a process ends."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows: commands on one folder do not exclude each other
    fcntl = None

_NAME = ".bandwise.lock"


class LockedError(Exception):
    """Another process works in the same folder; the message names it."""


def taken(handle: int, *, without_locks: bool = True) -> bool:
    """Lock an open file or folder; whether nobody else holds it.

    ``without_locks`` is the answer where the system or the file system knows no locks.
    """
    if fcntl is None:
        return without_locks
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return without_locks
    return True


@contextmanager
def locked(folder: Path, option: str = "--out", name: str = _NAME) -> Iterator[None]:
    """Keep other processes out of a folder that exists.

    Parameters
    ----------
    folder
        Where one process at a time may write.
    option
        Which option of the command line names it.
    name
        Of the lock's file; processes that use different names do not exclude each other.

    Raises
    ------
    LockedError
        If another process holds it: its number, its machine and its command.
    """
    path = folder / name
    handle = _opened(path, f"{option}: {folder}")
    try:
        who = {"pid": os.getpid(), "host": socket.gethostname(), "command": " ".join(sys.argv)}
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(who).encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _opened(path: Path, where: str) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if not taken(handle):
            who = _holder(handle)
            os.close(handle)
            raise LockedError(f"{where}: in use by {who}; wait for it, or name another folder")
        try:
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except FileNotFoundError:
            pass  # its holder has just removed it: what we have is a file without a name
        os.close(handle)


def _holder(handle: int) -> str:
    try:
        who = json.loads(os.read(handle, 1 << 16))
        here = "" if who["host"] == socket.gethostname() else f" on {who['host']}"
        return f"process {int(who['pid'])}{here} ({who['command']})"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
