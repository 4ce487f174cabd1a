"""Files that are read: regular ones, and pipes that somebody writes to.

A named pipe without a writer would be waited for without end, a device such as /dev/zero read
without end. A shell's ``<(...)`` is a pipe too, so pipes are read, with patience for a pause.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from pathlib import Path

PATIENCE_S = 5.0  # without a byte
_MOST_PIPED = 16 << 20  # far more than any scenario has

# A pipe can be read once, and commands may read their scenario again: of one pipe the first
# reading counts as long as the process lives.
_piped: dict[tuple[str, int, int], bytes] = {}


class NotAFileError(OSError):
    """Something that is there, and cannot be read as a file."""


def read(path: Path) -> bytes:
    """Return what a file holds, or what is written to a pipe.

    Raises
    ------
    NotAFileError
        For devices and sockets, and for a pipe to which nobody writes.
    OSError
        As ``Path.read_bytes`` does.
    """
    found = path.stat()
    if stat.S_ISFIFO(found.st_mode):
        key = (str(path), found.st_dev, found.st_ino)
        if key not in _piped:
            _piped[key] = _from_pipe(path)
        return _piped[key]
    check_regular(path)
    return path.read_bytes()


def check_regular(path: Path) -> None:
    """Refuse what is no regular file, where a pipe will not do; a folder or nothing may pass.

    Raises
    ------
    NotAFileError
        With the path.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        what = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}.get(stat.S_IFMT(mode), "device")
        raise _refused(path, f"is a {what}; name a regular file")


def _from_pipe(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    content = bytearray()
    try:
        while True:
            if not select.select([handle], [], [], PATIENCE_S)[0]:
                what = "goes on writing" if content else "has written"
                raise _refused(path, f"is a pipe to which nobody {what} for {PATIENCE_S:g} s")
            piece = os.read(handle, 1 << 16)
            content += piece
            if not piece:
                return bytes(content)
            if len(content) > _MOST_PIPED:
                raise _refused(path, f"is a pipe of more than {_MOST_PIPED >> 20} MiB")
    finally:
        os.close(handle)


def _refused(path: Path, text: str) -> NotAFileError:
    return NotAFileError(errno.EINVAL, text, str(path))
