"""Collectives over sites with several workers, where nobody said how they are carried out.

A scenario then has ``hierarchical``. A backend that carries them for real has a ring of its own
over all workers.
"""

from __future__ import annotations

from dataclasses import replace

from sim.records.scenario import Scenario

KEY = "network.collective.algorithm"
ASSUMED, FLAT = "hierarchical", "ring"


def assumes_sites(scenario: Scenario) -> bool:
    """Whether collectives go by site because nobody has said otherwise."""
    return scenario.network.collectives.algorithm == ASSUMED and KEY in dict(scenario.assumed)


def with_flat_ring(scenario: Scenario) -> Scenario:
    """Return a scenario whose collectives go by site unasked with a ring over all workers.

    Any other scenario is returned as it is.
    """
    if not assumes_sites(scenario):
        return scenario
    network = scenario.network
    return replace(
        scenario,
        network=replace(network, collectives=replace(network.collectives, algorithm=FLAT)),
        assumed=tuple((key, FLAT if key == KEY else text) for key, text in scenario.assumed),
    )
