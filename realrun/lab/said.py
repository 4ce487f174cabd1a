"""What a command prints, handed on line by line with a mark in front."""

from __future__ import annotations

from typing import IO

_LONGEST = 1 << 16  # of a line; what is longer is handed on in parts


class Lines:
    r"""Takes what comes through a pipe, and writes whole lines.

    Parameters
    ----------
    stream
        Where lines go.
    mark
        What is written before each.

    Examples
    --------
    >>> from io import BytesIO
    >>> stream = BytesIO()
    >>> lines = Lines(stream, b"[0] ")
    >>> lines.take(b"step 1\nste")
    >>> stream.getvalue()
    b'[0] step 1\n'
    >>> lines.take(b"p 2\n10 %\r20 %")
    >>> lines.take(b"")
    >>> stream.getvalue()
    b'[0] step 1\n[0] step 2\n[0] 20 %\n'
    """

    def __init__(self, stream: IO[bytes], mark: bytes) -> None:
        self._stream, self._mark, self._begun = stream, mark, b""

    def take(self, part: bytes) -> None:
        """Write the lines that are whole now; nothing is the end, which ends a line as well."""
        *whole, self._begun = (self._begun + part).split(b"\n")
        if self._begun and (not part or len(self._begun) > _LONGEST):
            whole.append(self._begun)
            self._begun = b""
        if whole:
            self._stream.write(b"".join(self._mark + _shown(line) + b"\n" for line in whole))
            self._stream.flush()


def _shown(line: bytes) -> bytes:
    """Return what a terminal would show of a line that was written over: its last version."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]
