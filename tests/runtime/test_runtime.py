from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.plain_scenario import machine, plain

from sim.methods import METHODS
from sim.program import Program
from sim.records.scenario import Collectives, Jitter, Run
from sim.runtime import (
    CollectiveMismatch,
    Deadlock,
    ReplayError,
    SimulationError,
    TooLarge,
    simulate,
)
from sim.runtime.run import Runtime
from sim.trace.table import COLUMNS, WAIT, Row

WHOLE = range(2)


def ends(trace: Any, operation: str, rank: int = 0) -> list[float]:
    return [r.end_s for r in trace.rows if r.operation == operation and r.rank == rank]


def test_calling_starts_and_yield_waits() -> None:
    def overlapped(worker: Any) -> Program:
        reduction = worker.all_reduce(worker.model.parameters(WHOLE), "bf16")
        yield worker.compute(worker.model.accumulate)
        yield reduction
        yield worker.compute(worker.model.accumulate)

    trace = simulate(plain(overlapped))  # 200 bytes at 100 bytes/s during one second of compute
    assert ends(trace, "all_reduce") == [2.0]
    assert ends(trace, "accumulate") == [1.0, 3.0]
    assert trace.total_s == 3.0


def test_collective_begins_with_its_last_member() -> None:
    def late(worker: Any) -> Program:
        yield worker.compute(worker.model.accumulate, times=1 + 2 * worker.rank)
        yield worker.all_reduce(worker.model.parameters(WHOLE), "bf16")

    trace = simulate(plain(late))
    row = next(r for r in trace.rows if r.operation == "all_reduce" and r.rank == 0)
    assert (row.begin_s, row.ready_s, row.end_s) == (1.0, 3.0, 5.0)
    wait = next(r for r in trace.rows if r.operation == WAIT and r.rank == 0)
    assert (wait.begin_s, wait.ready_s, wait.end_s) == (1.0, 3.0, 5.0)


def two_at_once(worker: Any) -> Program:
    first = worker.all_reduce(worker.model.parameters(range(0, 1)), "bf16")
    second = worker.all_reduce(worker.model.parameters(range(1, 2)), "bf16")
    yield first
    yield second


@pytest.mark.parametrize(
    ("concurrent", "latency", "expected"),
    [
        (1, 0.0, [1.0, 2.0]),
        (2, 0.0, [2.0, 2.0]),  # the bandwidth is divided
        (1, 0.5, [2.0, 4.0]),
        (2, 0.5, [3.0, 3.0]),  # the latencies lie side by side
    ],
)
def test_concurrent_collectives(concurrent: int, latency: float, expected: list[float]) -> None:
    collectives = Collectives(algorithm="direct", concurrent=concurrent)
    trace = simulate(plain(two_at_once, latency=latency, collectives=collectives))
    assert ends(trace, "all_reduce") == pytest.approx(expected, rel=1e-12)


def test_flow_that_joins_later_slows_the_first_from_then_on() -> None:
    def staggered(worker: Any) -> Program:
        first = worker.all_reduce(worker.model.parameters(WHOLE), "bf16")  # 2 s alone
        yield worker.compute(worker.model.accumulate)
        second = worker.all_reduce(worker.model.parameters(range(0, 1)), "bf16")  # 1 s alone
        yield first
        yield second

    collectives = Collectives(algorithm="direct", concurrent=2)
    trace = simulate(plain(staggered, collectives=collectives))
    assert ends(trace, "all_reduce") == pytest.approx([3.0, 3.0], rel=1e-12)


def test_first_collective_of_each_group_costs_extra() -> None:
    collectives = Collectives(algorithm="direct", first_seconds=7.0)
    trace = simulate(plain(two_at_once, collectives=collectives))
    assert ends(trace, "all_reduce") == pytest.approx([8.0, 9.0], rel=1e-12)


def test_mismatch_names_rank_call_and_bytes() -> None:
    def wrong(worker: Any) -> Program:
        yield worker.all_reduce(worker.model.parameters(range(0, 1 + worker.rank)), "bf16")

    with pytest.raises(CollectiveMismatch) as caught:
        simulate(plain(wrong))
    assert str(caught.value) == (
        "call 0 of group main: rank 1 calls all_reduce of 200 bytes (bf16), but rank 0 called "
        "all_reduce of 100 bytes (bf16); every worker must issue the same collectives in the "
        "same order"
    )


def test_deadlock_names_who_waits_for_what() -> None:
    def leaves(worker: Any) -> Program:
        if worker.rank == 0:
            yield worker.all_reduce(worker.model.parameters(WHOLE), "bf16")

    with pytest.raises(Deadlock) as caught:
        simulate(plain(leaves))
    assert str(caught.value) == (
        "deadlock: rank 0 (main) waits for all_reduce of 200 bytes, call 0 of group main, "
        "which rank 1 never issued"
    )


def test_unknown_operation_is_named() -> None:
    def dreams(worker: Any) -> Program:
        def dream() -> None: ...

        yield worker.compute(dream)

    with pytest.raises(SimulationError, match="compute\\(dream\\): no scenario has a time"):
        simulate(plain(dreams))


def test_many_steps_without_communication_cost_one_event() -> None:
    def rows(steps: int) -> int:
        return len(simulate(_sgd(steps), rounds=3).rows)

    assert rows(10) == rows(100_000)


def _sgd(steps: int) -> Any:
    scenario = plain("diloco", {"sync_every": steps})
    jitter = replace(scenario.workers[0].machine, jitter=Jitter("gamma", 0.1))
    return replace(
        scenario, workers=tuple(replace(worker, machine=jitter) for worker in scenario.workers)
    )


def side(worker: Any) -> Program:
    yield worker.compute(worker.model.inner_optimizer, WHOLE)


def background(worker: Any) -> Program:
    activity = worker.spawn(side)
    yield worker.compute(worker.model.accumulate, times=2)
    yield activity


def test_spawned_program_computes_on_a_second_queue() -> None:
    trace = simulate(plain(background, machines=[machine(optimizer_seconds=3.0)]))
    assert ends(trace, "accumulate") == [2.0]
    assert trace.total_s == 3.0


def test_background_slowdown_holds_while_both_queues_compute() -> None:
    trace = simulate(
        plain(background, machines=[machine(optimizer_seconds=3.0, background_slowdown=2.0)])
    )
    assert ends(trace, "accumulate") == [4.0]  # 2 s of work at half speed; 1 s is left after it
    assert trace.total_s == 5.0


def test_communication_slows_computation_only_meanwhile() -> None:
    def overlapped(worker: Any) -> Program:
        reduction = worker.all_reduce(worker.model.parameters(WHOLE), "bf16")  # 2 s
        yield worker.compute(worker.model.accumulate, times=3)
        yield reduction

    slow = [machine(communication_slowdown=2.0)] * 2
    trace = simulate(plain(overlapped, machines=slow))
    row = next(r for r in trace.rows if r.operation == "accumulate")
    assert (row.work_s, row.end_s) == (3.0, 4.0)  # 1 s of work in the first 2 s


def test_the_first_operation_after_a_pause_is_cold() -> None:
    def waiting(worker: Any) -> Program:
        yield worker.compute(worker.model.accumulate, times=1)
        yield worker.all_reduce(worker.model.parameters(WHOLE), "bf16")  # 2 s
        yield worker.compute(worker.model.accumulate, times=1)
        yield worker.compute(worker.model.accumulate, times=1)

    cold = [machine(cold_start=((4.0, 1.0),))] * 2
    rows = [r for r in simulate(plain(waiting, machines=cold)).rows if r.rank == 0]
    took = [(r.begin_s, r.end_s, r.work_s) for r in rows if r.operation == "accumulate"]
    assert took == [(0.0, 1.0, 1.0), (3.0, 4.5, 1.5), (4.5, 5.5, 1.0)]  # 2 of the 4 s: half


def test_quantizing_takes_the_workers_time_before_the_collective() -> None:
    trace = simulate(
        plain(
            "diloco",
            {"sync_every": 1, "comm_dtype": "int8"},
            machines=[machine(quantize_seconds=0.25)] * 2,
            collectives=Collectives(algorithm="direct", quantize_block=0),
        ),
        rounds=1,
    )
    assert ends(trace, "quantize") == [1.25]
    assert ends(trace, "all_reduce") == [2.25]


def test_collectives_end_before_computations_at_one_instant() -> None:
    """ACCO's counts stay what they are when all durations are scaled by an awkward factor."""

    def counts(scale: float) -> list[float]:
        scenario = plain(
            "acco", machines=[machine(0.1 * scale)] * 2, bandwidth=2000.0 / scale, layers=(100, 100)
        )
        trace = simulate(scenario, rounds=5)
        return [row.times for row in trace.rows if row.operation == "accumulate"]

    assert counts(1.0) == counts(1 / 3) == counts(0.7) == counts(1e-7)


def test_a_computation_ends_once_with_the_collective_that_slowed_it_down() -> None:
    def background(worker: Any) -> Program:
        reduction = worker.all_reduce(worker.model.parameters(WHOLE), "bf16")
        yield worker.compute(worker.model.accumulate)
        yield reduction

    # 200 bytes take as long as 0.9 s of computation three times slower, but for the last digit.
    slowed = [machine(0.9, communication_slowdown=3.0)] * 2
    trace = simulate(plain(background, machines=slowed, bandwidth=200 / (3 * 0.9)))
    assert ends(trace, "accumulate") == ends(trace, "all_reduce") == pytest.approx([2.7])


def test_now_is_an_observation() -> None:
    seen = []

    def looks(worker: Any) -> Program:
        yield worker.compute(worker.model.accumulate)
        seen.append(worker.now)

    trace = simulate(plain(looks, workers=1))
    assert seen == [1.0]
    assert trace.observations() == {(0, "main"): [1.0]}
    simulate(plain(looks, machines=[machine(5.0)]), replay=trace)
    assert seen == [1.0, 1.0]


def test_replay_of_too_few_observations_is_an_error() -> None:
    trace = simulate(plain("acco"), rounds=1)
    with pytest.raises(ReplayError, match=r"looks once more .* run\.measured_rounds"):
        simulate(plain("acco"), rounds=3, replay=trace)


def test_measured_rounds_make_a_trace_as_long_as_a_run() -> None:
    asked = replace(plain("acco"), run=Run(measured_rounds=60))
    simulate(plain("acco"), rounds=60, replay=simulate(asked))


@pytest.mark.parametrize("method", METHODS)
def test_workers_simulated_once_give_the_same_trace(method: str) -> None:
    scenario = plain(method, workers=4, latency=0.01)
    merged = simulate(scenario, rounds=3)
    # A method that is not ours may look at its rank, so nothing is merged.
    named = replace(scenario.method, name="tests:not_ours")
    apart = simulate(replace(scenario, method=named), rounds=3)
    assert len(merged.context.standing_for) == 1
    assert len(apart.context.standing_for) == 4
    assert merged.frame().equals(apart.frame())
    assert merged.total_s == apart.total_s


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("acco", {}), ("streaming_diloco", {"overlap": "layer", "sync_every": 10})],
)
def test_a_run_that_is_continued_is_as_if_begun_with_all_its_rounds(
    method: str, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []

    class Counted(Runtime):
        def __init__(self, scenario: Any, rounds: int, *rest: Any, **more: Any) -> None:
            begun.append(rounds)
            super().__init__(scenario, rounds, *rest, **more)

    monkeypatch.setattr("sim.runtime.run.Runtime", Counted)
    scenario = plain(method, arguments, bandwidth=300.0)
    trace = simulate(scenario)
    rounds = len(trace.round_begins()) - 1
    assert begun == [5]
    assert rounds > 5
    whole = simulate(scenario, rounds=rounds)
    assert trace.total_s == whole.total_s
    assert [values(row) for row in trace.rows] == [values(row) for row in whole.rows]


def values(row: Row) -> list[str]:
    return [repr(getattr(row, name)) for name in COLUMNS]


def test_same_seed_same_rows_and_another_seed_others() -> None:
    def total(seed: int) -> float:
        scenario = _sgd(20)
        return simulate(replace(scenario, run=replace(scenario.run, seed=seed)), rounds=3).total_s

    assert total(1) == total(1) != total(2)


def test_programs_know_neither_clock_nor_tensors() -> None:
    import subprocess
    import sys

    code = (
        "import sys, sim.methods; bad = {'simpy', 'torch', 'numpy', 'pandas'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_simulator_imports_no_torch() -> None:
    import subprocess
    import sys

    imports = "import sys, sim.runtime, sim.figures.evaluation, sim.scenario"
    code = f"{imports}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_run_too_large_to_simulate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.runtime.limits.MOST_ROWS", 1000)
    with pytest.raises(TooLarge, match="passed 1000 operations in round"):
        simulate(plain("acco", bandwidth=1e-3))


def test_jitter_of_too_many_micro_batches_is_refused() -> None:
    with pytest.raises(TooLarge, match=r"site\.jitter: 10000000000 micro-batches"):
        simulate(_sgd(10**10), rounds=1)


def test_a_trace_of_another_method_is_not_replayed() -> None:
    trace = simulate(plain("acco"), rounds=2)
    with pytest.raises(ReplayError, match="the trace is of acco on 2 workers, not of dpu on 2"):
        simulate(plain("dpu"), replay=trace)


def test_a_replay_has_the_rounds_of_its_trace() -> None:
    trace = simulate(plain("acco"), rounds=3)
    assert simulate(plain("acco"), replay=trace).sequence() == trace.sequence()
