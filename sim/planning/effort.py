"""What a search takes, before it is begun."""

from __future__ import annotations

from dataclasses import replace

from sim.planning.asked import Asked
from sim.questions.effort import Effort, effort
from sim.records.scenario import Scenario

SETTINGS = 16
"""Settings that a search simulates, about: 10 to 25 in the planning cases."""
_CHOSEN = 3  # settings that are predicted with all replications where something is random


def expected(asked: Asked) -> Effort:
    """Estimate what a search of some methods takes, rehearsals left out.

    :data:`SETTINGS` settings in one replication, as many of each method; and where something is
    random three of the dearest method in all replications.
    """
    once, largest = 0.0, 0.0
    finals = [0.0]
    for base in map(_by_layer, asked.bases.values()):
        each = effort(replace(base, run=replace(base.run, replications=1)))
        once += each.seconds * SETTINGS / len(asked.bases)
        largest = max(largest, each.bytes)
        if base.random:
            finals.append(_CHOSEN * effort(base).seconds)
    return Effort(once + max(finals), largest)


def _by_layer(base: Scenario) -> Scenario:
    """Return a base as it is dearest: with a row for every layer, where that is searched."""
    arguments = base.method.arguments
    if "overlap" not in arguments:
        return base
    return replace(base, method=replace(base.method, arguments={**arguments, "overlap": "layer"}))
