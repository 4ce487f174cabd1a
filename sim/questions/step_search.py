"""How often a run may synchronize: the fewest inner steps that reach a target utilization."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

from sim.figures.evaluation import Figures, figures
from sim.program import ArgumentError
from sim.questions.replications import Interval, replicated, replications_of
from sim.runtime import simulate
from sim.scenario.records import Scenario

ALL_TRIED = 16  # up to here every number is simulated
MOST = 4096  # inner steps; more are not tried
SEARCHED = 25  # numbers of steps of one target's search, about


@dataclass(frozen=True)
class FewestSteps:
    """Answer for one target.

    ``outcome`` is "reached" (``sync_every`` is the least that does), "any" (1 does) or
    "not reached" (``sync_every`` is then the most that was tried). ``utilization`` is that of
    ``sync_every`` inner steps, ``utilization_before`` that of one step less (0 where none is);
    ``figures`` are those of the run with ``sync_every``.
    """

    target: float
    outcome: str
    sync_every: int
    utilization: float
    utilization_before: float
    interval: Interval
    figures: Figures


def fewest_steps(scenario: Scenario, target: float) -> FewestSteps:
    """Find the least ``sync_every`` that reaches ``target``, a fraction.

    Every number up to 16 is tried, then doubles, then the last interval is halved: above 16 the
    utilization is taken to grow with the steps within that interval. Where something is random,
    the median of the replications' answers.

    Raises
    ------
    ArgumentError
        If the method takes no ``sync_every`` or has one per worker, or there is one worker.
    """
    if "sync_every" not in scenario.method.arguments:
        raise ArgumentError(f"{scenario.method.name} takes no sync_every")
    if isinstance(scenario.method.arguments["sync_every"], tuple):
        raise ArgumentError(
            "sync_every is given per worker; give one number to search the fewest inner steps"
        )
    if len(scenario.workers) < 2:
        raise ArgumentError("the scenario has one worker, which synchronizes with nobody")

    def answer(number: int) -> FewestSteps:
        seeded = replace(scenario, replication=scenario.replication + number)
        return _search(seeded, target)

    def ordered(found: FewestSteps) -> float:
        return inf if found.outcome == "not reached" else float(found.sync_every)

    every = replicated(answer, ordered, replications_of(scenario))
    return replace(every.median, interval=every.interval)


def _search(scenario: Scenario, target: float) -> FewestSteps:
    runs: dict[int, Figures] = {}

    def at(steps: int) -> float:
        if steps == 0:
            return 0.0
        if steps not in runs:
            arguments = {**scenario.method.arguments, "sync_every": steps}
            method = replace(scenario.method, arguments=arguments)
            runs[steps] = figures(simulate(replace(scenario, method=method)))
        return runs[steps].compute_utilization

    high = 1
    while at(high) < target and high < MOST:
        high = high + 1 if high < ALL_TRIED else 2 * high
    reached = at(high) >= target
    low = high - 1 if high <= ALL_TRIED else high // 2
    while reached and high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if at(middle) >= target else (middle, high)
    outcome = ("any" if high == 1 else "reached") if reached else "not reached"
    before, there = at(high - 1), at(high)
    return FewestSteps(target, outcome, high, there, before, Interval(1, high, high), runs[high])
