"""What ends a run: one line that names the rank and the cause."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sim.program import PeerLost


class RunError(Exception):
    """A run that cannot begin or continue; the text is one line for the user."""


class PeerLostError(RunError, PeerLost):
    """A peer is gone or did not come in time. The cause is elsewhere.

    Of a collective that failed; a program may catch it as :class:`sim.program.PeerLost`.
    """


class AgreedError(RunError):
    """Every rank knows it; rank 0 says it."""


def of_rank(rank: int, text: str) -> str:
    """Return a line with the rank that says it, unless it names it already.

    Examples
    --------
    >>> of_rank(1, "no GPU"), of_rank(1, "rank 1: no GPU")
    ('rank 1: no GPU', 'rank 1: no GPU')
    """
    return text if re.search(rf"\branks? ([\d, and]* )?{rank}\b", text) else f"rank {rank}: {text}"


def ranks(numbers: Sequence[int]) -> str:
    """Return ranks in words.

    Examples
    --------
    >>> ranks([1]), ranks([0, 1, 4])
    ('rank 1', 'ranks 0, 1 and 4')
    """
    *before, last = map(str, numbers)
    return f"ranks {', '.join(before)} and {last}" if before else f"rank {last}"
