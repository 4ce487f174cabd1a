"""What ends a run: one line that names the rank and the cause."""

from __future__ import annotations


class RunError(Exception):
    """A run that cannot begin or go on; the text is one line for the user."""


class PeerLostError(RunError):
    """A collective failed: a peer is gone or did not come in time. The cause is elsewhere."""


class AgreedError(RunError):
    """Every rank knows it; rank 0 says it."""


def first_line(error: BaseException) -> str:
    r"""Return the first line of what an error says, or its name if it says nothing.

    Examples
    --------
    >>> first_line(OSError("no space left\nat line 3")), first_line(KeyboardInterrupt())
    ('no space left', 'KeyboardInterrupt')
    """
    return (str(error).splitlines() or [type(error).__name__])[0]
