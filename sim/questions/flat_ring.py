"""What a flat ring would give, where nobody said how collectives are carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.network.schedules import form_of
from sim.questions.alternative import Alternative, Unasked, alternative
from sim.records.flat_ring import ASSUMED, FLAT, KEY, assumes_sites, with_flat_ring

if TYPE_CHECKING:
    from sim.questions.replications import Prediction
    from sim.records.scenario import Scenario

_UNASKED = Unasked(
    "flat_ring",
    KEY,
    ASSUMED,
    f'a flat "{FLAT}"',
    f"--algorithm {FLAT}",
    because="because sites have several workers",
)


def of_flat_ring(scenario: Scenario, prediction: Prediction) -> Alternative | None:
    """Simulate the scenario once more with a ring over all workers.

    Parameters
    ----------
    scenario
        Whose sites have several workers.
    prediction
        Its own; the other one has the random streams of its median.

    Returns
    -------
    Alternative or None
        None where the algorithm was given, or where nothing that is sent has a hierarchical form.
    """
    if not assumes_sites(scenario) or not any(
        form_of(kind.operation, ASSUMED, kind.dtype) == ASSUMED
        for kind in prediction.figures.exchanges
    ):
        return None
    return alternative(_UNASKED, with_flat_ring(scenario), prediction)
