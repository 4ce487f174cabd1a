"""Every figure, computed from the trace and nothing else, in both runtimes alike."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf, isnan, nan

import numpy as np

from sim.figures.breakdown import Accounts
from sim.figures.packed_runs import trained
from sim.figures.throughput import Throughput, throughput
from sim.figures.traffic import Exchange, Sent
from sim.operations import OPERATIONS
from sim.recording.vocabulary import COMPUTATION
from sim.trace.layers import read_layers
from sim.trace.table import LOOK, ROUND, Context, Row, Trace, Window

# What micro-batches are made of.
_TRAINS = {
    *(row.name for row in OPERATIONS.values() if row.scales_with == "micro-batches"),
    COMPUTATION,
}


@dataclass(frozen=True)
class Figures:
    """Figures of one run. SI units; fractions between 0 and 1.

    The evaluated rounds (``wall_clock_s``, ``breakdown``, bytes, ``window_*``) are whole rounds in
    the steady state; ``total_wall_clock_s``, ``tokens`` and ``updates`` cover the whole run up to
    its horizon, beyond what was simulated ``extrapolated`` at the evaluated rounds' pace.
    ``breakdown`` maps CAUSES to fractions of workers x wall-clock; ``breakdown_by_worker`` has
    one per rank, ``overall_breakdown`` covers all that was simulated.
    ``peak_bandwidth_bytes_per_s`` is the most that a worker sends in any one inner step's time,
    over that time. ``exchanges`` lists the collectives by kind. ``whole_run`` says that the run
    was too short for evaluated rounds, so that everything counts; ``looks`` that the method looks
    at the clock; ``hand_overs`` is how often in the evaluated rounds gradients were handed to an
    update while computation continued.

    ``steady`` says that the evaluated rounds repeat. Where they do not because a backlog grows on
    the links, they count with the seconds in which the links carry them, ``backlog_s`` a round
    more than they took when simulated; these are spent on exposed communication, at the horizon
    or when the method's delay is over. ``lower_bound`` says that the pace found is only the least:
    times are then at least what they say, utilization and rates at most. ``shortened``: how many
    times shorter the pieces of links that vary were simulated than they are. ``throughput`` is None
    where some accelerators are not known. ``egress_bytes_by_site`` are the bytes that leave each
    site in the evaluated rounds, ``total_egress_bytes_by_site`` in the whole run; they are of
    simulated runs (:mod:`sim.figures.egress`).
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
    looks: bool = False
    hand_overs: int = 0
    overall_breakdown: dict[str, float] = field(default_factory=dict)
    backlog_s: float = 0.0
    lower_bound: bool = False
    shortened: float = 1.0
    throughput: Throughput | None = None
    egress_bytes_by_site: tuple[float, ...] = ()
    total_egress_bytes_by_site: tuple[float, ...] = ()

    @property
    def total_is_lower_bound(self) -> bool:
        """Whether the run takes at least ``total_wall_clock_s``."""
        return self.extrapolated and self.lower_bound

    @property
    def declares_updates(self) -> bool:
        """Whether the program declared what commits an update; if not, none are counted."""
        return not isnan(self.updates)

    @property
    def lost_to(self) -> str:
        """The cause, compute apart, that took most of the evaluated rounds."""
        return max(
            (cause for cause in self.breakdown if cause != "compute"),
            key=self.breakdown.__getitem__,
        )

    def time_for(self, tokens: float) -> float:
        """Seconds for ``tokens`` at the evaluated rounds' rate, without set-up and draining."""
        return tokens / self.tokens_per_s if self.tokens_per_s > 0 else inf


def figures(trace: Trace) -> Figures:
    """Compute all figures of a simulated or measured run.

    A trace whose context names no horizon ends with what was simulated.
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

    accounts = Accounts(trace)
    by_worker = accounts.between(begin, end)
    weights = {rank: len(ranks) for rank, ranks in trace.context.standing_for.items()}
    breakdown = _mean(by_worker, weights)
    sent = Sent(trace)
    # A run too short for a window counts whole, with what it did before and after its rounds.
    first, last = (-1, rounds + 1) if whole_run else (skip, until)
    counts = _Counts(trace, first, last)
    micro_batches, window_updates = counts.window, counts.window_updates
    if not window.steady and not window_updates and rounds:
        # None was applied yet: what is in flight is applied at the end, round by round.
        window_updates = counts.total_updates * window_rounds / rounds
    window_tokens = float(np.dot(micro_batches, trace.context.micro_batch_tokens))
    tokens_simulated = float(np.dot(counts.total, trace.context.micro_batch_tokens))
    sent_bytes = sent.between(begin, end)
    simulated_s, length = length, max(length, window.round_s * window_rounds)
    if length > simulated_s > 0:  # the links need longer than the rounds took
        share = simulated_s / length
        sent_bytes /= share
        by_worker = {rank: _stretched(spent, share) for rank, spent in by_worker.items()}
        breakdown = _mean(by_worker, weights)
    rate = window_tokens / length if length > 0 else inf
    step_s = max(trace.context.step_s)
    # Inner steps of an average worker.
    accumulation = np.array(trace.context.n_grad_accumulation)
    steps = float(np.mean(micro_batches / accumulation))
    all_steps = float(np.mean(counts.total / accumulation))

    total, tokens, updates, total_rounds = (
        trace.total_s,
        tokens_simulated,
        counts.total_updates,
        float(rounds),
    )
    beyond = _rounds_beyond(trace.context, rounds, window_rounds, window_tokens, tokens_simulated)
    if beyond > 0:
        per_round = 1 / window_rounds
        total += beyond * length * per_round
        tokens += beyond * window_tokens * per_round
        updates += beyond * window_updates * per_round
        total_rounds += beyond
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
        exchanges=tuple(
            replace(kind, per_step=kind.count / all_steps if all_steps else 0.0)
            for kind in sent.exchanges
        ),
        whole_run=whole_run,
        steady=window.steady,
        looks=LOOK in trace.operations,
        hand_overs=counts.hand_overs,
        overall_breakdown=_mean(accounts.between(0.0, trace.total_s), weights),
        backlog_s=(length - simulated_s) / window_rounds if window_rounds else 0.0,
        lower_bound=window.lower_bound,
        shortened=window.shortened,
        throughput=_throughput(trace.context, rate),
    )


def _rounds_beyond(
    context: Context, rounds: int, window_rounds: int, window_tokens: float, simulated: float
) -> float:
    """Rounds between the end of the simulation and the horizon; whole rounds only."""
    if context.horizon_rounds is not None:
        return max(0, context.horizon_rounds - rounds)
    target = context.horizon_tokens
    if target is None or window_tokens <= 0:
        return 0
    missing = (target - simulated) / (window_tokens / window_rounds)
    return float(max(0.0, np.ceil(missing - 1e-9)))


def _throughput(context: Context, tokens_per_s: float) -> Throughput | None:
    if context.measured:  # on what it computed is known to its runtime, not to the scenario
        return None
    accelerators = list(zip(context.accelerators, context.peak_flops, strict=True))
    return throughput(context.flops_per_token, tokens_per_s, accelerators)


def _stretched(spent: dict[str, float], share: float) -> dict[str, float]:
    """Fractions of a time of which ``spent`` covers ``share`` and waiting for links the rest."""
    longer = {cause: part * share for cause, part in spent.items()}
    longer["exposed_communication"] += 1 - share
    return longer


def _mean(by_rank: dict[int, dict[str, float]], weights: dict[int, int]) -> dict[str, float]:
    total = sum(weights.values())
    return {
        cause: sum(weights[rank] * by_rank[rank][cause] for rank in by_rank) / total
        for cause in next(iter(by_rank.values()))
    }


class _Counts:
    """Micro-batches by rank and updates of a mean worker, in the window's rounds and in all.

    Updates are committed layers over all layers: nan where the program declares none.

    Counted by rounds, each worker's own, and not by the clock: whole rounds hold whole numbers.
    """

    def __init__(self, trace: Trace, first: int, last: int) -> None:
        self.window = np.zeros(trace.workers)
        self.total = np.zeros(trace.workers)
        self.hand_overs = 0
        found = trained(trace, first, last)
        if found is not None:
            in_window, in_all, within, altogether = found
            for place, ranks in enumerate(trace.context.standing_for.values()):
                self.window[list(ranks)] = in_window[place] / trace.context.layers
                self.total[list(ranks)] = in_all[place] / trace.context.layers
            whole = trace.context.layers * trace.workers
            self.window_updates, self.total_updates = within / whole, altogether / whole
            return
        rounds = dict.fromkeys(trace.context.standing_for, -1)
        # Counted in layers and divided once, so that what is whole stays whole.
        layers = trace.context.layers
        window, total = dict.fromkeys(rounds, 0), dict.fromkeys(rounds, 0)
        committed, all_committed = 0, 0
        declared = False
        observer = next(iter(rounds))
        # Where gradients are handed over to an update, they count then: what is computed after
        # the last hand-over enters none.
        hands_over = "hand_over" in trace.operations
        pending = dict.fromkeys(rounds, 0)
        for row in trace.rows:
            if row.call >= 0:  # a collective, or waiting: most rows of many runs
                continue
            rank, operation = row.rank, row.operation
            if row.commits:
                declared = True
                by_layer = row.detail[:1].isdigit()
                number = row.times * (len(read_layers(row.detail)) if by_layer else layers)
                number *= len(trace.context.standing_for[rank])
                all_committed += number
                if first <= rounds[rank] < last:
                    committed += number
            if operation == ROUND:
                rounds[rank] += 1
            elif operation in _TRAINS or operation == "hand_over":
                number = _layers_trained(row, trace)
                if operation == "hand_over":
                    number, pending[rank] = pending[rank], 0
                elif hands_over:
                    pending[rank] += number
                    continue
                total[rank] += number
                if first <= rounds[rank] < last:
                    window[rank] += number
                    self.hand_overs += rank == observer and operation == "hand_over"
        for rank, ranks in trace.context.standing_for.items():
            self.window[list(ranks)] = window[rank] / layers
            self.total[list(ranks)] = total[rank] / layers
        whole = layers * trace.workers
        self.window_updates = committed / whole if declared else nan
        self.total_updates = all_committed / whole if declared else nan


def _layers_trained(row: Row, trace: Trace) -> int:
    """Micro-batches of a row times L: a backward pass may come in parts."""
    layers = trace.context.layers
    if row.operation == "accumulate":
        return row.times * layers
    if row.operation == "inner_step":
        return row.times * trace.context.n_grad_accumulation[row.rank] * layers
    if row.operation == "backward":
        return row.times * len(read_layers(row.detail))
    if row.operation == COMPUTATION:  # a recorded step, as a whole, where it ends
        return row.commits * layers
    return 0
