"""What ``overlap = "layer"`` would give, where nobody said how to overlap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any

from sim.figures.evaluation import Figures, figures
from sim.methods import METHODS
from sim.network.gloo import SEGMENT_BYTES
from sim.program import ArgumentError
from sim.runtime import SimulationError, simulate

if TYPE_CHECKING:
    from sim.questions.replications import Prediction
    from sim.records.scenario import Scenario
    from sim.trace.table import Trace

_MOST_EVENTS = 100_000  # of a simulation: a second or two


@dataclass(frozen=True)
class LayerOverlap:
    """The figures with ``overlap = "layer"``; None where that simulation would take long.

    ``assumed`` is the method's default, for which nobody asked.
    """

    assumed: str
    figures: Figures | None

    def data(self) -> dict[str, Any]:
        """Return what JSON holds."""
        needs = "no clipping by the global norm"
        if self.figures is None:
            return {"assumed_overlap": self.assumed, "simulated": False, "needs": needs}
        return {
            "assumed_overlap": self.assumed,
            "simulated": True,
            "needs": needs,
            "compute_utilization": self.figures.compute_utilization,
            "tokens_per_s": self.figures.tokens_per_s,
            "total_wall_clock_s": self.figures.total_wall_clock_s,
            "total_is_lower_bound": self.figures.total_is_lower_bound,
        }


def with_layer_overlap(scenario: Scenario, prediction: Prediction) -> LayerOverlap | None:
    """Simulate the scenario once more with ``overlap = "layer"``.

    Parameters
    ----------
    scenario
        Whose ``method.overlap`` is a default.
    prediction
        Its own, which tells what another simulation costs and which replication is the median.

    Returns
    -------
    LayerOverlap or None
        None where ``overlap`` was given, or the method does not overlap by layers with its other
        arguments.
    """
    method = scenario.method
    assumed = dict(scenario.assumed).get("method.overlap")
    if assumed is None or assumed == "layer" or METHODS.get(method.name) is not method.program:
        return None
    if _events(scenario, prediction.trace) > _MOST_EVENTS:
        return LayerOverlap(assumed, None)
    layered = replace(method, arguments={**method.arguments, "overlap": "layer"})
    other = replace(scenario, method=layered, replication=prediction.replication)
    try:
        return LayerOverlap(assumed, figures(simulate(other)))
    except (ArgumentError, SimulationError):
        return None


def _events(scenario: Scenario, happened: Trace) -> int:
    """Return about how many events the layered run has: rows, or gloo's messages.

    A step that is taken layer by layer has up to six rows a layer.
    """
    ranks, rounds = len(happened.context.standing_for), len(happened.round_begins())
    rows = len(happened.rows) + 6 * ranks * rounds * scenario.model.layers
    if scenario.network.collectives.algorithm != "gloo":
        return rows
    workers = len(scenario.workers)
    messages = (
        2 * max(ceil(row.bytes / SEGMENT_BYTES), 2 * workers)
        for row in happened.rows
        if row.bytes > 0
    )
    return rows + sum(messages)
