"""How much bandwidth a run needs: bisection on the simulator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt

from sim.figures import Figures, figures
from sim.program import ArgumentError
from sim.runtime import simulate
from sim.scenario.resolved import Scenario
from sim.subsets import links, scaled

_PRECISION = 1e-3  # relative, of the bandwidth
_UNLIMITED = 1e9  # times the bandwidth given: what no link can be
_NOTHING = 1e-9
_COARSE = 8.0  # steps of the search before the bisection
_ROUNDS_COUNTED = 8  # enough to see whether a round's communication fits


@dataclass(frozen=True)
class Requirement:
    """Answer for one target.

    ``outcome`` is "reached" (``bandwidth`` holds bytes/s per link and ``factor`` the multiple
    of the scenario's), "any" (every bandwidth reaches it) or "not reached" (no bandwidth
    does; ``best_utilization`` is the most, and ``waiting_for`` names the slowest site, or is
    empty where something else takes more).
    ``figures`` belong to the run at that bandwidth. ``counts_micro_batches``: the method computes
    always, and the answer is where its communication fits.
    """

    target: float
    outcome: str
    factor: float
    bandwidth: dict[str, float]
    best_utilization: float
    waiting_for: str
    figures: Figures
    counts_micro_batches: bool = False


def required(
    scenario: Scenario, targets: Sequence[float], link: str | None = None
) -> list[Requirement]:
    """Find the bandwidth at which each target utilization is reached.

    All links between sites are scaled by one factor (or the one named), bisected to 0.1 %.
    For methods that look at the clock and compute meanwhile (acco, dpu, wp), whose utilization
    is near one at any bandwidth, the question is instead at which bandwidth a round's
    communication fits into ``n_grad_accumulation`` micro-batches; ``targets`` are then ignored
    and one answer is returned.

    Raises
    ------
    ArgumentError
        If there is only one site, or no link of that name.
    """
    found = links(scenario)
    if not found:
        raise ArgumentError("required: the scenario has one site, so there is no link to size")
    if link is not None and link not in found:
        raise ArgumentError(f"--link {link}: no such link; there are {', '.join(found)}")
    runs: dict[float, Figures] = {}

    def at(factor: float) -> Figures:
        if factor not in runs:
            changed = scaled(scenario, factor, link)
            runs[factor] = figures(simulate(changed), changed)
        return runs[factor]

    first = at(_UNLIMITED)
    counting = first.looks and first.hand_overs > 0
    if counting and scenario.run.measured_rounds is None:
        scenario = replace(scenario, run=replace(scenario.run, measured_rounds=_ROUNDS_COUNTED))
        runs.clear()
    answers = []
    for target in (1.0,) if counting else targets:

        def reached(factor: float, target: float = target) -> bool:
            result = at(factor)
            if counting:
                return _fits(result, scenario)
            return result.compute_utilization >= target

        best = at(_UNLIMITED)
        waiting_for = _slowest(scenario, best)
        if not reached(_UNLIMITED):
            outcome, factor = "not reached", _UNLIMITED
        else:
            found_at = _bisect(reached)
            outcome = "any" if found_at is None else "reached"
            factor = min(runs) if found_at is None else found_at
        bandwidth = {
            name: rate * (factor if link is None or name == link else 1.0)
            for name, rate in found.items()
        }
        answers.append(
            Requirement(
                target,
                outcome,
                factor,
                bandwidth,
                best.compute_utilization,
                waiting_for,
                at(factor),
                counting,
            )
        )
    return answers


def _bisect(reached: Callable[[float], bool]) -> float | None:
    """Smallest factor that reaches, to 0.1 %; None where every one does.

    Down from far above, then by halving the logarithm.
    From above, because a method that accumulates while it communicates takes the more events
    to simulate, the less bandwidth it has.
    """
    high = _UNLIMITED
    low = high / _COARSE
    while reached(low):
        if low < _NOTHING:
            return None
        high, low = low, low / _COARSE
    while high / low > 1 + _PRECISION:
        middle = sqrt(low * high)
        if reached(middle):
            high = middle
        else:
            low = middle
    return high


def _fits(result: Figures, scenario: Scenario) -> bool:
    """Whether the slowest worker computed no more than its configured micro-batches.

    Faster ones always add some while they wait for it, whatever the bandwidth.
    """
    return any(
        count <= worker.machine.n_grad_accumulation * result.hand_overs * (1 + 1e-6)
        for count, worker in zip(result.micro_batches_per_worker, scenario.workers, strict=True)
    )


def _slowest(scenario: Scenario, best: Figures) -> str:
    """Site whose workers wait least when bandwidth is unlimited: the others wait for it."""
    if best.lost_to != "waiting":
        return ""  # latency, other links or the like: no site is to blame
    waits = [spent["waiting"] for spent in best.breakdown_by_worker]
    return scenario.sites[scenario.workers[waits.index(min(waits))].site].name
