from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.plain_scenario import TOKENS, machine, plain

from sim.figures.breakdown import Accounts
from sim.figures.causes import CAUSES, INSIDE
from sim.figures.evaluation import figures
from sim.methods import METHODS
from sim.program import Program
from sim.records.scenario import Collectives, Jitter, Run
from sim.runtime import simulate
from sim.trace.table import Trace

WHOLE = range(2)


def figures_of(scenario: Any, **options: Any) -> Any:
    return figures(simulate(scenario, **options))


def nonzero(breakdown: dict[str, float]) -> dict[str, float]:
    return {cause: pytest.approx(share) for cause, share in breakdown.items() if abs(share) > 1e-12}


def test_blocking_diloco_by_hand() -> None:
    """4 steps of 1 s, 200 bytes at 100 bytes/s: a round takes 6 s, 4 of them computing."""
    result = figures_of(plain("diloco", {"sync_every": 4}))
    assert nonzero(result.breakdown) == {"compute": 4 / 6, "exposed_communication": 2 / 6}
    assert result.wall_clock_s == pytest.approx(6.0 * result.window_rounds)
    assert result.tokens_per_update == pytest.approx(4 * 2 * TOKENS)
    assert result.window_updates == pytest.approx(result.window_rounds)
    assert result.sent_bytes_per_worker == pytest.approx(200 * result.window_rounds)
    assert result.mean_bandwidth_bytes_per_s == pytest.approx(200 / 6)
    assert result.peak_bandwidth_bytes_per_s == pytest.approx(100.0)
    assert result.inner_step_s == pytest.approx(1.5)


def test_fast_worker_waits_and_both_are_exposed() -> None:
    """A worker twice as fast waits half of its computing time; the transfer exposes both."""
    machines = [machine(2.0), machine(1.0)]
    result = figures_of(plain("diloco", {"sync_every": 1}, machines=machines))
    slow, fast = result.breakdown_by_worker
    assert nonzero(slow) == {"compute": 2 / 4, "exposed_communication": 2 / 4}
    assert nonzero(fast) == {"compute": 1 / 4, "waiting": 1 / 4, "exposed_communication": 2 / 4}


def test_every_time_has_its_cause() -> None:
    machines = [
        machine(
            optimizer_seconds=0.1,
            outer_gradient_seconds=0.05,
            outer_step_seconds=0.05,
            quantize_seconds=0.2,
        )
    ] * 2
    scenario = plain(
        "diloco",
        {"sync_every": 2, "comm_dtype": "int8"},
        machines=machines,
        collectives=Collectives(algorithm="direct", quantize_block=0),
    )
    result = figures_of(scenario)
    length = 2 * 1.1 + 0.05 + 0.2 + 1.0 + 0.05
    assert nonzero(result.breakdown) == {
        "compute": 2 / length,
        "optimizer": 0.3 / length,
        "quantize": 0.2 / length,
        "exposed_communication": 1.0 / length,
    }


def test_contention_is_the_stretch() -> None:
    machines = [machine(communication_slowdown=2.0)] * 2
    result = figures_of(plain("delayed_diloco", {"sync_every": 4}, machines=machines))
    # 2 s on the wire during computation at half speed: 5 s for 4 s of work, nothing exposed.
    assert nonzero(result.breakdown) == {"compute": 4 / 5, "contention": 1 / 5}


def test_setup_is_the_first_collective_and_not_in_the_window() -> None:
    collectives = Collectives(algorithm="direct", first_seconds=9.0)
    result = figures_of(plain("diloco", {"sync_every": 4}, collectives=collectives))
    assert result.breakdown["setup"] == 0.0
    assert result.overall_breakdown["setup"] == pytest.approx(9.0 / result.total_wall_clock_s)


def test_waiting_for_the_end_of_the_run() -> None:
    def uneven(worker: Any) -> Program:
        yield worker.compute(worker.model.accumulate, times=1 + worker.rank)

    result = figures_of(plain(uneven))
    assert result.whole_run
    assert nonzero(result.breakdown_by_worker[0]) == {"compute": 0.5, "waiting": 0.5}
    assert nonzero(result.breakdown_by_worker[1]) == {"compute": 1.0}


def test_blocked_on_a_spawned_program_is_split_by_what_it_does() -> None:
    def side(worker: Any) -> Program:
        yield worker.all_reduce(worker.model.parameters(WHOLE), "bf16")  # 2 s
        yield worker.compute(worker.model.inner_optimizer, WHOLE)  # 1 s

    def background(worker: Any) -> Program:
        yield worker.spawn(side)

    result = figures_of(plain(background, machines=[machine(optimizer_seconds=1.0)] * 2))
    assert nonzero(result.breakdown) == {"exposed_communication": 2 / 3, "optimizer": 1 / 3}


def test_first_layer_backward_counts_what_is_computed() -> None:
    scenario = plain("diloco", {"sync_every": 3}, machines=[machine(first_layer_backward=0.5)] * 2)
    result = figures_of(scenario)
    step = (3 * 2 - 1) / (3 * 2)
    assert result.compute_utilization == pytest.approx(3 * step / (3 * step + 2))


def test_horizon_beyond_the_window_is_extrapolated() -> None:
    """12 rounds of 6 s: exactly what simulating all of them gives."""
    run = Run(tokens=12 * 4 * 2 * TOKENS)
    short = figures_of(plain("diloco", {"sync_every": 4}, run=run))
    scenario = plain("diloco", {"sync_every": 4}, run=run)
    whole = figures_of(scenario, rounds=1000)
    assert short.extrapolated
    assert not whole.extrapolated
    assert short.total_wall_clock_s == pytest.approx(72.0) == whole.total_wall_clock_s
    assert short.tokens == pytest.approx(run.tokens) == whole.tokens
    assert short.updates == pytest.approx(12) == whole.updates


def test_horizon_is_rounded_up_to_whole_rounds() -> None:
    result = figures_of(plain("diloco", {"sync_every": 4}, run=Run(steps=5)))
    assert result.tokens == pytest.approx(2 * 4 * 2 * TOKENS)


def test_acco_stops_on_the_reduced_count() -> None:
    run = Run(tokens=100 * TOKENS)
    result = figures_of(plain("acco", machines=[machine(1.0), machine(1.0, speed=0.25)], run=run))
    assert result.tokens >= run.tokens


@pytest.mark.parametrize("method", METHODS)
def test_fractions_add_up_to_one_for_every_worker(method: str) -> None:
    noisy = Jitter("lognormal", 0.2)
    machines = [
        machine(1.0, jitter=noisy, optimizer_seconds=0.01),
        machine(1.3, jitter=noisy, communication_slowdown=1.2),
        machine(0.7, jitter=noisy, quantize_seconds=0.1, background_slowdown=1.5),
    ]
    scenario = plain(method, machines=machines, latency=0.02)
    result = figures_of(replace(scenario, run=Run(measured_rounds=3)))
    for spent in [result.breakdown, *result.breakdown_by_worker]:
        assert set(spent) == set(CAUSES) - {INSIDE}
        assert all(-1e-12 <= share <= 1 + 1e-12 for share in spent.values())
        assert sum(spent.values()) == pytest.approx(1.0, abs=1e-9)
        assert spent["other"] == 0.0


def test_updates_count_what_each_method_commits() -> None:
    def per_round(method: str, **arguments: Any) -> float:
        result = figures_of(plain(method, arguments, layers=(10, 10, 10, 10)))
        return result.window_updates / result.window_rounds

    assert per_round("ddp") == pytest.approx(1)
    assert per_round("ddp", zero1=True) == pytest.approx(1)
    assert per_round("local_sgd", sync_every=7) == pytest.approx(1)
    assert per_round("streaming_diloco", sync_every=8, num_fragments=4) == pytest.approx(1)
    assert per_round("eager_diloco", sync_every=8) == pytest.approx(1)
    for method in ("acco", "dpu", "wp"):
        assert per_round(method) == pytest.approx(1)


def test_peak_is_over_one_inner_steps_time() -> None:
    """100 bytes in 0.1 s, once a second: the peak over one step is 100 bytes/s, not 1000."""
    result = figures_of(plain("local_sgd", {"sync_every": 1}, layers=(25, 25), bandwidth=1000.0))
    assert result.peak_bandwidth_bytes_per_s == pytest.approx(100.0)


@pytest.mark.parametrize("rounds", range(1, 9))
@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("ddp", {}),
        ("ddp", {"overlap": "layer"}),
        ("diloco", {"sync_every": 6}),
        ("local_sgd", {"sync_every": 6}),
        ("streaming_diloco", {"sync_every": 6, "num_fragments": 2}),
        ("streaming_diloco", {"sync_every": 6, "num_fragments": 3, "overlap": "layer"}),
        ("delayed_diloco", {"sync_every": 6}),
        ("delayed_diloco", {"sync_every": 6, "outer_sync_delay": 3, "num_fragments": 2}),
        ("eager_diloco", {"sync_every": 6}),
        ("eager_diloco", {"sync_every": 6, "outer_sync_delay": 2}),
    ],
)
def test_tokens_per_update_hold_at_every_horizon(
    method: str, arguments: dict[str, Any], rounds: int
) -> None:
    scenario = plain(method, arguments, layers=(10, 10, 10, 10), run=Run(rounds=rounds))
    result = figures_of(scenario)
    per_round = arguments.get("sync_every", 1) * 2 * TOKENS
    assert result.tokens_per_update == pytest.approx(per_round, rel=1e-12)
    assert result.updates == pytest.approx(rounds, rel=1e-12)
    assert result.tokens == pytest.approx(rounds * per_round, rel=1e-12)


def test_a_real_worker_pays_for_handing_over_what_it_sends() -> None:
    """Between a collective's call and what comes next lies the copy to the wire's type."""
    trace = simulate(plain("local_sgd", {"sync_every": 1}), rounds=2)
    copying = 0.125
    for row in trace.rows:  # all that follows the call is so much later
        first = row.operation == "all_reduce" and row.call == 0
        if row.begin_s >= 1 and not first:
            row.begin_s += copying
        if row.end_s == row.end_s and row.end_s > 1:
            row.end_s += copying
    measured = Trace(trace.rows, replace(trace.context, measured=True), trace.total_s + copying)
    end = measured.round_begins()[1].min()
    before = Accounts(Trace(trace.rows, trace.context, measured.total_s)).between(0.0, end)
    after = Accounts(measured).between(0.0, end)
    for rank in after:
        gained = after[rank]["exposed_communication"] - before[rank]["exposed_communication"]
        assert gained * end == pytest.approx(copying)
        assert before[rank]["other"] * end == pytest.approx(copying)
        assert after[rank]["other"] == 0


def test_rounds_with_many_looks_are_few_and_have_the_same_pace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A micro-batch more or less is at most 1/4096 of what each worker does in them."""
    unequal = [machine(1.0), machine(0.73)]
    scenario = plain("acco", machines=unequal, bandwidth=1.0, layers=(100, 100))
    few = figures(simulate(scenario))
    monkeypatch.setattr("sim.runtime.window.ENOUGH_LOOKS", 10**9)
    many = figures(simulate(scenario))
    assert (few.window_rounds, many.window_rounds) == (12, 64)
    assert min(few.micro_batches_per_worker) >= 4096
    assert few.tokens_per_s == pytest.approx(many.tokens_per_s, rel=1 / 4096)
    assert few.tokens_per_update == pytest.approx(many.tokens_per_update, rel=1 / 4096)
