"""``site.batch_tokens = "balanced"``: batches with which no site waits for another's step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor

from sim.records.scenario import Machine

BALANCED = "balanced"


@dataclass(frozen=True)
class Share:
    """A machine as it is with its default batch, and how many workers have it.

    ``unit`` is what its batch is a whole multiple of, in tokens.
    """

    machine: Machine
    workers: int
    balanced: bool
    unit: int = 1

    @property
    def seconds_per_token(self) -> float:
        """Return what a token of an inner step costs, at this machine's speed."""
        return self.machine.step_seconds / (self.machine.batch_tokens * self.machine.speed)

    @property
    def fixed_seconds(self) -> float:
        """Return what a step costs however many tokens it has: the optimizer."""
        return self.machine.seconds_of("inner_optimizer") / self.machine.speed

    @property
    def step_seconds(self) -> float:
        """Return the time of an inner step with its optimizer, at this machine's speed."""
        return self.seconds_per_token * self.machine.batch_tokens + self.fixed_seconds


def balanced(shares: Sequence[Share]) -> list[Machine]:
    """Return the machines with batches that take all balanced ones as long.

    A step of b tokens takes c b + o seconds, o for the optimizer. Where some machines are not
    balanced, the others take as long as the slowest of those. Where all are, they take

        T = (B + sum(o / c)) / sum(1 / c)

    over all workers, so that the tokens of a step, B, stay what default batches would make them.
    Batches are rounded down to whole units: less than one is missing per worker.
    A batch of 0 means that not even one unit fits.
    """
    adjusted = [share for share in shares if share.balanced]
    fixed = [share.step_seconds for share in shares if not share.balanced]
    if not adjusted:
        return [share.machine for share in shares]
    if fixed:
        target = max(fixed)
    else:
        per_second = sum(share.workers / share.seconds_per_token for share in adjusted)
        tokens = sum(
            share.workers
            * (share.machine.batch_tokens + share.fixed_seconds / share.seconds_per_token)
            for share in adjusted
        )
        target = tokens / per_second
    return [_taking(target, share) if share.balanced else share.machine for share in shares]


def _taking(seconds: float, share: Share) -> Machine:
    """Return a machine with the batch that takes so long, in whole units."""
    tokens = (seconds - share.fixed_seconds) / share.seconds_per_token
    # 1e-12: equal machines keep their batch whatever the last bit of a division says.
    batch = float(max(floor(tokens / share.unit * (1 + 1e-12)), 0) * share.unit)
    ratio = batch / share.machine.batch_tokens
    return replace(
        share.machine, batch_tokens=batch, step_seconds=share.machine.step_seconds * ratio
    )
