"""Before a command begins: what it will take, where that is long, or more than there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sim.output.errors import UserError
from sim.output.show import tell
from sim.processes.cores import cores_allowed
from sim.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from sim.planning.asked import Asked as PlanAsked
    from sim.records.scenario import Scenario

LONG_S = 60.0
LONG_PLAN_S = 10.0
QUICK_S = 4.0  # a process takes one to two seconds of a core before its first run
LARGE_BYTES = 4 * 2**30
_LOOKED_AT = 30


def foresee(scenarios: Sequence[Scenario], runs: float = 1, jobs: int | None = 1) -> int:
    """Say on standard error what is ahead, if it takes more than a minute or 4 GiB.

    Parameters
    ----------
    scenarios
        What is to be predicted.
    runs
        How often each of them is.
    jobs
        How many are predicted at once. None is one per core, or one where all is done before
        further processes have started.

    Returns
    -------
    int
        How many to predict at once.

    Raises
    ------
    UserError
        If it cannot fit into the memory that is free.
    """
    from sim.processes.free_memory import free_bytes
    from sim.questions.effort import effort

    # Of many cases as many are looked at as takes no noticeable time; the others are like them.
    every = -(-len(scenarios) // _LOOKED_AT)
    seconds, largest, name = 0.0, 0.0, ""
    for scenario in scenarios[::every]:
        each = effort(scenario)
        seconds += each.seconds * runs * every
        if each.bytes > largest:
            largest, name = (
                each.bytes,
                f"{scenario.method.name} on {len(scenario.workers):,} workers",
            )
    if jobs is None:
        jobs = 1 if seconds < QUICK_S else cores_allowed()
    wanted = jobs
    jobs = min(jobs, int(max(1, len(scenarios) * runs)))
    size = largest * jobs
    if size > (free := free_bytes()):
        at_once = f" in {jobs} processes" if jobs > 1 else ""
        fewer = "fewer --jobs, " if jobs > 1 else ""
        raise UserError(
            f"{name}{at_once} needs about {format_bytes(size, 2)} of memory, and "
            f"{format_bytes(free, 2)} are free; take {fewer}fewer workers, another "
            "--algorithm than direct, or fewer run.measured_rounds"
        )
    if seconds / jobs > LONG_S or size > LARGE_BYTES:
        tell(f"bandwise: this takes {_about(seconds / jobs, size)}")
    return wanted


def foresee_plan(asked: PlanAsked) -> None:
    """Say on standard error what a search takes, if its simulations take more than ten seconds.

    Raises
    ------
    UserError
        If a simulation cannot fit into the memory that is free.
    """
    from sim.planning.effort import SETTINGS, expected

    foresee(list(asked.bases.values()), runs=0)
    found = expected(asked)
    if found.seconds > LONG_PLAN_S:
        tell(
            f"bandwise: about {SETTINGS} settings have to be simulated, which takes "
            f"{_about(found.seconds, found.bytes)}{_instead(asked)}"
        )


def _instead(asked: PlanAsked) -> str:
    """Say what is quicker than gloo's own messages."""
    if asked.given.network.collectives.algorithm != "gloo":
        return ""
    return " with gloo's own messages; another --algorithm is computed and takes far less"


def _about(seconds: float, size: float) -> str:
    return f"about {format_seconds(seconds, 2)} and {format_bytes(size, 2)} of memory"
