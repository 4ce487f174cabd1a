"""What other values would give, of keys that nobody gave and that decide much."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.questions.flat_ring import of_flat_ring
from sim.questions.overlap import with_layer_overlap
from sim.questions.prefetch import without_prefetch

if TYPE_CHECKING:
    from sim.questions.alternative import Alternative
    from sim.questions.replications import Prediction
    from sim.records.scenario import Scenario

_QUESTIONS = (with_layer_overlap, of_flat_ring, without_prefetch)


def alternatives(scenario: Scenario, prediction: Prediction) -> list[Alternative]:
    """Simulate the scenario once more for each of them that applies to it."""
    asked = (question(scenario, prediction) for question in _QUESTIONS)
    return [found for found in asked if found is not None]
