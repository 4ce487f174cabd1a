"""Whether a study's tolerances hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from realrun.validation.statistics import (
    NOTABLE_WAITING,
    Interval,
    interval,
    median_of,
    p95_of,
    size_of_errors,
)

if TYPE_CHECKING:
    import pandas as pd

Tolerances = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Compute mode -> quantity -> "median" or "p95" -> the largest absolute error (0.03: 3 %)."""

QUANTITIES = {
    "wall_clock": "wall-clock",
    "exposed_communication": "exposed communication",
    "waiting": f"waiting where it is at least {NOTABLE_WAITING:.0%}",
    "compute_utilization": "compute utilization (points)",
}
_STATISTICS = {"median": median_of, "p95": p95_of}


@dataclass(frozen=True)
class Check:
    """One tolerance: ``seen`` must not exceed ``limit``, or reach it where ``at_least``.

    What was not seen at all does not pass.
    """

    what: str
    limit: float
    seen: Interval
    at_least: bool = False

    @property
    def passed(self) -> bool:
        """Whether what was seen keeps to the limit."""
        return self._keeps(self.seen.value)

    @property
    def clear(self) -> bool:
        """Whether the whole interval keeps to the limit."""
        return self._keeps(self.seen.low if self.at_least else self.seen.high)

    def _keeps(self, value: float) -> bool:
        # A limit that is met exactly must not fail by the last bit.
        slack = 1e-12
        return value >= self.limit - slack if self.at_least else value <= self.limit + slack


def checks(table: pd.DataFrame, tolerances: Tolerances, share: float) -> list[Check]:
    """Hold configurations against tolerances, each compute mode by itself.

    Parameters
    ----------
    table
        Configurations; only those to which tolerances apply count, and of these the
        informative ones.
    tolerances
        As the study states them.
    share
        Which part of the configurations must be informative; 0 demands nothing.

    Raises
    ------
    ValueError
        If a tolerance is of a quantity or statistic that there is not.
    """
    table = table[table["tolerance_applies"]]
    found = []
    for mode, quantities in tolerances.items():
        part = table[table["informative"] & (table["compute_mode"] == mode)]
        for quantity, limits in quantities.items():
            if quantity not in QUANTITIES:
                raise ValueError(f"no tolerance of {quantity}: there are {', '.join(QUANTITIES)}")
            for statistic, limit in limits.items():
                if statistic not in _STATISTICS:
                    raise ValueError(f"no tolerance of the {statistic}: there are median and p95")
                seen = _STATISTICS[statistic](size_of_errors(part, quantity))
                what = f"{mode}: {QUANTITIES[quantity]}, {statistic}"
                found.append(Check(what, limit, seen))
    if share > 0:
        informative = table["informative"].to_numpy().astype(float)
        seen = interval(informative, lambda drawn: np.mean(drawn, axis=-1))
        found.append(Check("share of informative configurations", share, seen, at_least=True))
    return found
