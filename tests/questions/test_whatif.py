"""What-if questions: bandwidth needed, methods compared, sites left out; the steady window."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.plain_scenario import TOKENS, machine, plain

from sim.figures.evaluation import figures
from sim.models.quadratic import Quadratic
from sim.models.rounding import carried, reduced
from sim.network.filling import progressive_filling
from sim.program import ArgumentError, Program
from sim.questions.comparison import compare
from sim.questions.target_search import required
from sim.questions.variations import links, scaled, single_site, with_sites
from sim.records.scenario import Collectives, CollectiveTable, Jitter, ModelSize, Run
from sim.runtime import simulate
from sim.runtime.computation import Factors
from sim.trace.perfetto import events


def figures_of(scenario: Any, **options: Any) -> Any:
    return figures(simulate(scenario, **options))


# -- the window ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("delayed_diloco", {"outer_sync_delay": 3}),
        ("eager_diloco", {"outer_sync_delay": 3}),
        ("streaming_diloco", {"num_fragments": 2, "fragment_sync_delay": 35}),
    ],
)
def test_a_backlog_that_builds_up_slowly_is_seen(method: str, arguments: dict[str, Any]) -> None:
    """Communication takes 5 % longer than a round: in the end a round takes as long as it."""
    scenario = plain(method, {"sync_every": 10, **arguments}, bandwidth=200 / 10.5)
    result = figures_of(scenario)
    assert result.steady
    assert result.compute_utilization == pytest.approx(10 / 10.5, rel=1e-9)


@pytest.mark.parametrize("outer_sync_delay", [3, 5, 6, 9])
def test_a_wait_that_comes_once_in_many_rounds_is_seen(outer_sync_delay: int) -> None:
    """Results travel 12 rounds: every k + 1 rounds take these 12 and one, computing k + 1."""
    arguments = {"sync_every": 4, "outer_sync_delay": outer_sync_delay}
    collectives = Collectives(concurrent=16)
    scenario = plain(
        "delayed_diloco", arguments, bandwidth=1e12, latency=24.0, collectives=collectives
    )
    result = figures_of(scenario)
    assert result.steady
    assert result.compute_utilization == pytest.approx((outer_sync_delay + 1) / 13, rel=1e-9)


@pytest.mark.parametrize("outer_sync_delay", [1, 3])
def test_a_lead_that_builds_up_slowly_is_seen(outer_sync_delay: int) -> None:
    """The faster worker runs ahead as far as it can; then it waits for the slower one."""
    machines = [machine(1.0), machine(1.0, speed=0.9)]
    arguments = {"sync_every": 100, "outer_sync_delay": outer_sync_delay}
    result = figures_of(plain("delayed_diloco", arguments, machines=machines, bandwidth=1e9))
    assert [spent["compute"] for spent in result.breakdown_by_worker] == pytest.approx([0.9, 1.0])


def test_the_total_of_a_slowly_filling_run_is_that_of_all_its_rounds() -> None:
    arguments = {"sync_every": 10, "outer_sync_delay": 3}
    scenario = plain("delayed_diloco", arguments, bandwidth=200 / 10.5, run=Run(steps=4000))
    short = figures_of(scenario)
    assert short.extrapolated
    assert short.total_wall_clock_s == pytest.approx(simulate(scenario, rounds=400).total_s)


def test_acco_counts_what_enters_an_update() -> None:
    run = Run(tokens=2000 * TOKENS)
    machines = [machine(1.0), machine(1.0, speed=0.4)]
    scenario = plain("acco", machines=machines, bandwidth=70.0, run=run)
    short, whole = figures_of(scenario), figures_of(scenario, rounds=10_000)
    assert short.extrapolated
    assert short.total_wall_clock_s == pytest.approx(whole.total_wall_clock_s, rel=0.01)
    assert whole.tokens >= run.tokens
    assert whole.tokens - whole.tokens_per_update < run.tokens  # not a round more


def test_no_window_is_steady_that_is_not() -> None:
    def speeding(worker: Any) -> Program:
        """Each round does one step more: it never repeats."""
        steps = 0
        while worker.next_round(steps=1):
            steps += 1
            yield worker.compute(worker.model.accumulate, times=steps)

    assert not figures_of(plain(speeding)).steady


# -- required bandwidth ----------------------------------------------------------------------


def test_required_bandwidth_is_the_closed_form_to_a_thousandth() -> None:
    """Blocking DiLoCo: u = H T / (H T + S / W), so W = S u / (H T (1 - u))."""
    scenario = plain("diloco", {"sync_every": 7}, bandwidth=3.0)
    for answer in required(scenario, [0.3, 0.8, 0.97]):
        exact = 200 * answer.target / (7 * (1 - answer.target))
        for rate in answer.bandwidth.values():
            assert exact <= rate * (1 + 1e-9) <= exact * 1.001 * (1 + 1e-6)


def test_required_for_acco_is_where_a_half_batch_hides_one_round() -> None:
    """n = 3 micro-batches of 1 s; reduce-scatter and all-gather of 200 B: 100 B each way."""
    scenario = plain("acco", machines=[machine(3.0, n_grad_accumulation=3)] * 2)
    (answer,) = required(scenario, [0.5])
    assert next(iter(answer.bandwidth.values())) == pytest.approx((200 + 8) / 3, rel=2e-3)


def test_a_target_that_every_bandwidth_reaches_or_none_does() -> None:
    machines = [machine(1.0), machine(1.0, speed=0.5)]
    low, high = required(plain("diloco", {"sync_every": 1}, machines=machines), [1e-12, 0.9])
    assert low.outcome == "any"
    assert (high.outcome, high.waiting_for) == ("not reached", "s1")
    assert high.best_utilization == pytest.approx(0.75)


def test_a_link_that_nothing_crosses_needs_any_bandwidth() -> None:
    scenario = plain("acco", workers=3, bandwidth=1e6, collectives=Collectives())
    (answer,) = required(scenario, [0.5], link="s1-s0")  # the ring goes 0, 1, 2
    assert answer.outcome == "any"


def test_required_of_a_users_method_that_looks_at_the_clock() -> None:
    from sim.methods import METHODS

    def mine(worker: Any) -> Program:
        yield from METHODS["acco"](worker)

    (answer,) = required(plain(mine), [0.5])
    assert answer.outcome == "reached"


def test_no_link_no_answer() -> None:
    with pytest.raises(ArgumentError, match="one site"):
        required(plain("diloco", workers=1), [0.5])


# -- other sites, other links ----------------------------------------------------------------


def test_the_best_single_site_is_the_fastest() -> None:
    machines = [machine(2.0), machine(0.5), machine(1.0)]
    result = compare({"diloco": plain("diloco", machines=machines)}, tokens=1000 * TOKENS)
    assert result.best_site == "s1"
    assert result.best_site_s == pytest.approx(500.0)
    assert result.entries[0].speed_up == pytest.approx(500.0 / result.entries[0].seconds)
    assert {entry.left_out for entry in result.without} == {"s0", "s1", "s2"}


def test_equal_sites_are_left_out_once() -> None:
    result = compare({"diloco": plain("diloco", workers=4)})
    assert [entry.left_out for entry in result.without] == ["any one of the 4 equal sites"]


def test_a_site_left_out_takes_its_workers_arguments_along() -> None:
    scenario = plain("streaming_diloco", {"fragment_sync_delay": (0, 3, 7)}, workers=3)
    kept = with_sites(scenario, [0, 2])
    assert kept.method.arguments["fragment_sync_delay"] == (0, 7)
    assert [site.name for site in kept.sites] == ["s0", "s2"]


def test_the_others_draw_the_same_numbers_when_a_site_is_left_out() -> None:
    noisy = [machine(jitter=Jitter("lognormal", 0.4)) for _ in range(3)]
    scenario = plain("diloco", {"sync_every": 3}, machines=noisy)

    def work(of: Any, rank: int) -> list[float]:
        rows = simulate(of, rounds=3).rows
        return [row.work_s for row in rows if row.rank == rank and row.operation == "inner_step"]

    assert work(with_sites(scenario, [1, 2]), 1) == work(scenario, 2)


def test_measured_times_follow_the_links() -> None:
    """Twice the bandwidth halves what was measured, and a site alone is not on the WAN."""
    scenario = plain("diloco", {"sync_every": 4})
    table = CollectiveTable("all_reduce", "bf16", (100.0, 300.0), (2.0, 6.0))
    collectives = replace(scenario.network.collectives, tables=(table,))
    scenario = replace(scenario, network=replace(scenario.network, collectives=collectives))
    assert figures_of(scenario).compute_utilization == pytest.approx(4 / 8)
    assert figures_of(scaled(scenario, 2.0)).compute_utilization == pytest.approx(4 / 6)
    assert figures_of(single_site(scenario, 0)).compute_utilization == pytest.approx(1.0)


def test_links_have_names() -> None:
    scenario = plain("diloco", workers=2)
    capped = replace(scenario.sites[1], uplink=7.0)
    scenario = replace(scenario, sites=(scenario.sites[0], capped))
    assert links(scenario) == {"s0-s1": 100.0, "s1-s0": 100.0, "s1.uplink": 7.0}
    assert links(scaled(scenario, 3.0, "s1.uplink"))["s1.uplink"] == 21.0


# -- small mathematics -----------------------------------------------------------------------


@pytest.mark.parametrize("distribution", ["normal", "lognormal", "gamma"])
def test_jitter_has_mean_one_and_the_given_spread(distribution: str) -> None:
    factors = Factors(Jitter(distribution, 0.2), seed=3, stream=0)
    drawn = np.array([factors.sum(1) for _ in range(40_000)])
    assert drawn.mean() == pytest.approx(1.0, abs=0.005)
    assert drawn.std() == pytest.approx(0.2, abs=0.005)


def test_empirical_jitter_draws_the_samples() -> None:
    factors = Factors(Jitter("empirical", samples=(0.5, 1.5)), seed=3, stream=0)
    assert {factors.sum(1) for _ in range(50)} == {0.5, 1.5}


def test_how_factors_are_taken_changes_none() -> None:
    def stream() -> Factors:
        return Factors(Jitter("normal", 0.9), seed=1, stream=4)

    one = stream()
    assert sum(one.sum(1) for _ in range(2500)) == pytest.approx(stream().sum(2500), rel=1e-12)


def test_who_crosses_a_full_link_stops_growing() -> None:
    """The first flow's own bottleneck is elsewhere; the shared link is full at 1 / 1.2."""
    speeds = progressive_filling(np.array([[0.2, 1.0], [1.0, 0.0]]))
    assert speeds == pytest.approx([1 / 1.2, 1 / 1.2])


def test_flows_grow_in_proportion_to_what_they_could_use() -> None:
    """Both could fill their most used link; the shared one is full at half of either."""
    speeds = progressive_filling(np.array([[1.0, 0.5], [0.5, 1.0]]))
    assert speeds == pytest.approx([2 / 3, 2 / 3])
    assert progressive_filling(np.array([[1.0], [0.5]])) == pytest.approx([0.5, 1.0])


def test_quantized_sums_are_quantized_once_more_for_the_way_back() -> None:
    a, b = np.array([1.0, 0.5]), np.array([1.0, 0.25])
    sent = [carried(a, "fp4"), carried(b, "fp4")]
    total = sent[0] + sent[1]
    assert reduced(sent, "fp4", 256, mean=False).tolist() == carried(total, "fp4").tolist()
    assert reduced(sent, "fp4", 256, mean=False, back=False).tolist() == total.tolist()
    assert carried(total, "fp4").tolist() != total.tolist()


@pytest.mark.parametrize("nesterov", [True, False])
def test_outer_sgd_by_hand(nesterov: bool) -> None:
    toy = Quadratic(ModelSize("one", 1, 1, (1,), "fp32"), 0, 1)
    toy.outer[:] = 10.0
    layers = range(1)
    velocity, outer = 0.0, 10.0
    for gradient in (1.0, -2.0, 0.5):
        toy.delta(layers).values[:] = gradient
        toy.outer_step(layers, 0, 0.1, 0.9, nesterov, 0.0)
        velocity = 0.9 * velocity + gradient
        outer -= 0.1 * (gradient + 0.9 * velocity if nesterov else velocity)
        assert toy.outer[0] == pytest.approx(outer)


def test_the_timelines_counter_is_the_rate_on_the_link() -> None:
    trace = simulate(plain("delayed_diloco", {"sync_every": 3}), rounds=2)
    rates = [event["args"]["Gbit/s"] for event in events(trace) if event["ph"] == "C"]
    assert max(rates) == pytest.approx(100 * 8e-9, abs=1e-6)


def test_the_peak_is_found_wherever_it_begins() -> None:
    """Two bursts 0.6 s apart, once in 3 steps: one step's time holds both only off the marks."""

    def bursts(worker: Any) -> Program:
        model = worker.model
        while worker.next_round(steps=3):
            yield worker.compute(model.accumulate, times=1)
            yield worker.all_reduce(model.parameters(range(0, 1)), "bf16")
            yield worker.compute(model.inner_optimizer, range(2))
            yield worker.all_reduce(model.parameters(range(1, 2)), "bf16")
            yield worker.compute(model.accumulate, times=2)

    machines = [machine(1.0, optimizer_seconds=0.6)] * 2
    result = figures_of(plain(bursts, machines=machines, bandwidth=1000.0))
    assert result.peak_bandwidth_bytes_per_s == pytest.approx(200.0)


def test_numbers_do_not_depend_on_how_long_quantizing_takes() -> None:
    def trained(seconds: float) -> np.ndarray:
        scenario = plain(
            "eager_diloco",
            {"sync_every": 2, "comm_dtype": "int8"},
            machines=[machine(quantize_seconds=seconds)] * 2,
        )
        models = {rank: Quadratic(scenario.model, rank, 2, noise=0.2) for rank in range(2)}
        simulate(scenario, rounds=6, models=models)
        return models[0].theta

    np.testing.assert_array_equal(trained(0.0), trained(0.7))
