"""Who trains on which part of a corpus, and which part nobody trains on.

1. The corpus is cut into pieces: blocks of equal length ("iid"), or its sources ("source").
2. Every 20th piece is for validation; no worker trains on it. The others are dealt out: blocks
   in turn, sources in stretches of about equal length, so that every worker has its own kind.
3. Inside what it has, a worker reads samples of ``context`` + 1 tokens that overlap in one,
   the last target of the one being the first input of the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realrun.data.corpus import Corpus, DataError

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Stretches:
    """Parts of a corpus: tokens from ``starts[i]`` up to ``stops[i]``, ascending, disjoint."""

    starts: Ints
    stops: Ints

    @property
    def tokens(self) -> int:
        """How many tokens they hold together."""
        return int((self.stops - self.starts).sum())


def split(
    corpus: Corpus, workers: int, shard: str, validation_every: int, block_tokens: int
) -> tuple[list[Stretches], Stretches]:
    """Return what each worker trains on, and what is kept for validation: all of the corpus.

    Raises
    ------
    DataError
        If there are fewer pieces than workers and validation need.
    """
    if shard == "source":
        edges, what, of = corpus.edges, "source", ""
        advice = 'shard = "iid" cuts them into blocks'
    else:
        edges = np.append(np.arange(0, len(corpus.tokens), block_tokens), len(corpus.tokens))
        what, of = "block", f" of {block_tokens:,} tokens"
        advice = "a smaller data.block_tokens makes more of them"
    pieces = np.arange(len(edges) - 1)
    kept = pieces % validation_every == validation_every - 1
    train = pieces[~kept]
    if len(train) < workers or not kept.any():
        needed = max(validation_every, workers + (workers - 1) // (validation_every - 1))
        what += "s" * (len(pieces) != 1)
        raise DataError(
            f"data: too small: {len(pieces):,} {what}{of} in {corpus.description}; {workers} "
            f"workers and validation on every {validation_every}th need at least {needed:,}; "
            f"{advice}"
        )
    if shard == "source":
        # A source goes to the worker in whose equal share of the tokens its middle lies.
        length = (edges[1:] - edges[:-1])[train]
        middle = np.cumsum(length) - length / 2
        owner = np.minimum(middle * workers // max(1, length.sum()), workers - 1)
    else:
        owner = np.arange(len(train)) % workers
    return [_joined(edges, train[owner == rank]) for rank in range(workers)], _joined(
        edges, pieces[kept]
    )


def _joined(edges: Ints, pieces: Ints) -> Stretches:
    """Return pieces as stretches: neighbours become one, so that no sample is lost between."""
    follows = np.diff(pieces) == 1
    first = np.concatenate([[True], ~follows])[: len(pieces)]
    last = np.concatenate([~follows, [True]])[: len(pieces)]
    return Stretches(edges[pieces[first]], edges[pieces[last] + 1])


class Samples:
    """Numbered samples of T + 1 tokens inside some stretches."""

    def __init__(self, stretches: Stretches, context: int) -> None:
        self.context = context
        self._starts = stretches.starts
        per_stretch = np.maximum(0, (stretches.stops - stretches.starts - 1) // context)
        self._before = np.concatenate([[0], np.cumsum(per_stretch)])

    def __len__(self) -> int:
        return int(self._before[-1])

    def begins(self, numbers: Ints) -> Ints:
        """Return where in the corpus samples begin."""
        stretch = np.searchsorted(self._before, numbers, side="right") - 1
        begins: Ints = self._starts[stretch] + (numbers - self._before[stretch]) * self.context
        return begins
