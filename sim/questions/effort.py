"""What predicting a scenario takes, in seconds of one processor and bytes, before it is begun.

The method's text is run for a few rounds by a worker that only counts: what it computes, starts
and waits for. From the counts, a rule with measured constants (benchmarks/effort.py):

    seconds = runs * (t_run + T t_transfer + P t_pair) + rows t_row + messages t_message
    bytes   = T b_transfer + P b_pair + (most rows of one run) b_row

T are the transfers of the schedules that are laid over the links, P the pairs of sites, where
their links differ, runs how often the scenario is simulated until its rounds repeat, and again in
every replication. Not known beforehand is how long a method that looks at the clock computes
while it communicates: there the estimate is a lower bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from typing import Any

from sim.figures.evaluation import Figures
from sim.members import members_of
from sim.models.sized import Sized
from sim.network.direct import by_site
from sim.network.gloo import SEGMENT_BYTES
from sim.network.schedules import GLOO, form_of
from sim.program import Buffer, Program, declared_operation, wire_bytes
from sim.questions.replications import FEWEST
from sim.records.connections import limits
from sim.records.scenario import Jitter, Scenario
from sim.records.varying import period_of
from sim.runtime.computation import Computation, Factors
from sim.runtime.limits import MOST_MESSAGES, PACKED_FROM
from sim.runtime.periods import FEW, MOST_ROWS, PERIODS, SEEN
from sim.runtime.rehearsal import Alone
from sim.runtime.run import merged
from sim.runtime.window import ENOUGH_LOOKS, MEASURED_LOOKING
from sim.trace.layers import applied_to

RUN_S = 0.01
TRANSFER_S, TRANSFER_BYTES = 0.6e-6, 130.0
STEP_S = 0.02e-6  # one transfer in a round that is repeated
PAIR_S, PAIR_BYTES = 0.15e-6, 60.0
ROW_S, ROW_BYTES = 14e-6, 1400.0
PACKED_ROW_BYTES = 200.0  # of a row that is kept in columns
MESSAGE_S = 12e-6

_COUNTED = 3  # rounds
_MOST_COUNTED = 200_000  # operations; a program that has more is not counted to its end

# Rounds that are simulated (:mod:`sim.runtime.window`): until they repeat, and then under random
# timing.
_STILL, _LOOKING, _LOOKING_OFTEN, _RANDOM = 15, 80, 19, 56
_STILL_RUNS = 2
_OF_PERIODS = 2  # until it is known how many rounds are whole periods, and over these


@dataclass(frozen=True)
class Effort:
    """Seconds of one processor, and bytes at once."""

    seconds: float
    bytes: float


def effort(scenario: Scenario) -> Effort:
    """Estimate what it takes to predict a scenario."""
    counted = _count(scenario)
    network, workers = scenario.network, len(scenario.workers)
    pairs = max(len(network.bandwidth.rows), len(network.latency.rows)) ** 2
    gloo = network.collectives.algorithm == GLOO and workers > 1
    simulated = len(merged(scenario, merge=not gloo))
    rows_a_round = counted.rows / counted.rounds * simulated
    rounds, runs, longest = _rounds(scenario, _LOOKING if counted.looks else _STILL)
    if (period := period_of(scenario)) is not None and not _chosen(scenario):
        rounds, runs, longest = _of_periods(scenario, period, counted, rows_a_round)
    laid, steps = _laid(scenario, counted)
    messages = counted.messages * rounds / counted.rounds if gloo else 0.0
    seconds = runs * (RUN_S + laid * TRANSFER_S + steps * STEP_S + pairs * PAIR_S)
    seconds += rows_a_round * rounds * ROW_S + messages * MESSAGE_S
    row_bytes = PACKED_ROW_BYTES if simulated >= PACKED_FROM and not gloo else ROW_BYTES
    size = laid * TRANSFER_BYTES + pairs * PAIR_BYTES + rows_a_round * longest * row_bytes
    return Effort(seconds, size)


def effort_of_looking(scenario: Scenario, found: Figures) -> float:
    """Estimate the seconds of another such run of a method that looks at the clock.

    Counting cannot know for how long it computes while it communicates; the figures of a run do.
    Each micro-batch is two rows, what is computed and the look after it.
    """
    if not found.window_rounds:
        return inf
    a_round = sum(found.micro_batches_per_worker) / found.window_rounds
    workers = len(scenario.workers)
    share = len(merged(scenario, merge=True)) / workers
    often = MEASURED_LOOKING[0] * a_round / workers >= ENOUGH_LOOKS
    rounds, _, _ = _rounds(scenario, _LOOKING_OFTEN if often else _LOOKING)
    period = period_of(scenario)
    if period is not None and period < inf and found.wall_clock_s > 0:
        rounds = max(rounds, PERIODS * period * found.window_rounds / found.wall_clock_s)
    return 2 * a_round * share * rounds * ROW_S


def _rounds(scenario: Scenario, until_settled: int) -> tuple[float, int, float]:
    """Return the rounds of all runs, how many runs, and the rounds of the longest.

    ``until_settled`` are those that are simulated until it is known which to evaluate.
    """
    run = scenario.run
    most = inf if run.rounds is None else run.rounds
    replications = (run.replications or FEWEST) if scenario.random else 1
    if run.skip_rounds is not None or run.measured_rounds is not None:
        skip = 1 if run.skip_rounds is None else run.skip_rounds
        one = min(most, skip + (run.measured_rounds or 4) + 1)
        return one * replications, replications, one
    still = min(2 * most, until_settled)
    if not scenario.random:
        return still, _STILL_RUNS, min(most, still)
    one = min(most, _RANDOM)
    return still + one * replications, _STILL_RUNS + replications, one


def _chosen(scenario: Scenario) -> bool:
    return scenario.run.skip_rounds is not None or scenario.run.measured_rounds is not None


def _of_periods(
    scenario: Scenario, period: float, counted: _Counted, rows_a_round: float
) -> tuple[float, int, float]:
    """Return the same as :func:`_rounds` where links vary: at most, as nothing is waited for."""
    run = scenario.run
    horizon = inf if run.rounds is None else float(run.rounds)
    if scenario.horizon_tokens is not None and counted.tokens > 0:
        horizon = scenario.horizon_tokens / (counted.tokens / counted.rounds)
    most = MOST_ROWS / rows_a_round
    gloo = scenario.network.collectives.algorithm == GLOO
    if gloo:
        most = min(most, MOST_MESSAGES / max(1.0, counted.messages / counted.rounds))
    a_round = counted.computed_s / counted.rounds
    needed = PERIODS * period / a_round if a_round > 0 and period < inf else inf
    whole = horizon if horizon <= most else 0.0
    few = SEEN if counted.messages and gloo else FEW
    one = min(most, horizon, max(needed, few, whole))
    runs = ((run.replications or FEWEST) + 1 if scenario.random else 1) * _OF_PERIODS
    return one * runs, runs, one


def _laid(scenario: Scenario, counted: _Counted) -> tuple[float, float]:
    """Return the transfers of all schedules, and those that are gone through one by one."""
    workers = len(scenario.workers)
    algorithm = scenario.network.collectives.algorithm
    unequal = len({(site.workers, site.uplink, site.downlink) for site in scenario.sites}) > 1
    laid = steps = 0.0
    limited = bool(limits(scenario.network))
    for operation, dtype in counted.calls:
        form = form_of(operation, algorithm, dtype)
        if "direct" in form and not by_site(scenario.network, limited=limited):
            laid += workers * (workers - 1)
        laid += workers
        if "ring" in form and (unequal or len(scenario.sites) < workers):
            steps += 2.0 * workers**2
        if form == "hierarchical" and unequal:
            steps += 2.0 * len(scenario.sites) * workers
    return laid, steps


class _Ended:
    """An activity that was over as soon as it was begun."""

    def __init__(self, counted: _Counted) -> None:
        self._counted = counted

    @property
    def done(self) -> bool:
        self._counted.looks += 1
        self._counted.row()
        return True


class _Enough(Exception):  # noqa: N818 - not an error
    """Enough operations have been counted; counting more would take noticeable time."""


class _Counted(Alone[_Ended]):
    """A worker without clock and peers that counts; see :class:`sim.program.Worker`."""

    def __init__(self, scenario: Scenario) -> None:
        machine = scenario.workers[0].machine
        model = Sized(scenario.model, machine.n_grad_accumulation, machine.batch_tokens)
        super().__init__(scenario, 0, model)
        self._ended = _Ended(self)
        self.rounds = self.rows = self.looks = self._yielded = 0
        self.messages = self.tokens = self.computed_s = 0.0  # messages are gloo's
        constant = Factors(Jitter(), 0, 0)
        self._computation: Computation | None = None  # where seconds matter
        if period_of(scenario) is not None:
            self._computation = Computation(machine, scenario.model.layers, self.workers, constant)
        self.calls: set[tuple[str, str]] = set()

    def row(self) -> None:
        self.rows += 1
        if self.rows > _MOST_COUNTED:
            raise _Enough

    def waited(self) -> None:
        """Count what is yielded: a program may yield the same for ever."""
        self._yielded += 1
        if self._yielded > _MOST_COUNTED:
            raise _Enough

    @property
    def now(self) -> float:
        self.looks += 1
        self.row()
        return float(self.looks)

    def next_round(self, steps: int | tuple[int, ...] | None = None) -> bool:
        if self.rounds >= _COUNTED:
            raise _Enough
        self.rounds += 1
        self.row()
        self._progress.begin(steps)
        self.tokens = self._progress.tokens
        return True

    def compute(
        self,
        verb: Callable[..., None],
        *args: Any,
        times: int = 1,
        commits: bool = False,
        **kwargs: Any,
    ) -> _Ended:
        self.row()
        if verb.__name__ == "inner_step":
            self.row()
        if self._computation is not None:
            layers = applied_to(args, kwargs)[0] if args or kwargs else None
            declared = declared_operation(verb)
            self.computed_s += self._computation.seconds(verb.__name__, layers, times, declared)
        self.model.perform(verb, args, kwargs, times)
        return self._ended

    def _collective(
        self,
        operation: str,
        buffer: Buffer,
        dtype: str,
        mean: bool = False,
        over: Iterable[int] | None = None,
    ) -> _Ended:
        self.row()  # of the collective, and where it is waited for
        self.row()
        self.calls.add((operation, dtype))
        members = len(members_of(over, self.workers))
        segments = max(members, wire_bytes(buffer.elements, dtype) / SEGMENT_BYTES)
        passes = 2 if operation == "all_reduce" else 1
        self.messages += 2 * passes * (members - 1) * segments  # each is announced by one
        return self._ended

    def control(
        self, round_trips: int, seconds: float = 0.0, *, over: Iterable[int] | None = None
    ) -> _Ended:
        self.row()  # of the messages, and where they are waited for
        self.row()
        return self._ended

    def spawn(self, program: Callable[..., Program], *args: Any) -> _Ended:
        self.row()
        self.row()
        for _ in program(self, *args):
            self.waited()
        return self._ended


def _count(scenario: Scenario) -> _Counted:
    counted = _Counted(scenario)
    try:
        for _ in scenario.method.program(counted, **scenario.method.arguments):
            counted.waited()
    except Exception:  # what is wrong with the program is said when it is simulated
        pass
    counted.rounds = max(1, counted.rounds)
    return counted
