"""Totals beyond the simulated rounds, held to simulations of the whole run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.plain_scenario import machine, plain
from support.scenarios_strategy import scenarios

import sim.runtime.window
from sim.figures.evaluation import Figures, figures
from sim.questions.comparison import compare
from sim.questions.target_search import required
from sim.records.scenario import Jitter, Run, Scenario
from sim.runtime import simulate

FEW = 40  # rounds simulated at most, so that these tests are quick


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim.runtime.window, "_MOST_ROUNDS", FEW)


def figures_of(scenario: Scenario) -> Figures:
    return figures(simulate(scenario))


def in_full(scenario: Scenario) -> float:
    assert scenario.run.rounds is not None
    return simulate(scenario, rounds=scenario.run.rounds).total_s


STREAMING: dict[str, Any] = {"sync_every": 2, "num_fragments": 2, "fragment_sync_delay": 10**6}
SATURATED = [
    ("streaming_diloco", STREAMING, 60.0),
    ("streaming_diloco", {**STREAMING, "fragment_sync_delay": 200}, 60.0),
    ("eager_diloco", {"sync_every": 1, "outer_sync_delay": 3000}, 140.0),
    ("eager_diloco", {"sync_every": 1, "outer_sync_delay": 70}, 140.0),
    ("delayed_diloco", {"sync_every": 1, "outer_sync_delay": 70}, 140.0),
]


@pytest.mark.parametrize(("method", "arguments", "bandwidth"), SATURATED)
def test_a_total_includes_the_backlog_that_grows_on_a_saturated_link(
    method: str, arguments: dict[str, Any], bandwidth: float
) -> None:
    """The delay is longer than what is simulated; a round's messages take longer than the round."""
    scenario = plain(method, arguments, bandwidth=bandwidth, run=Run(rounds=300))
    result = figures_of(scenario)
    assert result.extrapolated
    assert not result.steady
    assert not result.total_is_lower_bound
    assert result.total_wall_clock_s == pytest.approx(in_full(scenario), rel=1e-6)
    assert result.updates == pytest.approx(300)


def test_figures_of_a_growing_backlog_are_those_after_the_delay() -> None:
    """With a delay that is over within the simulated rounds the same pace is simply simulated."""
    late = {"sync_every": 1, "outer_sync_delay": 3000}
    growing = figures_of(plain("eager_diloco", late, bandwidth=140.0))
    reached = figures_of(plain("eager_diloco", {**late, "outer_sync_delay": 3}, bandwidth=140.0))
    assert reached.steady
    assert growing.backlog_s == pytest.approx(200 / 140 - 1)
    assert growing.compute_utilization == pytest.approx(reached.compute_utilization)
    assert growing.breakdown == pytest.approx(reached.breakdown)
    assert growing.tokens_per_s == pytest.approx(reached.tokens_per_s)
    assert growing.tokens_per_update == pytest.approx(reached.tokens_per_update)
    assert growing.mean_bandwidth_bytes_per_s == pytest.approx(140.0)
    assert growing.time_for(1e6) == pytest.approx(reached.time_for(1e6))


def test_without_saturation_a_long_delay_changes_no_total() -> None:
    arguments = {"sync_every": 1, "outer_sync_delay": 3000}
    scenario = plain("delayed_diloco", arguments, bandwidth=400.0, run=Run(rounds=300))
    result = figures_of(scenario)
    assert result.backlog_s == 0
    assert result.total_wall_clock_s == pytest.approx(in_full(scenario))


def test_what_is_computed_at_the_end_of_a_run_makes_the_total_a_lower_bound() -> None:
    """Eager updates take in each stale mean at the end: as many as the delay, which is far off."""
    machines = [machine(outer_step_seconds=0.5)] * 2
    arguments = {"sync_every": 1, "outer_sync_delay": 60}
    run = Run(rounds=300)
    scenario = plain("eager_diloco", arguments, bandwidth=400.0, machines=machines, run=run)
    result = figures_of(scenario)
    assert result.total_is_lower_bound
    assert 0.9 * in_full(scenario) < result.total_wall_clock_s <= in_full(scenario)


def test_a_delay_that_is_reached_is_in_the_total() -> None:
    machines = [machine(outer_step_seconds=0.5)] * 2
    arguments = {"sync_every": 1, "outer_sync_delay": 15}
    run = Run(rounds=200)
    scenario = plain("eager_diloco", arguments, bandwidth=400.0, machines=machines, run=run)
    result = figures_of(scenario)
    assert result.steady
    assert result.total_wall_clock_s == pytest.approx(in_full(scenario))


@pytest.mark.parametrize("run", [Run(rounds=200, measured_rounds=8), Run(rounds=200)])
def test_a_backlog_is_seen_with_chosen_rounds_and_with_jitter(run: Run) -> None:
    jitter = Jitter() if run.measured_rounds else Jitter("lognormal", 0.2)
    arguments = {"sync_every": 1, "outer_sync_delay": 900}
    machines = [machine(jitter=jitter)] * 2
    scenario = plain("eager_diloco", arguments, bandwidth=140.0, machines=machines, run=run)
    result = figures_of(scenario)
    assert not result.steady
    assert result.total_is_lower_bound
    assert result.total_wall_clock_s == pytest.approx(in_full(scenario), rel=0.01)


def test_a_collective_that_outlasts_what_is_simulated_is_not_taken_for_steady() -> None:
    """Four proceed at once, each for 20 rounds: after the delay a round takes five steps."""
    scenario = plain("eager_diloco", {"sync_every": 1, "outer_sync_delay": 60}, latency=10.0)
    collectives = replace(scenario.network.collectives, concurrent=4)
    network = replace(scenario.network, bandwidth=((1e9,) * 2,) * 2, collectives=collectives)
    scenario = replace(scenario, network=network, run=Run(rounds=300))
    result = figures_of(scenario)
    assert not result.steady
    assert result.total_wall_clock_s == pytest.approx(in_full(scenario), rel=0.01)


def test_required_bandwidth_is_not_any_where_messages_only_queue() -> None:
    """One step of 1 s, 200 bytes a round: 95 % need 190 bytes/s, however long the delay."""
    arguments = {"sync_every": 1, "outer_sync_delay": 3000}
    (answer,) = required(plain("eager_diloco", arguments, bandwidth=10.0), [0.95])
    assert answer.outcome == "reached"
    assert min(answer.bandwidth.values()) == pytest.approx(190.0, rel=2e-3)


def test_a_comparison_takes_the_pace_of_the_links() -> None:
    late = {"sync_every": 1, "outer_sync_delay": 3000}
    growing = plain("eager_diloco", late, bandwidth=50.0)
    (entry,) = compare({"eager_diloco": growing}, tokens=20.0 * 1000).entries
    assert entry.seconds == pytest.approx(4000.0)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_total_is_right_or_marked_as_the_least(data: st.DataObject) -> None:
    """Random networks and delays: within 1 % of the whole run, else at least, and not above it."""
    methods = ("streaming_diloco", "eager_diloco", "delayed_diloco")
    concurrent = data.draw(st.sampled_from([1, 1, 2, 4]))
    scenario = data.draw(scenarios(methods, concurrent))
    arguments = dict(scenario.method.arguments)
    if scenario.method.name == "streaming_diloco":
        arguments["fragment_sync_delay"] = data.draw(st.sampled_from([10**4, 300, 50]))
    else:
        arguments["outer_sync_delay"] = data.draw(st.integers(1, 150))
    method = replace(scenario.method, arguments=arguments)
    scenario = replace(scenario, method=method, run=Run(rounds=3 * FEW))
    result, full = figures_of(scenario), in_full(scenario)
    if result.total_is_lower_bound:
        assert result.total_wall_clock_s <= full * (1 + 1e-3)
    else:
        assert result.total_wall_clock_s == pytest.approx(full, rel=0.01)
