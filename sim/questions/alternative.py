"""What another value would give, of a key that nobody gave."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sim.figures.evaluation import Figures, figures
from sim.program import ArgumentError
from sim.questions.effort import effort, effort_of_looking
from sim.questions.levers import AT_ONCE_S
from sim.runtime import SimulationError, simulate

if TYPE_CHECKING:
    from sim.questions.replications import Prediction
    from sim.records.scenario import Scenario


@dataclass(frozen=True)
class Unasked:
    """A key that nobody gave.

    ``record`` is what JSON calls what another value gives. ``assumed`` is the value that was taken,
    ``because`` the reason, ``other`` the other value as a sentence has it, ``option`` how to ask
    for it and ``needs`` its condition.
    """

    record: str
    key: str
    assumed: str | bool
    other: str
    option: str
    because: str = ""
    needs: str = ""


@dataclass(frozen=True)
class Alternative:
    """The figures with another value; None where that simulation would take long."""

    of: Unasked
    figures: Figures | None

    def data(self) -> dict[str, Any]:
        """Return what JSON holds."""
        found = self.figures
        needs = {"needs": self.of.needs} if self.of.needs else {}
        said = {f"assumed_{self.of.key.rpartition('.')[2]}": self.of.assumed, **needs}
        if found is None:
            return {**said, "simulated": False}
        return {
            **said,
            "simulated": True,
            "compute_utilization": found.compute_utilization,
            "tokens_per_s": found.tokens_per_s,
            "inner_step_s": found.inner_step_s,
            "total_wall_clock_s": found.total_wall_clock_s,
            "total_is_lower_bound": found.total_is_lower_bound,
        }


def _takes_long(other: Scenario, prediction: Prediction) -> bool:
    foreseen_s = effort(replace(other, run=replace(other.run, replications=1))).seconds
    if prediction.figures.looks:
        foreseen_s = max(foreseen_s, effort_of_looking(other, prediction.figures))
    return foreseen_s > AT_ONCE_S


def alternative(
    of: Unasked, other: Scenario, prediction: Prediction, *, long: bool | None = None
) -> Alternative | None:
    """Simulate the scenario once more, with the random streams of the median; None if refused.

    ``long`` says whether that takes too long; by default it does where more than a second is
    foreseen. ``prediction`` is of the scenario as given.
    """
    if _takes_long(other, prediction) if long is None else long:
        return Alternative(of, None)
    run = replace(other.run, replications=1)
    try:
        one = replace(other, run=run, replication=prediction.replication)
        return Alternative(of, figures(simulate(one)))
    except (ArgumentError, SimulationError):
        return None
