"""Workers that are islands, as processes run them.

No torch here: the process that starts the workers reads this, and has no other use for it.
"""

from __future__ import annotations

from dataclasses import replace

from sim.program import ArgumentError
from sim.records.islands import accelerators_of
from sim.scenario import Loaded, Scenario, ScenarioError


def by_accelerator(scenario: Scenario) -> Scenario:
    """Return what processes run: of workers that are islands, every accelerator is one.

    Raises
    ------
    ScenarioError
        If its islands can only be simulated.
    """
    try:
        return accelerators_of(scenario)
    except ArgumentError as error:
        raise ScenarioError(str(error)) from None


def to_be_run(loaded: Loaded) -> Loaded:
    """Return a scenario with its sections as processes run it; errors as `by_accelerator`."""
    return replace(loaded, scenario=by_accelerator(loaded.scenario))
