"""What a flat ring would give, where nobody said how collectives are carried out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sim.figures.evaluation import Figures, figures
from sim.network.schedules import form_of
from sim.program import ArgumentError
from sim.questions.effort import effort, effort_of_looking
from sim.questions.levers import AT_ONCE_S
from sim.records.flat_ring import ASSUMED, assumes_sites, with_flat_ring
from sim.runtime import SimulationError, simulate

if TYPE_CHECKING:
    from sim.questions.replications import Prediction
    from sim.records.scenario import Scenario


@dataclass(frozen=True)
class FlatRing:
    """The figures with a ring over all workers; None where that simulation would take long."""

    figures: Figures | None

    def data(self) -> dict[str, Any]:
        """Return what JSON holds."""
        found = self.figures
        if found is None:
            return {"assumed_algorithm": ASSUMED, "simulated": False}
        return {
            "assumed_algorithm": ASSUMED,
            "simulated": True,
            "compute_utilization": found.compute_utilization,
            "tokens_per_s": found.tokens_per_s,
            "inner_step_s": found.inner_step_s,
            "total_wall_clock_s": found.total_wall_clock_s,
            "total_is_lower_bound": found.total_is_lower_bound,
        }


def of_flat_ring(scenario: Scenario, prediction: Prediction) -> FlatRing | None:
    """Simulate the scenario once more with a ring over all workers.

    Parameters
    ----------
    scenario
        Whose sites have several workers.
    prediction
        Its own; the other one has the random streams of its median.

    Returns
    -------
    FlatRing or None
        None where the algorithm was given, or where nothing that is sent has a hierarchical form.
    """
    before = prediction.figures
    if not assumes_sites(scenario) or not any(
        form_of(kind.operation, ASSUMED, kind.dtype) == ASSUMED for kind in before.exchanges
    ):
        return None
    run = replace(scenario.run, replications=1)
    other = replace(with_flat_ring(scenario), run=run, replication=prediction.replication)
    foreseen_s = effort(other).seconds
    if before.looks:
        foreseen_s = max(foreseen_s, effort_of_looking(other, before))
    if foreseen_s > AT_ONCE_S:
        return FlatRing(None)
    try:
        return FlatRing(figures(simulate(other)))
    except (ArgumentError, SimulationError):
        return None
