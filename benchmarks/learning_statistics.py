"""Intervals of losses over seeds, and what they say about a paper's finding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import atan, cos, nan, pi, sin, sqrt
from statistics import fmean, stdev
from typing import Literal

from learning_results import Row

MARGIN = 0.01  # what counts as near, of the reference's loss; chosen before the pilot
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Claim:
    """What a paper found about a method, so that runs can decide about it.

    ``than`` is the configuration it is compared with; "near" means: worse by less than MARGIN.
    """

    text: str
    relation: Literal["near", "worse"]
    than: str


@dataclass(frozen=True)
class Interval:
    """A mean and its two-sided confidence interval; nan where one value says nothing of it."""

    mean: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """Student's interval of the mean of independent values."""
        mean, count = fmean(values), len(values)
        if count < 2:
            return cls(mean, nan, nan, count)
        half = t_quantile(count - 1) * stdev(values) / sqrt(count)
        return cls(mean, mean - half, mean + half, count)

    def written(self, sign: str = "") -> str:
        """As the table has it."""
        if self.count < 2:
            return f"{self.mean:{sign}.3f} (one seed)"
        return f"{self.mean:{sign}.3f} [{self.low:{sign}.3f}, {self.high:{sign}.3f}]"


def t_quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """Return t such that Student's distribution has ``confidence`` between -t and t.

    Examples
    --------
    >>> round(t_quantile(2), 3)
    4.303
    """
    low, high = 0.0, 1.0
    while _within(high, freedom) < confidence:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """Probability between -t and t: Abramowitz & Stegun 1964, 26.7.3 and 26.7.4."""
    angle = atan(t / sqrt(freedom))
    odd = freedom % 2
    term = cos(angle) if odd else 1.0
    total = term if freedom > 1 else 0.0
    for number in range(2 + odd, freedom, 2):
        term *= cos(angle) ** 2 * (number - 1) / number
        total += term
    total *= sin(angle)
    return 2 / pi * (angle + total) if odd else total


def losses(rows: Iterable[Row], configuration: str, workers: int) -> dict[int, float]:
    """Held-out loss by seed."""
    return {
        row.seed: row.held_out_loss
        for row in rows
        if row.configuration == configuration and row.workers == workers
    }


def difference(rows: Sequence[Row], one: str, other: str, workers: int) -> Interval | None:
    """Loss of one configuration minus another's, paired by seed; None without a common seed."""
    ours, theirs = losses(rows, one, workers), losses(rows, other, workers)
    paired = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    return Interval.of(paired) if paired else None


def verdict(claim: Claim, found: Interval | None, reference: float) -> str:
    """Whether a difference bears a claim out: decided by the interval, else open.

    ``reference`` is the mean loss of what it is compared with.
    """
    if found is None or found.count < 2:
        return "too few seeds"
    if claim.relation == "worse":
        if found.low > 0:
            return "agrees"
        return "differs" if found.high < 0 else "open"
    if found.high <= MARGIN * reference:
        return "agrees"
    return "differs" if found.low > MARGIN * reference else "open"
