"""Whether the faster of two methods is predicted to be the faster."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import nan
from typing import TYPE_CHECKING

import numpy as np

from realrun.validation.statistics import Interval, bounds, draws

if TYPE_CHECKING:
    import pandas as pd

SAME_MACHINES = ("workers", "bandwidth_bytes_per_s", "rtt_s", "heterogeneity", "compute_mode")
LEAST_DIFFERENCE = 0.01
"""Methods nearer to each other than this are not told apart, however quiet the runs were."""


@dataclass(frozen=True)
class Pair:
    """Two configurations that differ in the method alone, rows ``faster`` and ``slower``.

    ``measured`` and ``predicted`` are how much longer the slower one takes per inner step
    (0.1: by a tenth); a negative prediction has the order wrong, and so has 0.
    """

    faster: int
    slower: int
    measured: float
    predicted: float

    @property
    def right(self) -> bool:
        """Whether the order is predicted as measured."""
        return self.predicted > 0


@dataclass(frozen=True)
class Order:
    """Pairs that differ by more than noise; ``alike`` is how many others there are.

    ``share`` is the part in the right order, with an interval over configurations.
    """

    pairs: tuple[Pair, ...]
    alike: int
    share: Interval

    @property
    def wrong(self) -> list[Pair]:
        """Pairs in the wrong order, the largest measured difference first."""
        return sorted((p for p in self.pairs if not p.right), key=lambda pair: -pair.measured)


def order(table: pd.DataFrame) -> Order:
    """Compare all methods that ran on equal machines and links.

    Parameters
    ----------
    table
        Configurations, indexed 0, 1, ... Compared are seconds per inner step, because
        rounds of methods differ. Two differ if one takes longer than the other by more than
        both spreads over repeats, and more than ``LEAST_DIFFERENCE``.
    """
    pairs, alike = [], 0
    measured = table["measured_per_step_s"].to_numpy()
    predicted = table["predicted_per_step_s"].to_numpy()
    spread = table["spread_per_step"].to_numpy()
    for members in table.groupby(list(SAME_MACHINES), sort=True).indices.values():
        for one, other in combinations(sorted(int(place) for place in members), 2):
            fast, slow = (one, other) if measured[one] <= measured[other] else (other, one)
            longer = float(measured[slow] / measured[fast] - 1)
            if longer > max(spread[one], spread[other], LEAST_DIFFERENCE):
                ahead = float(predicted[slow] / predicted[fast] - 1)
                pairs.append(Pair(fast, slow, longer, ahead))
            else:
                alike += 1
    return Order(tuple(pairs), alike, _share(pairs, len(table)))


def _share(pairs: list[Pair], count: int) -> Interval:
    """Part of the pairs in the right order; a pair drawn from both its ends counts each way."""
    if not pairs:
        return Interval(nan, nan, nan, 0)
    right = np.array([pair.right for pair in pairs], dtype=float)
    drawn = draws(count)
    times = np.zeros(drawn.shape)
    np.add.at(times, (np.arange(len(drawn))[:, None], drawn), 1.0)
    weights = times[:, [p.faster for p in pairs]] * times[:, [p.slower for p in pairs]]
    total = weights.sum(axis=1)
    usable = total > 0
    low, high = bounds((weights @ right)[usable] / total[usable])
    return Interval(float(right.mean()), low, high, len(pairs))
