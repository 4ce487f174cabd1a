"""Which workers take part in a round, where not all of them do."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256


@lru_cache(maxsize=4096)
def participants(workers: int, share: float, seed: int, number: int) -> tuple[int, ...]:
    """Return the ranks that train in a round: max(share x workers, 1) of them, rounded.

    Every worker computes the same ranks. They depend on nothing but the arguments, in every
    version of Python, because ranks are ordered by a hash of seed, round and rank.

    Parameters
    ----------
    workers
        How many there are in all, K.
    share
        C, more than 0 and at most 1.
    seed
        Another one chooses other ranks.
    number
        Of the round, from 0.

    Notes
    -----
    McMahan et al. 2017, arXiv:1602.05629, Algorithm 1: m = max(C K, 1) clients at random, without
    replacement, for every round.

    Examples
    --------
    >>> [participants(10, 0.3, seed=0, number=n) for n in range(3)]
    [(0, 5, 7), (1, 5, 6), (2, 6, 9)]
    >>> participants(3, 0.01, seed=0, number=0), participants(3, 1.0, seed=0, number=5)
    ((0,), (0, 1, 2))
    """
    count = max(round(share * workers), 1)
    if count == workers:
        return tuple(range(workers))

    def place(rank: int) -> bytes:
        return sha256(f"{seed} {number} {rank}".encode()).digest()

    return tuple(sorted(sorted(range(workers), key=place)[:count]))
