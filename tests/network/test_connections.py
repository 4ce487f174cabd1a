"""Window, streams, a stream's rate and packet loss: what TCP connections between sites carry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import inf, sqrt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.plain_scenario import plain
from support.scenarios_strategy import rates, scenarios, windows
from support.thorough import examples

from sim import theory
from sim.network.gloo import alone
from sim.network.links import Links
from sim.network.schedules import ALGORITHMS, OPERATIONS
from sim.program import Program, Worker
from sim.questions.target_search import required
from sim.questions.variations import scaled
from sim.records.connections import windowed
from sim.records.scenario import Collectives, HostCosts, Network, Site, Streams
from sim.runtime import simulate
from sim.scenario import Scenario, ScenarioError, load, load_study, sweep

CLAIM = settings(
    derandomize=True,
    deadline=None,
    max_examples=examples(60),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
LONG = {"--model": "1B", "--bandwidth": "10Gbit/s", "--rtt": "150ms"}


def seconds(scenario: Scenario, operation: str, size: float, dtype: str = "bf16") -> float:
    return Links(scenario).cost(operation, dtype, size).seconds


def equal(
    workers: int,
    rate: float = inf,
    latency: float = 0.0,
    algorithm: str = "ring",
    window: float = inf,
    streams: Streams | None = None,
) -> Scenario:
    """Sites of one worker, each with a line of its own."""
    scenario = plain(workers=workers, latency=latency)
    collectives = Collectives(algorithm=algorithm, host=HostCosts(window_bytes=window))
    network = Network(
        ((inf,) * workers,) * workers,
        scenario.network.latency,
        collectives,
        "site",
        streams or Streams(),
    )
    sites = tuple(Site(f"s{n}", 1, rate, rate) for n in range(workers))
    return replace(scenario, sites=sites, network=network)


# -- formulas ----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["network.window", "network.collective.window"])
def test_one_window_of_4_mb_carries_a_buffer_of_4_gb_over_150_ms_in_150_s(key: str) -> None:
    """2 (M-1) S/M RTT / window: a thousand round trips."""
    scenario = load(None, {**LONG, "--algorithm": "ring"}, [f"{key}=4MB"])
    assert seconds(scenario, "all_reduce", 4e9, "fp32") == pytest.approx(150.0, rel=1e-12)
    unlimited = seconds(load(None, LONG), "all_reduce", 4e9, "fp32")
    assert unlimited == pytest.approx(2 * (0.075 + 2e9 / 1.25e9), rel=1e-12)


@given(
    st.floats(1e-3, 1),
    st.floats(1e3, 1e9),
    st.floats(1e3, 1e12),
    st.floats(1e-6, 0.1),
    st.floats(100, 9000),
)
@CLAIM
def test_a_connection_is_as_fast_as_the_least_of_its_limits(
    round_trip: float, window: float, rate: float, loss: float, segment: float
) -> None:
    by_loss = segment / round_trip * sqrt(3 / 2) / sqrt(loss)
    for limits, expected in (
        ({"window": window}, window / round_trip),
        ({"rate": rate}, rate),
        ({"loss": loss, "segment": segment}, by_loss),
        (
            {"window": window, "rate": rate, "loss": loss, "segment": segment},
            min(window / round_trip, rate, by_loss),
        ),
        ({}, inf),
    ):
        assert theory.connection_rate(round_trip, **limits) == pytest.approx(expected)


@given(
    st.sampled_from(["all_reduce", "reduce_scatter", "all_gather"]),
    st.integers(2, 9),
    st.floats(1, 1e9),
    st.floats(1e3, 1e9),
    st.floats(1e-4, 1),
    st.floats(1e3, 1e8),
    st.integers(1, 16),
    st.just(0.0) | st.floats(1e-6, 0.1),
)
@CLAIM
def test_a_ring_waits_for_acknowledgements_or_for_latency_but_not_for_both(
    operation: str,
    workers: int,
    size: float,
    rate: float,
    latency: float,
    window: float,
    count: int,
    loss: float,
) -> None:
    case = equal(workers, rate, latency, "ring", window, Streams(count, inf, loss))
    in_flight = min(window, 1460 * sqrt(1.5 / loss)) if loss else window
    expected = theory.windowed_ring_seconds(
        operation, workers, size, rate, latency, count * in_flight
    )
    assert seconds(case, operation, size) == pytest.approx(expected)


def as_tcp_sends(rounds: int, part: float, rate: float, round_trip: float, window: float) -> float:
    """Seconds of equal rounds whose connection sends a window at once, the rest as it may."""
    now = full = 0.0
    for _ in range(rounds):
        begins = max(now, full)
        first = max(now, begins - round_trip)
        full = begins + part * round_trip / window
        now = max(first + part / rate, full - round_trip) + round_trip / 2
    return now


@given(
    st.integers(2, 30),
    st.floats(1, 1e9),
    st.floats(1e3, 1e9),
    st.floats(1e-3, 1),
    st.floats(1e3, 1e8),
)
@CLAIM
def test_a_ring_takes_half_a_round_trip_longer_at_most_than_tcp_itself(
    workers: int, size: float, rate: float, latency: float, window: float
) -> None:
    ours = theory.windowed_ring_seconds("all_reduce", workers, size, rate, latency, window)
    rounds = 2 * (workers - 1)
    theirs = as_tcp_sends(rounds, size / workers, rate, 2 * latency, window)
    assert theirs * (1 - 1e-9) <= ours <= (theirs + latency) * (1 + 1e-9)


@given(
    st.integers(2, 9),
    st.floats(1, 1e9),
    st.floats(1e3, 1e9),
    st.floats(0, 1),
    st.floats(1e3, 1e8),
    st.integers(1, 16),
)
@CLAIM
def test_a_streams_rate_is_a_link_of_that_rate(
    workers: int, size: float, rate: float, latency: float, stream: float, count: int
) -> None:
    case = equal(workers, rate, latency, streams=Streams(count, stream))
    expected = theory.ring_seconds("all_reduce", workers, size, min(rate, count * stream), latency)
    assert seconds(case, "all_reduce", size) == pytest.approx(expected)


@given(st.integers(2, 9), st.floats(1, 1e9), st.floats(1e3, 1e9), st.floats(0.01, 1), windows)
@CLAIM
def test_an_exchange_with_everyone_has_a_window_for_each(
    workers: int, size: float, rate: float, latency: float, window: float
) -> None:
    case = equal(workers, rate, latency, "direct", window)
    on_line = (workers - 1) * size / workers / rate
    expected = max(on_line + latency, size / workers * 2 * latency / window)
    assert seconds(case, "all_to_all", size) == pytest.approx(expected)


# -- laws --------------------------------------------------------------------------------------


def improved(scenario: Scenario) -> Iterator[Scenario]:
    """Yield the scenario with each limit relaxed in turn."""
    network = scenario.network
    streams, host = network.streams, network.collectives.host
    for better in (
        replace(streams, count=streams.count + 1),
        replace(streams, rate=streams.rate * 1.5),
        replace(streams, loss=streams.loss / 2),
        replace(streams, segment_bytes=streams.segment_bytes * 2),
    ):
        yield replace(scenario, network=replace(network, streams=better))
    wider = replace(host, window_bytes=host.window_bytes * 1.5)
    collectives = replace(network.collectives, host=wider)
    yield replace(scenario, network=replace(network, collectives=collectives))


@CLAIM
@given(scenarios(), st.sampled_from(OPERATIONS), st.sampled_from(["bf16", "int8"]), rates)
def test_more_streams_or_windows_or_less_loss_are_never_slower(
    scenario: Scenario, operation: str, dtype: str, size: float
) -> None:
    before = seconds(scenario, operation, size, dtype)
    for better in improved(scenario):
        assert seconds(better, operation, size, dtype) <= before * (1 + 1e-12)


@CLAIM
@given(scenarios(), st.sampled_from(OPERATIONS), rates)
def test_no_pair_of_workers_gets_more_than_its_connections_carry(
    scenario: Scenario, operation: str, size: float
) -> None:
    cost = Links(scenario).cost(operation, "bf16", size)
    assert cost.pair_use.max(initial=0.0) <= 1 + 1e-12
    assert cost.seconds >= cost.transmit_s


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_knows_the_window(algorithm: str) -> None:
    free = equal(4, 1e9, 0.05, algorithm)
    limited = equal(4, 1e9, 0.05, algorithm, window=1e5)
    for operation in OPERATIONS:
        assert seconds(limited, operation, 1e9) > 50 * seconds(free, operation, 1e9)


def test_a_window_that_is_never_full_changes_no_bit() -> None:
    for algorithm in ALGORITHMS:
        free = equal(5, 1e6, 0.05, algorithm)
        wide = equal(5, 1e6, 0.05, algorithm, window=1e15, streams=Streams(8, 1e15, 1e-30))
        for operation in OPERATIONS:
            one, other = (Links(case).cost(operation, "int8", 12345.0) for case in (free, wide))
            assert (one.latency_s, one.transmit_s) == (other.latency_s, other.transmit_s)


def test_inside_a_site_nothing_limits_a_connection() -> None:
    inside = ["site.count=1", "site.workers=4", "network.window=1 kB", "network.loss=1 %"]
    free = load(None, {"--model": "1B"}, inside[:2])
    assert seconds(load(None, {"--model": "1B"}, inside), "all_reduce", 1e9) == seconds(
        free, "all_reduce", 1e9
    )


# -- several at once ---------------------------------------------------------------------------


def both(worker: Worker) -> Program:
    """Two all-reduces of one group at once."""
    model = worker.model
    worker.next_round(steps=1)
    first = worker.all_reduce(model.parameters(range(model.num_layers)), "fp32")
    second = worker.all_reduce(model.parameters(range(model.num_layers)), "fp32")
    yield first
    yield second


def aside(worker: Worker) -> Program:
    yield worker.all_reduce(worker.model.parameters(range(worker.model.num_layers)), "fp32")


def one_aside(worker: Worker) -> Program:
    """The same two, one of them of a spawned program's group."""
    model = worker.model
    worker.next_round(steps=1)
    other = worker.spawn(aside)
    yield worker.all_reduce(model.parameters(range(model.num_layers)), "fp32")
    yield other


@pytest.mark.parametrize(("program", "expected"), [(both, 2.0), (one_aside, 1.0)])
def test_a_groups_collectives_share_its_connections_and_another_group_has_its_own(
    program: Any, expected: float
) -> None:
    """Each alone takes 2 x 200 bytes x 1 s / 100 bytes = 4 s of windows, on links that idle."""
    collectives = Collectives(concurrent=2, host=HostCosts(window_bytes=100.0))
    scenario = plain(program, latency=0.5, bandwidth=1e9, collectives=collectives)
    assert simulate(scenario, rounds=1).total_s == pytest.approx(4.0 * expected)


# -- gloo's messages ---------------------------------------------------------------------------


def of_gloo(**network: Any) -> float:
    limits = network.pop("limits", None)
    return alone([1e9] * 4, lambda a, b: ((a * 2 + b,), 0.05), HostCosts(), 2,
                 ("all_to_all", "fp32", 2e6), limits)  # fmt: skip


def test_gloos_connections_have_the_same_limits() -> None:
    """1 MB each way 100 ms apart: a question, then at a rate, or window by window."""
    assert of_gloo() == pytest.approx(0.1 + 1e6 / 1e9, rel=1e-3)
    assert of_gloo(limits=lambda a, b: (inf, 1e6)) == pytest.approx(0.1 + 1.0, rel=1e-3)
    windows = of_gloo(limits=lambda a, b: (1e5, inf))
    assert windows == pytest.approx(0.1 + (1e6 / 1e5 - 1) * 0.1, rel=1e-3)


def test_losses_are_a_window_between_sites_and_none_inside() -> None:
    asked = ["network.collective.algorithm=gloo", "network.window=1 MB", "network.loss=0.01 %"]
    links = Links(load(None, {**LONG, "--workers": "2"}, [*asked, "network.stream_rate=1 Gbit/s"]))
    assert links._limits(0, 1) == (1e6, inf)
    assert links._limits(0, 2) == (pytest.approx(1460 * sqrt(1.5e4)), 125e6)
    with pytest.raises(ScenarioError, match=r"network\.streams.*gloo has one connection per pair"):
        load(None, LONG, [*asked, "network.streams=4"])


# -- keys --------------------------------------------------------------------------------------


def assumed(scenario: Scenario) -> dict[str, str]:
    return dict(scenario.assumed)


def test_both_spellings_are_one_quantity(tmp_path: Path) -> None:
    former, now = "network.collective.window=4MB", "network.window=8MB"
    with pytest.raises(ScenarioError, match=r"excludes network\.(collective\.)?window; give only"):
        load(None, LONG, [former, now])
    path = tmp_path / "case.toml"
    path.write_text('[model]\nname = "1B"\n[network]\nwindow = "4 MB"\n')
    assert load(path).network.in_flight_bytes == 4e6
    assert load(path, {}, ["network.collective.window=8MB"]).network.in_flight_bytes == 8e6
    path.write_text(path.read_text() + 'collective = { window = "8 MB" }\n')
    with pytest.raises(ScenarioError, match=r"network\.collective\.window: excludes network\.win"):
        load(path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("network.loss=20 %", "must be at most 10 %"),
        ("network.loss=-1 %", "must lie between 0 and 1"),
        ("network.window=4", "no unit"),
        ("network.streams=0", "must be at least 1"),
        ("network.stream_rate=0 Gbit/s", "must be more than zero"),
        ("network.packet_loss=1 %", "network.loss"),
    ],
)
def test_a_wrong_limit_is_refused(setting: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        load(None, LONG, [setting])


def test_limits_are_varied_in_si_units() -> None:
    study = sweep(None, LONG, [], ["window=1..4MB:3", "network.loss=0.01 %,0.1 %", "streams=1,8"])
    assert study.axes == ("network.window_bytes", "network.loss_fraction", "network.streams")
    found = [case.scenario.network for case in study.cases()]
    assert [n.collectives.host.window_bytes for n in found[::4]] == pytest.approx([1e6, 2e6, 4e6])
    assert [(n.streams.loss, n.streams.count) for n in found[:4]] == [
        (1e-4, 1), (1e-4, 8), (1e-3, 1), (1e-3, 8),
    ]  # fmt: skip


def test_what_is_taken_of_connections_is_listed() -> None:
    limited = assumed(load(None, LONG, ["network.window=4MB"]))
    assert limited["network.streams"] == "1"
    assert "network.window" not in limited
    assert assumed(load(None, LONG, ["network.loss=1 %"]))["network.mss"] == "1460 B"
    idle = assumed(load(None, LONG, ["network.streams=8"]))
    assert idle["network.streams"] == "not used (nothing limits a connection)"
    assert idle["network.window"].startswith("unlimited; 8 connections with 4 MiB windows would")
    alone = assumed(load(None, {"--model": "1B", "--sites": "1"}))
    assert not {"network.window", "network.streams"} & set(alone)


def test_a_long_fast_line_says_what_one_default_window_would_carry() -> None:
    scenario = load(None, LONG)
    assert assumed(scenario)["network.window"] == (
        "unlimited; one connection with a 4 MiB window would carry 223.7 Mbit/s over 150 ms"
    )
    found = windowed(scenario)
    assert found is not None
    assert found.record["carried_bytes_per_s"] == pytest.approx(4 * 2**20 / 0.15)
    assert "fill 10 Gbit/s" in found.sentence
    short = load(None, {**LONG, "--rtt": "3ms"})
    assert assumed(short)["network.window"] == "unlimited"
    assert windowed(short) is None
    assert windowed(scaled(short, 100.0)) is not None  # as required does with its answer
    for limit in ("network.window=4MB", "network.loss=1 %", "network.stream_rate=1 Gbit/s"):
        assert windowed(load(None, LONG, [limit])) is None


def test_measured_links_say_nothing_of_windows(tmp_path: Path) -> None:
    path = tmp_path / "hw.toml"
    path.write_text(
        '[calibration]\nschema = 1\ndate = "2026-01-01"\n[link.site-1-site-2]\n'
        "goodput_bytes_per_s = 1.25e9\nrtt_s = 0.15\n"
    )
    measured = load(None, {"--model": "1B", "--hardware": str(path)})
    assert "network.window" not in assumed(measured)
    assert windowed(measured) is None


def test_beyond_its_window_more_bandwidth_helps_nobody() -> None:
    scenario = load(None, {**LONG, "--method": "diloco"}, ["network.window=4MB"])
    (answer,) = required(scenario, [0.95])
    assert answer.outcome == "not reached"
    assert answer.best_utilization < 0.95


# -- real runs ---------------------------------------------------------------------------------


def test_a_lab_says_what_it_leaves_out_and_a_validation_refuses_it(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from realrun.lab import not_emulated
    from realrun.validation.plan import planned

    assert not_emulated(load("quick_start")) == ""
    asked = load("quick_start", {}, ["network.window=4MB", "network.loss=1 %"])
    assert not_emulated(asked).startswith("Not emulated: network.window, network.loss; conn")
    quick = Path(__file__).parents[2] / "validation" / "quick" / "study.toml"
    study = load_study(quick, {}, ["network.stream_rate=1 Gbit/s"])
    with pytest.raises(ScenarioError, match=r"network\.stream_rate: is not emulated; leave it out"):
        planned(study)
