"""Every figure, computed from the trace and nothing else, in both runtimes alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, nan
from typing import TYPE_CHECKING

import numpy as np

from sim.compute import GRADIENT, read_layers
from sim.trace import ROUND, SPAWN, WAIT, Row, Trace, Window
from sim.traffic import Exchange, Sent

if TYPE_CHECKING:
    from sim.scenario.resolved import Scenario

CAUSES = (
    "compute",
    "optimizer",
    "quantise",
    "contention",
    "exposed_communication",
    "waiting",
    "setup",
    "failure",
    "other",
)
"""Where the time goes: fractions of workers x wall-clock that add up to one."""

OPTIMIZER = frozenset(
    {
        "inner_optimizer",
        "optimizer_shard",
        "outer_gradient",
        "outer_step",
        "eager_outer_step",
        "average_parameters",
        "hand_over",
        "publish",
    }
)
# What commits an update, the first that occurs in the trace: outer steps, then optimizer steps.
_COMMITS = (
    "outer_step",
    "eager_outer_step",
    "average_parameters",
    "optimizer_shard",
    "inner_optimizer",
)


@dataclass(frozen=True)
class Figures:
    """Figures of one run. SI units; fractions between 0 and 1.

    The window (``wall_clock_s``, ``breakdown``, bytes, ``window_*``) is whole rounds in the
    steady state; ``total_wall_clock_s``, ``tokens`` and ``updates`` cover the whole run up to
    its horizon, beyond what was simulated ``extrapolated`` from the window. ``breakdown``
    maps CAUSES to fractions of workers x wall-clock; ``breakdown_by_worker`` has one per
    rank, ``overall_breakdown`` covers all that was simulated. ``peak_bandwidth_bytes_per_s``
    is the most that a worker sends in any one inner step's time, over that time.
    ``exchanges`` lists the collectives by kind. ``whole_run`` says that the run was too short
    for a window, so that everything counts; ``steady`` that the window's rounds repeat.
    """

    wall_clock_s: float
    total_wall_clock_s: float
    compute_utilization: float
    breakdown: dict[str, float]
    breakdown_by_worker: list[dict[str, float]]
    sent_bytes_per_worker: float
    mean_bandwidth_bytes_per_s: float
    peak_bandwidth_bytes_per_s: float
    window_rounds: int
    skipped_rounds: int
    window_tokens: float
    window_updates: float
    tokens: float
    updates: float
    tokens_per_update: float
    tokens_per_s: float
    micro_batches_per_worker: list[float]
    inner_step_s: float
    rounds: float
    extrapolated: bool
    exchanges: tuple[Exchange, ...] = ()
    whole_run: bool = False
    steady: bool = True
    overall_breakdown: dict[str, float] = field(default_factory=dict)

    @property
    def lost_to(self) -> str:
        """The cause, compute apart, that took most of the window."""
        return max(
            (cause for cause in CAUSES if cause != "compute"), key=self.breakdown.__getitem__
        )

    def time_for(self, tokens: float) -> float:
        """Seconds for ``tokens`` at the window's rate, without set-up and draining."""
        return tokens / self.tokens_per_s if self.tokens_per_s > 0 else inf


def figures(trace: Trace, scenario: Scenario) -> Figures:
    """Compute all figures of a simulated or measured run.

    Parameters
    ----------
    trace
        What happened.
    scenario
        Gives the horizon.
    """
    begins = trace.round_begins().max(axis=1, initial=0.0)
    rounds = max(0, len(begins) - 1)
    window = trace.context.window or Window(1, rounds, steady=True)
    skip, until = window.first, min(rounds, window.last)
    whole_run = until <= skip
    if whole_run:  # too short for a steady state: everything counts
        skip, begin, end = 0, 0.0, trace.total_s
    else:
        begin, end = float(begins[skip]), float(begins[until])
    window_rounds = rounds if whole_run else until - skip
    length = end - begin

    by_worker = _breakdown(trace, begin, end)
    weights = {rank: len(ranks) for rank, ranks in trace.context.standing_for.items()}
    breakdown = _mean(by_worker, weights)
    sent = Sent(trace)
    # A run too short for a window counts whole, with what it did before and after its rounds.
    first, last = (-1, rounds + 1) if whole_run else (skip, until)
    counts = _Counts(trace, rounds, first, last)
    micro_batches, window_updates = counts.window, counts.window_updates
    window_tokens = float(np.dot(micro_batches, trace.context.micro_batch_tokens))
    tokens_simulated = float(np.dot(counts.total, trace.context.micro_batch_tokens))
    rate = window_tokens / length if length > 0 else inf
    step_s = max(trace.context.step_s)
    # Inner steps of an average worker.
    steps = float(np.mean(micro_batches / np.array(trace.context.n_grad_accumulation)))

    total, tokens, updates, total_rounds = (
        trace.total_s,
        tokens_simulated,
        counts.total_updates,
        float(rounds),
    )
    beyond = _rounds_beyond(scenario, rounds, window_rounds, window_tokens, tokens_simulated)
    if beyond > 0:
        per_round = 1 / window_rounds
        total += beyond * length * per_round
        tokens += beyond * window_tokens * per_round
        updates += beyond * window_updates * per_round
        total_rounds += beyond
    sent_bytes = sent.between(begin, end)
    return Figures(
        wall_clock_s=length,
        total_wall_clock_s=total,
        compute_utilization=breakdown["compute"],
        breakdown=breakdown,
        breakdown_by_worker=[
            by_worker[rank]
            for _, rank in sorted(
                (other, rank)
                for rank, ranks in trace.context.standing_for.items()
                for other in ranks
            )
        ],
        sent_bytes_per_worker=sent_bytes,
        mean_bandwidth_bytes_per_s=sent_bytes / length if length > 0 else 0.0,
        peak_bandwidth_bytes_per_s=sent.peak(begin, end, step_s),
        window_rounds=window_rounds,
        skipped_rounds=skip,
        window_tokens=window_tokens,
        window_updates=window_updates,
        tokens=tokens,
        updates=updates,
        tokens_per_update=window_tokens / window_updates if window_updates else nan,
        tokens_per_s=rate,
        micro_batches_per_worker=micro_batches.tolist(),
        inner_step_s=length / steps if steps else nan,
        rounds=total_rounds,
        extrapolated=beyond > 0,
        exchanges=sent.exchanges,
        whole_run=whole_run,
        steady=window.steady,
        overall_breakdown=_mean(_breakdown(trace, 0.0, trace.total_s), weights),
    )


def _rounds_beyond(
    scenario: Scenario, rounds: int, window_rounds: int, window_tokens: float, simulated: float
) -> float:
    """Rounds between the end of the simulation and the horizon; whole rounds only."""
    run = scenario.run
    if run.rounds is not None:
        return max(0, run.rounds - rounds)
    target = run.tokens
    if run.steps is not None:
        target = run.steps * sum(worker.machine.batch_tokens for worker in scenario.workers)
    if target is None or window_tokens <= 0:
        return 0
    missing = (target - simulated) / (window_tokens / window_rounds)
    return float(max(0.0, np.ceil(missing - 1e-9)))


def _mean(by_rank: dict[int, dict[str, float]], weights: dict[int, int]) -> dict[str, float]:
    total = sum(weights.values())
    return {
        cause: sum(weights[rank] * by_rank[rank][cause] for rank in by_rank) / total
        for cause in CAUSES
    }


def _breakdown(trace: Trace, begin: float, end: float) -> dict[int, dict[str, float]]:
    """Fractions of the time between begin and end, by simulated rank."""
    length = end - begin
    ends: dict[int, float] = {}
    # Until when the worker's queue is busy with what was called so far: blocked or not, that
    # time is the computation's.
    busy: dict[int, float] = {}
    seconds = {rank: dict.fromkeys(CAUSES, 0.0) for rank in trace.context.standing_for}
    sides: dict[tuple[int, str, int], list[Row]] | None = None
    for row in trace.rows:
        rank, stop = row.rank, row.end_s
        if row.program != "main":
            continue
        if stop > ends.get(rank, 0.0):
            ends[rank] = stop
        start = row.begin_s
        if row.operation == WAIT:
            start = max(start, busy.get(rank, 0.0))
        elif row.call >= 0:
            continue  # a collective takes no time of its own: waiting for it does
        else:
            busy[rank] = max(stop, busy.get(rank, 0.0))
        if stop <= start or stop <= begin or start >= end:
            continue
        if row.operation == WAIT:
            if row.group not in ("", "main") and _is_spawned(trace, row.group):
                if sides is None:
                    sides = _sides(trace)
                _blocked_on_side(row, sides, max(begin, start), end, trace, seconds[rank])
            else:
                _blocked(row, max(begin, start), end, trace, seconds[rank])
            continue
        share = (min(stop, end) - max(start, begin)) / (stop - start)
        taken = stop - start
        work = row.work_s if row.work_s == row.work_s else taken  # nan: not calibrated
        if work > taken:
            work = taken
        if row.operation in GRADIENT:
            cause = "compute"
        elif row.operation in OPTIMIZER:
            cause = "optimizer"
        elif row.operation == "quantize":
            cause = "quantise"
        else:
            cause = "other"
        seconds[rank][cause] += share * work
        seconds[rank]["contention"] += share * (taken - work)
    result = {}
    for rank, spent in seconds.items():
        after = max(0.0, end - max(begin, ends.get(rank, 0.0)))
        spent["waiting"] += after
        if length <= 0:
            result[rank] = {cause: (1.0 if cause == "other" else 0.0) for cause in CAUSES}
            continue
        rest = length - sum(spent.values())
        spent["other"] += rest if abs(rest) > 1e-9 * length else 0.0
        result[rank] = {cause: value / length for cause, value in spent.items()}
    return result


def _is_spawned(trace: Trace, group: str) -> bool:
    return any(row.operation == SPAWN and row.group == group for row in trace.rows)


def _sides(trace: Trace) -> dict[tuple[int, str, int], list[Row]]:
    """Rows of each spawned program: (rank, name, number) -> rows."""
    sides: dict[tuple[int, str, int], list[Row]] = {}
    for row in trace.rows:
        if row.program != "main":
            name, _, number = row.program.rpartition("#")
            sides.setdefault((row.rank, name, int(number)), []).append(row)
    return sides


def _blocked(row: Row, begin: float, end: float, trace: Trace, spent: dict[str, float]) -> None:
    """Split a wait for a collective: until its last member arrived, and after."""
    start, stop = max(row.begin_s, begin), min(row.end_s, end)
    if stop <= start:
        return
    arrived = min(max(row.ready_s, start), stop)
    spent["waiting"] += arrived - start
    exposed = stop - arrived
    if row.call == 0 and trace.context.first_collective_s > 0:
        setup = min(exposed, trace.context.first_collective_s)
        spent["setup"] += setup
        exposed -= setup
    spent["exposed_communication"] += exposed


def _blocked_on_side(
    row: Row,
    sides: dict[tuple[int, str, int], list[Row]],
    begin: float,
    end: float,
    trace: Trace,
    spent: dict[str, float],
) -> None:
    """Split a wait for a spawned program by what that program did meanwhile."""
    begin, end = max(begin, row.begin_s), min(end, row.end_s)
    for side in sides.get((row.rank, row.group, row.call), []):
        if side.operation == WAIT:
            _blocked(side, begin, end, trace, spent)
        elif side.call < 0 and side.end_s > side.begin_s:
            taken = min(side.end_s, end) - max(side.begin_s, begin)
            if taken > 0:
                cause = "quantise" if side.operation == "quantize" else "optimizer"
                spent[cause] += taken


class _Counts:
    """Micro-batches by rank and updates of rank 0, in the window's rounds and in all.

    Counted by rounds, each worker's own, and not by the clock: whole rounds hold whole numbers.
    """

    def __init__(self, trace: Trace, whole: int, first: int, last: int) -> None:
        self.window = np.zeros(trace.workers)
        self.total = np.zeros(trace.workers)
        self.window_updates = self.total_updates = 0.0
        rounds = dict.fromkeys(trace.context.standing_for, -1)
        # Counted in layers and divided once, so that what is whole stays whole.
        layers = trace.context.layers
        window, total = dict.fromkeys(rounds, 0), dict.fromkeys(rounds, 0)
        commits: dict[str, list[int]] = {}
        observer = next(iter(rounds))
        for row in trace.rows:
            rank, operation = row.rank, row.operation
            if operation == ROUND:
                rounds[rank] += 1
            elif operation in GRADIENT:
                number = _layers_trained(row, trace)
                total[rank] += number
                if first <= rounds[rank] < last:
                    window[rank] += number
            elif operation == "eager_outer_step" and rounds[rank] >= whole:
                continue  # takes in a stale mean at the end: no new gradient, no update
            elif operation in _COMMITS and rank == observer and row.detail != "estimate":
                some = row.detail[:1].isdigit()
                number = row.times * (len(read_layers(row.detail)) if some else layers)
                counted = commits.setdefault(operation, [0, 0])
                counted[1] += number
                if first <= rounds[rank] < last:
                    counted[0] += number
        for rank, ranks in trace.context.standing_for.items():
            self.window[list(ranks)] = window[rank] / layers
            self.total[list(ranks)] = total[rank] / layers
        for operation in _COMMITS:
            if operation in commits:
                in_window, in_all = commits[operation]
                self.window_updates, self.total_updates = in_window / layers, in_all / layers
                break


def _layers_trained(row: Row, trace: Trace) -> int:
    """Micro-batches of a row times L: a backward pass may come in parts."""
    layers = trace.context.layers
    if row.operation == "accumulate":
        return row.times * layers
    if row.operation == "inner_step":
        return row.times * trace.context.n_grad_accumulation[row.rank] * layers
    if row.operation == "backward":
        return row.times * len(read_layers(row.detail))
    return 0
