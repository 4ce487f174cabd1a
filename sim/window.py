"""How much of a run is simulated, and over which rounds figures are taken."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from sim.methods import COMPUTE_ALWAYS

if TYPE_CHECKING:
    from sim.scenario.resolved import Scenario

# Rounds measured when the scenario does not say. A deterministic method repeats itself; one
# that looks at the clock settles into a pattern of several rounds, and jitter needs a mean.
_ROUNDS_DETERMINISTIC = 4
_ROUNDS_VARYING = 50
_ROUNDS_LOOKING = 12


def window(scenario: Scenario) -> tuple[int, int]:
    """Rounds to skip and rounds to measure.

    One round is skipped, and as many more as an average is applied late: the pipeline is
    filled only then.
    """
    run, arguments = scenario.run, scenario.method.arguments
    skip, measured = run.skip_rounds, run.measured_rounds
    if skip is None:
        delay = arguments.get("fragment_sync_delay") or 0
        longest = max(delay) if isinstance(delay, tuple) else delay
        skip = 1 + arguments.get("rounds_late_by", 0)
        skip += ceil(longest / arguments.get("sync_every", 1)) if longest > 1 else 0
    if measured is None:
        measured = _ROUNDS_DETERMINISTIC
        if scenario.method.name in COMPUTE_ALWAYS:
            measured = _ROUNDS_LOOKING
        if _jitters(scenario):
            measured = _ROUNDS_VARYING
    return skip, measured


def rounds_to_simulate(scenario: Scenario) -> int:
    """Rounds after which simulating more would only repeat the window.

    Where workers differ, one more than the window: a worker that is ahead of the others must
    not have run out of work before the window ends.
    """
    skip, measured = window(scenario)
    machines = {worker.machine for worker in scenario.workers}
    unequal = len(machines) > 1 or _jitters(scenario)
    limit = skip + measured + unequal
    return limit if scenario.run.rounds is None else min(limit, scenario.run.rounds)


def _jitters(scenario: Scenario) -> bool:
    return any(w.machine.jitter.distribution != "constant" for w in scenario.workers)
