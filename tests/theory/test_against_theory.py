"""The simulator, event by event, and the theory, without events, give the same times to 1e-9."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.scenarios_strategy import DTYPES, scenarios, stretched, with_links
from support.thorough import examples

from sim.methods import METHODS
from sim.methods.inside import INSIDE
from sim.program import Program, Worker, wire_bytes
from sim.records.scenario import Machine, Method, Scenario
from sim.runtime import simulate
from sim.theory import longest_path, wall_clock

RELATIVE = 1e-9
CLAIM = settings(
    derandomize=True,
    deadline=None,
    max_examples=examples(100),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
WHOLE_RUNS = st.integers(1, 4)
#: Methods that may have several collectives in flight.
SEVERAL = ("ddp", "diloco", "streaming_diloco", "eager_diloco", "fsdp")


def assert_the_same(scenario: Scenario, rounds: int) -> None:
    expected = wall_clock(scenario, rounds)
    trace = simulate(scenario, rounds=rounds)
    assert trace.total_s == pytest.approx(expected.total_s, rel=RELATIVE, abs=0)
    begins = trace.round_begins()
    assert begins.shape == expected.round_begins_s.shape
    np.testing.assert_allclose(begins, expected.round_begins_s, rtol=RELATIVE, atol=0)


@pytest.mark.parametrize("method", sorted(METHODS | INSIDE))
def test_every_method_takes_as_long_as_its_recurrence_says(method):
    @CLAIM
    @given(scenarios((method,)), WHOLE_RUNS)
    def claim(scenario, rounds):
        assert_the_same(scenario, rounds)

    claim()


def test_long_runs_do_not_drift_apart():
    @settings(CLAIM, max_examples=examples(25))
    @given(scenarios(), st.integers(20, 40))
    def claim(scenario, rounds):
        assert_the_same(scenario, rounds)

    claim()


@CLAIM
@given(
    scenarios(("acco", "dpu", "wp")),
    st.integers(1, 5),
    st.sampled_from([1.0, 0.1, 1 / 3, 7.7]) | st.floats(0.01, 100),
)
def test_a_communication_that_ends_with_a_micro_batch_asks_for_no_other(scenario, extra, scale):
    """Collectives take a whole number of micro-batches in all: a tie, whatever the rounding."""
    workers = tuple(
        replace(
            worker,
            machine=Machine(
                step_seconds=worker.machine.n_grad_accumulation * scale,
                batch_tokens=1.0,
                n_grad_accumulation=worker.machine.n_grad_accumulation,
            ),
        )
        for worker in scenario.workers
    )
    batch = workers[0].machine.n_grad_accumulation
    arguments = {"comm_dtype": "bf16"}
    collectives = replace(scenario.network.collectives, first_seconds=0.0)
    scenario = replace(
        scenario,
        workers=workers,
        method=replace(scenario.method, arguments=arguments),
        network=replace(scenario.network, collectives=collectives),
    )
    size = wire_bytes(scenario.model.parameters, "bf16")
    param_dtype = scenario.model.param_dtype
    gathered = wire_bytes(scenario.model.parameters, param_dtype)
    seconds = (
        longest_path(scenario, "all_reduce", 8.0).total_s
        + longest_path(scenario, "reduce_scatter", size).total_s
        + longest_path(scenario, "all_gather", gathered).total_s
    )
    scenario = stretched(scenario, (batch + extra) * scale / seconds, computation=False)
    assert_the_same(scenario, 6)
    phases = 2 if scenario.method.name == "acco" else 1
    steps = batch + 6 * phases * (batch + extra)
    assert wall_clock(scenario, 6).total_s == pytest.approx(steps * scale, rel=RELATIVE)


@CLAIM
@given(scenarios(), WHOLE_RUNS)
def test_a_lone_worker_only_computes(scenario, rounds):
    site = replace(scenario.sites[0], workers=1)
    collectives = replace(scenario.network.collectives, order=())
    network = replace(
        scenario.network, bandwidth=((inf,),), latency=((0.0,),), collectives=collectives
    )
    arguments = {
        key: value[:1] if isinstance(value, tuple) else value
        for key, value in scenario.method.arguments.items()
    }
    method = replace(scenario.method, arguments=arguments)
    workers = scenario.workers[:1]
    alone = replace(scenario, method=method, workers=workers, sites=(site,), network=network)
    assert_the_same(alone, rounds)


def every_collective(worker: Worker, *, dtype: str) -> Program:
    """Each operation once, one after another."""
    model = worker.model
    buffer = model.parameters(range(model.num_layers))
    worker.next_round(steps=1)
    yield worker.all_reduce(buffer, dtype)
    yield worker.reduce_scatter(buffer, dtype)
    yield worker.all_gather(buffer, dtype)
    yield worker.all_to_all(buffer, dtype)
    yield worker.broadcast(buffer, dtype)
    yield worker.broadcast(buffer, dtype, root=worker.workers - 1)


@CLAIM
@given(scenarios(), st.sampled_from(DTYPES))
def test_every_collective_takes_its_longest_path(scenario, dtype):
    method = Method("every_collective", every_collective, {"dtype": dtype})
    scenario = replace(scenario, method=method)
    block = scenario.network.collectives.quantize_block
    size = wire_bytes(scenario.model.parameters, dtype, block)
    trace = simulate(scenario, rounds=1)
    measured = {
        row.operation: row.end_s - row.ready_s
        for row in trace.rows
        if row.rank == 0 and row.group and row.operation != "wait"
    }
    assert len(measured) == 6
    measured["all_reduce"] -= scenario.network.collectives.first_seconds
    for operation, seconds in measured.items():
        alone = longest_path(scenario, operation, size, dtype)
        # A difference of two times of the run: exact to the run's last digits, not to its own.
        assert seconds == pytest.approx(alone.total_s, rel=RELATIVE, abs=1e-12 * trace.total_s)


def test_several_at_once_that_do_not_disturb_each_other():
    overlapping = 0

    @settings(CLAIM, max_examples=examples(300))
    @given(
        st.sampled_from([2, 3, 50]).flatmap(lambda k: scenarios(SEVERAL, concurrent=k)),
        WHOLE_RUNS,
    )
    def claim(scenario, rounds):
        nonlocal overlapping
        # Links so fast that latency is all: it is nobody's to share.
        scenario = with_links(scenario, 1e3, 1.0)
        try:
            at_once = wall_clock(scenario, rounds).total_s
        except ValueError:  # they would share a link: not in the theory's domain
            assume(False)
        assert_the_same(scenario, rounds)
        collectives = replace(scenario.network.collectives, concurrent=1)
        alone = replace(scenario.network, collectives=collectives)
        in_turn = wall_clock(replace(scenario, network=alone), rounds).total_s
        assert at_once <= in_turn * (1 + RELATIVE)
        overlapping += at_once < in_turn * (1 - RELATIVE)

    claim()
    # How many is not the same everywhere: hypothesis also draws constants of imported modules.
    assert overlapping >= 3
