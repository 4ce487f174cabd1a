"""How far a run has come, as every worker counts it for itself."""

from __future__ import annotations

from collections.abc import Sequence

from sim.members import Members
from sim.program import ArgumentError
from sim.runtime.limits import MOST_IN_A_ROUND

MOST_ROUNDS_BEYOND = 1000  # that a program may begin after next_round has answered False


class Progress:
    """Tokens that all workers together have trained on, from the steps that rounds announce.

    Every worker counts for all, so that all reach the horizon in the same round without asking
    each other.

    Parameters
    ----------
    batch_tokens
        Tokens of one inner step, by rank.
    tokens_per_step
        Their sum.
    rank
        This worker.

    Examples
    --------
    >>> progress = Progress([100.0, 50.0], 150.0, rank=1)
    >>> progress.begin((3, 5))
    5
    >>> progress.tokens, round(progress.pace, 3), round(progress.weight, 3)
    (550.0, 0.733, 0.909)
    """

    def __init__(self, batch_tokens: Sequence[float], tokens_per_step: float, rank: int) -> None:
        self._batch_tokens, self._tokens_per_step = batch_tokens, tokens_per_step
        self._rank = rank
        self._beyond = self._in_round = 0
        self._steps = 0  # of rounds in which all workers take equally many
        self._unequal = 0.0  # tokens of the other rounds
        self._last: tuple[int, ...] = ()
        self._own: tuple[int, ...] | None = None  # steps by rank in this round, where they differ
        self._last_tokens = 0.0
        #: Inner steps of an average worker per inner step of this one, in the round under way.
        self.pace = 1.0
        #: What this worker counts in a mean weighted by the tokens of the round; 1 on average.
        #: In a mean over some workers: :meth:`weight_among`.
        self.weight = self._weight()

    @property
    def tokens(self) -> float:
        """Tokens of all rounds begun so far."""
        return self._steps * self._tokens_per_step + self._unequal

    def endless(self, more: bool) -> str:
        """Note what next_round answers; return why the program must be stopped, or ""."""
        self._beyond += not more
        if self._beyond <= MOST_ROUNDS_BEYOND:
            return ""
        return (
            f"rank {self._rank}: the program has begun {MOST_ROUNDS_BEYOND} rounds since "
            "next_round answered False; end its loop there: while worker.next_round(...)"
        )

    def endless_round(self) -> str:
        """Note that something is begun; return why the program must be stopped, or ""."""
        self._in_round += 1
        if self._in_round <= MOST_IN_A_ROUND:
            return ""
        return (
            f"rank {self._rank}: the program has begun {MOST_IN_A_ROUND} operations since it last "
            "called next_round; end its loop there: while worker.next_round(...)"
        )

    def begin(self, steps: int | tuple[int, ...] | None) -> int:
        """Count a round; return the inner steps that this worker takes in it.

        Parameters
        ----------
        steps
            Inner steps of every worker, or one entry per rank; None where they are not known
            beforehand, which counts nothing.

        Raises
        ------
        ArgumentError
            Where the entries are not one per worker.
        """
        self._in_round = 0
        self._own = steps if isinstance(steps, tuple) else None
        if not isinstance(steps, tuple):
            self._steps += steps or 0
            self.pace, self.weight = 1.0, self._weight()
            return steps or 0
        if steps is not self._last:
            if len(steps) != len(self._batch_tokens):
                raise ArgumentError(
                    f"next_round(steps={steps}) has {len(steps)} entries for "
                    f"{len(self._batch_tokens)} workers; give one number, or one per worker"
                )
            self._last = steps
            self._last_tokens = sum(
                own * batch for own, batch in zip(steps, self._batch_tokens, strict=True)
            )
        own = steps[self._rank]
        self._unequal += self._last_tokens
        self.pace = self._last_tokens / (self._tokens_per_step * own) if own else 1.0
        trained = self._last_tokens
        self.weight = own * self._batch() * len(steps) / trained if trained else 1.0
        return own

    def weight_among(self, members: Members, *, by_tokens: bool) -> float:
        """What this worker counts in a mean over members: once, or by its tokens of the round.

        1 on the average of them. Who takes no step in a round counts nothing, unless nobody
        takes one.
        """
        steps = self._own
        if not by_tokens and (steps is None or all(steps[rank] for rank in members.ranks)):
            return 1.0
        if by_tokens and not members.name:
            return self.weight
        counts = {
            rank: (self._batch_tokens[rank] if by_tokens else 1.0)
            * (1 if steps is None else steps[rank] if by_tokens else steps[rank] > 0)
            for rank in members.ranks
        }
        total = sum(counts.values())
        return counts[self._rank] * len(members) / total if total else 1.0

    def _batch(self) -> float:
        return self._batch_tokens[self._rank]

    def _weight(self) -> float:
        """Where all workers take equally many steps."""
        return self._batch() * len(self._batch_tokens) / self._tokens_per_step
