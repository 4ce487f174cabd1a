"""How much bandwidth a run needs: bisection on the simulator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt

from sim.figures.evaluation import Figures, figures
from sim.program import ArgumentError
from sim.questions.replications import Interval, replicated, replications_of
from sim.questions.variations import links, scaled
from sim.records.scenario import Scenario
from sim.records.varying import period_of
from sim.runtime import simulate

_PRECISION = 1e-3  # relative, of the bandwidth
_UNLIMITED = 1e9  # times the bandwidth given: what no link can be
_NOTHING = 1e-9
_COARSE = 8.0  # steps of the search before the bisection
_FINE = 1.005  # the first one near what another replication has found
SEARCHED = 15  # bandwidths of one target's search, about
_ROUNDS_COUNTED = 8  # enough to see whether a round's communication fits


@dataclass(frozen=True)
class Requirement:
    """Answer for one target.

    ``outcome`` is "reached" (``bandwidth`` holds bytes/s per link and ``factor`` the multiple
    of the scenario's), "any" (every bandwidth reaches it) or "not reached" (no bandwidth
    does; ``best_utilization`` is the most, and ``waiting_for`` names the slowest site, or is
    empty where something else takes more).
    ``figures`` belong to the run at that bandwidth. ``counts_micro_batches``: the method computes
    always, and the answer is where its communication fits. Where something is random, every
    replication has an answer of its own: this is the median of them, and ``interval`` that of
    their factors (0 where any bandwidth reaches it, infinite where none does).
    """

    target: float
    outcome: str
    factor: float
    bandwidth: dict[str, float]
    best_utilization: float
    waiting_for: str
    figures: Figures
    counts_micro_batches: bool
    interval: Interval


def required(
    scenario: Scenario, targets: Sequence[float], link: str | None = None
) -> list[Requirement]:
    """Find the bandwidth at which each target utilization is reached.

    All links between sites are scaled by one factor (or the one named), bisected to 0.1 %.
    For methods that look at the clock and compute meanwhile (acco, dpu, wp), whose utilization
    is near one at any bandwidth, the question is instead at which bandwidth a round's
    communication fits into ``n_grad_accumulation`` micro-batches; ``targets`` are then ignored
    and one answer is returned.

    Where something is random, each replication is searched for its own answer, with the same
    random numbers at every bandwidth, and the median is taken: that is the bandwidth at which the
    median of the replications reaches the target.

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
    searches: dict[int, _Search] = {}

    def search(number: int) -> _Search:
        if number not in searches:
            searches[number] = _Search(
                replace(scenario, replication=scenario.replication + number), link
            )
        return searches[number]

    counting = search(0).counting
    answers = []
    for target in (1.0,) if counting else targets:

        def answer(number: int, target: float = target) -> Requirement:
            return search(number).answer(target, near=search(0).factors.get(target))

        every = replicated(answer, _ordered, replications_of(scenario))
        answers.append(replace(every.median, interval=every.interval))
    return answers


class _Search:
    """The search in one replication; runs are kept, so that targets share them."""

    def __init__(self, scenario: Scenario, link: str | None) -> None:
        self.scenario, self.link = scenario, link
        #: Target -> the factor that was found.
        self.factors: dict[float, float] = {}
        self._runs: dict[float, Figures] = {}
        first = self._at(_UNLIMITED)
        self.counting = first.looks and first.hand_overs > 0
        few = scenario.run.measured_rounds is None and period_of(scenario) is None
        if self.counting and few:
            run = replace(scenario.run, measured_rounds=_ROUNDS_COUNTED)
            self.scenario = replace(scenario, run=run)
            self._runs.clear()

    def _at(self, factor: float) -> Figures:
        if factor not in self._runs:
            changed = scaled(self.scenario, factor, self.link)
            self._runs[factor] = figures(simulate(changed))
        return self._runs[factor]

    def answer(self, target: float, near: float | None) -> Requirement:
        """Return the answer for one target; ``near`` is what another replication has found."""

        def reached(factor: float) -> bool:
            result = self._at(factor)
            if self.counting:
                return _fits(result, self.scenario)
            return result.compute_utilization >= target

        best = self._at(_UNLIMITED)
        if not reached(_UNLIMITED):
            outcome, factor = "not reached", _UNLIMITED
        else:
            found_at = _bisect(reached, near)
            outcome = "any" if found_at is None else "reached"
            factor = min(self._runs) if found_at is None else found_at
        if outcome == "reached":
            self.factors[target] = factor
        bandwidth = {
            name: rate * (factor if self.link is None or name == self.link else 1.0)
            for name, rate in links(self.scenario).items()
        }
        return Requirement(
            target,
            outcome,
            factor,
            bandwidth,
            best.compute_utilization,
            _slowest(self.scenario, best),
            self._at(factor),
            self.counting,
            Interval(1, factor, factor),
        )


def _ordered(answer: Requirement) -> float:
    """Return a factor by which answers are ordered."""
    return {"any": 0.0, "not reached": inf}.get(answer.outcome, answer.factor)


def _bisect(reached: Callable[[float], bool], near: float | None = None) -> float | None:
    """Smallest factor that reaches, to 0.1 %; None where every one does.

    Down from far above, or from a little above ``near``, then by halving the logarithm.
    From above, because a method that accumulates while it communicates takes the more events
    to simulate, the less bandwidth it has.
    """
    step = _COARSE if near is None else _FINE
    high = _UNLIMITED if near is None else near * step
    while not reached(high):  # of the factor without limit it is known
        step = min(step**2, _COARSE)
        high = min(high * step, _UNLIMITED)
    low = high / step
    while reached(low):
        if low < _NOTHING:
            return None
        step = min(step**2, _COARSE)
        high, low = low, low / step
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
