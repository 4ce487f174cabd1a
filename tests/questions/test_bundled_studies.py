"""The bundled scenarios of published and planned runs say what a calculation by hand says."""

from __future__ import annotations

import pytest

from sim.figures.evaluation import Figures, figures
from sim.methods.participation import participants
from sim.questions.variations import scaled
from sim.records.scenario import Scenario
from sim.runtime import simulate
from sim.scenario import load, load_study
from sim.theory import hierarchical_seconds, required_bandwidth, ring_seconds, step_seconds

H100 = 989e12
GBIT = 1e9 / 8


def cases(name: str) -> dict[tuple[object, ...], Scenario]:
    return {tuple(case.labels.values()): case.scenario for case in load_study(name).cases()}


def figures_of(scenario: Scenario) -> Figures:
    return figures(simulate(scenario))


def with_bandwidth(scenario: Scenario, bytes_per_s: float) -> Figures:
    now = scenario.sites[0].uplink
    return figures_of(scaled(scenario, bytes_per_s / now))


def test_a_mixture_of_experts_computes_with_its_active_parameters_and_sends_all() -> None:
    """A DiLoCo round sends 671B parameters at 4 bits, 2 (3 - 1) / 3 times, and their scales."""
    scenario = load("moe_three_continents", {"--method": "diloco"})
    step = step_seconds(37e9, 16 * 2**20, 2048, H100, 0.35)
    assert scenario.workers[0].machine.step_seconds == pytest.approx(step)
    found = figures_of(scenario)
    values = 671e9 * (0.5 + 2 / 256)
    sent = found.sent_bytes_per_worker / found.window_rounds
    assert sent == pytest.approx(4 / 3 * values, rel=1e-6)


@pytest.mark.parametrize(("sites", "workers"), [("2 sites", 2), ("4 sites", 4)])
def test_405b_needs_the_bandwidth_of_the_closed_form(sites: str, workers: int) -> None:
    """W = 2 (1 - 1/M) S / (H T (1 / CU - 1)); S 810 GB, T the same for both."""
    step = step_seconds(405e9, 8 * 2**20, 8192, H100, 0.41)
    studied = cases("dense_405b")
    for method, every in (("data-parallel", 1), ("DiLoCo, H = 100", 100)):
        enough = required_bandwidth(0.95, workers, 810e9, step, every)
        found = with_bandwidth(studied[sites, method], enough)
        assert found.compute_utilization == pytest.approx(0.95, abs=1e-3)


@pytest.mark.parametrize(
    ("links", "published"), [("USA", 0.957), ("USA and Europe", 0.856), ("global", 0.830)]
)
def test_intellect_1_computes_the_published_share_of_time(links: str, published: float) -> None:
    """With links of which the published all-reduce follows: 2280 s of 2280 s and that."""
    found = figures_of(cases("intellect_1")[(links,)])
    assert found.compute_utilization == pytest.approx(published, abs=0.002)


def test_the_stated_links_of_intellect_1_promise_more_than_was_published() -> None:
    """2280 / (2280 + 18.57 GB / W): 88.5 and 98.4 %, both more than 83.0 and 95.7 %."""
    studied = cases("intellect_1")
    for rate, published in ((0.5, 0.830), (4.0, 0.957)):
        by_hand = 2280 / (2280 + 2 * 13 / 14 * 10e9 / (rate * GBIT))
        found = figures_of(studied[(f"{rate:g} Gbit/s",)]).compute_utilization
        assert found == pytest.approx(by_hand, rel=1e-3)
        assert found > published + 0.02


def test_home_gpus_are_as_fast_as_their_uplinks() -> None:
    """A ring over 4 workers: 2 x 3 (20 ms + 300 MB / (4 x 20 Mbit/s)) = 180.12 s per round."""
    for (every,), scenario in cases("home_gpus").items():
        ring = ring_seconds("all_reduce", 4, 300e6, 20e6 / 8, 0.02)
        busy = every * step_seconds(150e6, 64 * 2**10, 1, 165.2e12, 0.35)
        found = figures_of(scenario).compute_utilization
        assert found == pytest.approx(busy / (busy + ring), rel=1e-9)


def test_four_times_the_tokens_take_four_times_as_long_at_the_same_utilization() -> None:
    """Whole rounds: 200B tokens are 1,590 rounds of 30 x 4Mi rounded up, 800B 6,358."""
    found = {labels: figures_of(scenario) for labels, scenario in cases("overtraining").items()}
    for every in (30, 120):
        once, overtrained = found[200e9, every], found[800e9, every]
        assert overtrained.compute_utilization == once.compute_utilization
        ratio = overtrained.total_wall_clock_s / once.total_wall_clock_s
        assert ratio == pytest.approx(4, rel=1e-2)
    assert found[200e9, 120].total_wall_clock_s < found[200e9, 30].total_wall_clock_s


def test_required_bandwidth_falls_as_the_root_of_the_size_on_the_same_accelerators() -> None:
    """By the square-cube law, and rises as the root where accelerators grow as the size."""
    studied = cases("square_cube")
    first = required_bandwidth(0.95, 2, 2e9, step_seconds(1e9, 1e6, 64, H100, 0.4), 100)
    assert first / GBIT == pytest.approx(12.83, abs=0.01)
    for label, factor in (
        ("1B", 1.0),
        ("10B", 10**-0.5),
        ("100B", 0.1),
        ("1T", 10**-1.5),
        ("10B, 10 x accelerators", 10**0.5),
        ("100B, 100 x accelerators", 10.0),
        ("1T, 1000 x accelerators", 10**1.5),
    ):
        found = with_bandwidth(studied[(label,)], first * factor)
        assert found.compute_utilization == pytest.approx(0.95, abs=1e-5), label


def test_ten_thousand_gpus_lose_their_time_to_hops_in_a_ring_and_not_in_a_hierarchy() -> None:
    """Of the whole model at once: 2 x 9,999 hops of 2 us at least, and 6 GB over 400 Gbit/s."""
    studied = cases("ten_thousand_gpus")
    (_, hierarchical) = next(item for item in studied.items() if "hierarchical" in item[0][0])
    seconds = hierarchical_seconds(1250, 8, 6e9, 3200 * GBIT, 5e-6, 3600 * GBIT, 2e-6)
    step = step_seconds(3e9, 16 * 2**10, 1, H100, 0.4)
    found = figures_of(hierarchical)
    # What is not hidden behind the backward pass is at most all of it.
    longest = step + 6 * (seconds + 2 * 1249 * 5e-6 + 14 * 2e-6)
    assert step / longest < found.compute_utilization < 1
    ring = figures_of(studied[("ring, 25 MiB",)])
    least = 256 * 2 * 9999 * 2e-6  # hops of 256 buckets, one after the other
    assert ring.inner_step_s > least > 10 * step


def test_a_tenth_of_the_clients_sends_a_fifth_of_the_bytes() -> None:
    """Participants send, and those that follow receive by the same ring: (n - 1) of 99, n <= 21."""
    studied = cases("federated_lora")
    some, everyone = (figures_of(studied[share, "bf16"]) for share in (0.1, 1.0))
    drawn = [participants(100, 0.1, 0, number) for number in range(21)]
    members = [len({0, *drawn[n], *drawn[n + 1]}) for n in range(20)]
    expected = sum(n - 1 for n in members) / (20 * 99)
    ratio = some.sent_bytes_per_worker / everyone.sent_bytes_per_worker
    assert ratio == pytest.approx(expected, rel=1e-9)
    assert 0.1 < ratio < 0.2
    assert some.window_tokens == pytest.approx(0.1 * everyone.window_tokens)


def test_sparse_payloads_send_their_bytes_per_element() -> None:
    studied = cases("federated_lora")
    sparse, dense = (figures_of(studied[1.0, dtype]) for dtype in ("0.06", "bf16"))
    assert sparse.sent_bytes_per_worker == pytest.approx(0.03 * dense.sent_bytes_per_worker)
