"""Workers that are islands, as processes run them.

No torch here: the process that starts the workers reads this, and has no other use for it.
"""

from __future__ import annotations

import re
from dataclasses import replace

from sim.program import ArgumentError
from sim.records.flat_ring import with_flat_ring
from sim.records.islands import accelerators_of
from sim.scenario import Loaded, Scenario, ScenarioError


def by_accelerator(scenario: Scenario) -> Scenario:
    """Return what processes run: of workers that are islands, every accelerator is one.

    Collectives whose algorithm nobody has named are the backend's, a ring over all workers.

    Raises
    ------
    ScenarioError
        If its islands can only be simulated.
    """
    try:
        return accelerators_of(with_flat_ring(scenario))
    except ArgumentError as error:
        raise ScenarioError(str(error)) from None


def to_be_run(loaded: Loaded) -> Loaded:
    """Return a scenario with its sections as processes run it; errors as `by_accelerator`."""
    return replace(loaded, scenario=by_accelerator(loaded.scenario))


def keys_of_count(scenario: Scenario) -> str:
    """Name the keys that decide how many processes a scenario has."""
    return f"site.count or site.{'inside.accelerators' if scenario.method.island else 'workers'}"


def with_island(line: str, scenario: Scenario) -> str:
    """Add to a line that names a rank to which island that belongs.

    It stays as it is where it names no rank, or where workers are no islands.
    """
    island, named = scenario.method.island, re.search(r"\brank (\d+)\b", line)
    if not island or named is None or int(named[1]) >= len(scenario.workers):
        return line
    rank = int(named[1])
    number = rank // island
    site = scenario.sites[scenario.workers[rank].site].name
    first, last = number * island, (number + 1) * island - 1
    return f"{line} (rank {rank} is of island {number + 1}, ranks {first} to {last}, site {site})"
