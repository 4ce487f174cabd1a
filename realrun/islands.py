"""Workers that are islands, as processes run them.

No torch here: the process that starts the workers reads this, and has no other use for it.
"""

from __future__ import annotations

from dataclasses import replace

from sim.members import members_of
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


def groups_of(rank: int, workers: int, accelerators: int) -> list[str]:
    """Return the groups of an accelerator's main program: inside its island, and across islands.

    Examples
    --------
    >>> groups_of(3, workers=6, accelerators=2)
    ['main[2,3]', 'main[1:6:2]']
    >>> groups_of(1, workers=2, accelerators=2)
    ['main']
    """
    island, place = divmod(rank, accelerators)
    inside = range(island * accelerators, (island + 1) * accelerators)
    across = range(place, workers, accelerators)
    several = [ranks for ranks in (inside, across) if len(ranks) > 1]
    return [f"main{members_of(ranks, workers).name}" for ranks in several]
