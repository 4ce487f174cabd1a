"""Before a command begins: what it will take, where that is long, or more than there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sim.output.errors import UserError
from sim.output.show import tell
from sim.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from sim.scenario.records import Scenario

LONG_S = 60.0
LARGE_BYTES = 4 * 2**30
_LOOKED_AT = 30


def foresee(scenarios: Sequence[Scenario], runs: float = 1, jobs: int = 1) -> None:
    """Say on standard error what is ahead, if it takes more than a minute or 4 GiB.

    Parameters
    ----------
    scenarios
        What is to be predicted.
    runs
        How often each of them is.
    jobs
        How many are predicted at once.

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
        tell(
            f"bandwise: this takes about {format_seconds(seconds / jobs, 2)} and "
            f"{format_bytes(size, 2)} of memory"
        )
