"""Process groups of some members, made before the run that will need them.

A real run makes one when it first needs it, which takes part of one round of thousands. Of a
measured run of a few rounds it would be a large part, most of all where a new connection is first
brought into full use (:mod:`realrun.communication.connections`).
"""

from __future__ import annotations

from realrun.errors import RunError
from realrun.runtime.shared import Shared
from sim.members import is_control, is_transfer, named
from sim.program import QUANTIZED
from sim.runtime import simulate
from sim.scenario import Scenario
from sim.text.told import first_line

_ROUNDS = 2  # whose collectives are looked at


def make_groups_ahead(shared: Shared, scenario: Scenario) -> None:
    """Make the groups of members that this rank communicates in; all ranks call this.

    A simulation of the first rounds, the same at every rank, says which there are. A group that is
    used later for the first time is made then.

    Raises
    ------
    RunError
        If a member does not come.
    """
    quantized: dict[str, bool] = {}
    for row in simulate(scenario, rounds=_ROUNDS).rows:
        if row.call >= 0 and not is_control(row.group) and not is_transfer(row.group):
            by_thread = row.detail.endswith(QUANTIZED)
            quantized[row.group] = quantized.get(row.group, False) or by_thread
    members = {name: named(name, shared.workers) for name in quantized}
    begun = {
        name: shared.group(name).ahead(quantized=quantized[name])
        for name, some in members.items()
        if shared.rank in some and len(some) < shared.workers
    }
    for name, made in begun.items():
        for each in made:
            try:
                each.result()
            except RuntimeError as error:
                why = f"group {name} was not made: {first_line(error)}"
                raise RunError(f"rank {shared.rank}: {why}") from error
