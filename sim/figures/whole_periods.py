"""How much of the links' profile the evaluated rounds cover, where links vary."""

from __future__ import annotations

from math import inf

from sim.figures.evaluation import Figures
from sim.records.scenario import Scenario
from sim.records.varying import period_of


def evaluated_periods(scenario: Scenario, found: Figures) -> float | None:
    """Return the periods of the links' profile that the evaluated rounds take.

    Pieces that were simulated shorter count as long as they are. None where no link varies, or
    where the profile ends and so has no period.
    """
    period = period_of(scenario)
    if period is None or period == inf:
        return None
    return found.wall_clock_s * found.shortened / period
