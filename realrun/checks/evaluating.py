"""The loss on data that no worker trains on, evaluated at intervals during training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Evaluated(NamedTuple):
    """One evaluation: at the beginning of which round, after how many tokens of all workers."""

    round: int
    tokens: float
    loss: float  # nats per token, of rank 0's parameters


@dataclass
class Evaluating:
    """What evaluates.

    Parameters
    ----------
    rounds
        Between two evaluations.
    loss
        Evaluates this rank's parameters.
    gathered
        What every rank gives, to every rank: the others wait there for rank 0.
    rank
        This worker.
    tell
        Called on rank 0 with each evaluation.
    """

    rounds: int
    loss: Callable[[], float]
    gathered: Callable[[Any], list[Any]]
    rank: int
    tell: Callable[[Evaluated], None]
    #: On rank 0.
    found: list[Evaluated] = field(default_factory=list)
    #: The round of the last one, on every rank.
    last: int = 0

    def due(self, round_: int) -> bool:
        """Whether there is one at the beginning of this round; never before the first.

        A resumed run may have that of its first round from its checkpoint.
        """
        return round_ > self.last and round_ % self.rounds == 0

    def evaluate(self, round_: int, tokens: float) -> None:
        """Evaluate on rank 0 while the others wait; all ranks call it together."""
        self.last = round_
        if self.rank == 0:
            self.found.append(Evaluated(round_, tokens, self.loss()))
            self.tell(self.found[-1])
        self.gathered(None)

    def state(self) -> dict[str, Any]:
        """Return what a rank's checkpoint holds of it, as JSON can hold it."""
        return {"last": self.last, "found": self.found}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` was taken; nothing of it: from the beginning."""
        self.last = state.get("last", 0)
        self.found = [Evaluated(*each) for each in state.get("found", ())]
