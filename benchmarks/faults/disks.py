"""Small file systems, mounted where a command writes."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NEWNS = 0x20000  # CLONE_NEWNS, linux/sched.h; os.unshare needs Python 3.12


def alone() -> None:
    """Let this process's mounts be its own, and end with it; /dev/shm among them."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEWNS):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    _run("mount", "--make-rprivate", "/")
    _run("mount", "-t", "tmpfs", "tmpfs", "/dev/shm")


@contextmanager
def disk(folder: Path, size: int) -> Iterator[None]:
    """Mount a file system of ``size`` bytes over a folder."""
    folder.mkdir(exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={max(size, 1 << 14)}", "tmpfs", str(folder))
    try:
        yield
    finally:
        _run("umount", "--lazy", str(folder))


def resize(folder: Path, size: int) -> None:
    """Give a mounted file system another size."""
    _run("mount", "-o", f"remount,rw,size={size}", str(folder))


def read_only(folder: Path) -> None:
    """Let nothing more be written."""
    _run("mount", "-o", "remount,ro", str(folder))


def fill(folder: Path) -> None:
    """Write until there is no room left."""
    with (folder / "filling").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def _run(*words: str) -> None:
    subprocess.run(words, check=True)
