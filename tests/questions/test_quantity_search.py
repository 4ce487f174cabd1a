"""What a target needs of rtt, steps, delay, type or batch: closed forms, and scans of values."""

from __future__ import annotations

import shlex
from dataclasses import replace
from itertools import pairwise
from math import ceil, inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.plain_scenario import TOKENS, machine, plain

from sim import make_scenario
from sim.figures.evaluation import figures
from sim.program import ArgumentError, wire_bytes
from sim.questions.quantities import QUANTITIES
from sim.questions.quantity_search import Found, least, search
from sim.questions.variations import round_trip, with_round_trip
from sim.records.scenario import Collectives, Jitter, Scenario
from sim.runtime import simulate
from sim.scenario import load
from sim.theory.closed_forms import blocking_utilization, ring_seconds

RING = Collectives(algorithm="ring")


def found(scenario: Scenario, of: str, *targets: float) -> list[Found]:
    return search(scenario, targets, QUANTITIES[of])


def utilization(scenario: Scenario) -> float:
    return figures(simulate(scenario)).compute_utilization


def with_argument(scenario: Scenario, name: str, value: Any) -> Scenario:
    arguments = {**scenario.method.arguments, name: value}
    return replace(scenario, method=replace(scenario.method, arguments=arguments))


# -- the search ------------------------------------------------------------------------------


@given(
    st.integers(0, 400),
    st.integers(0, 402),
    st.integers(0, 20),
    st.one_of(st.none(), st.integers(0, 400)),
)
def test_the_least_position_is_that_of_a_scan(
    last: int, first: int, one_by_one: int, near: int | None
) -> None:
    near = None if near is None else min(near, last)
    asked: list[int] = []

    def reaches(position: int) -> bool:
        assert 0 <= position <= last
        asked.append(position)
        return position >= first

    scanned = next((n for n in range(last + 1) if n >= first), None)
    assert least(reaches, last, one_by_one, near) == scanned
    assert len(asked) <= one_by_one + 2 * 9 + 6


def test_what_is_tried_one_by_one_need_not_be_monotone() -> None:
    assert least(lambda n: n in (3, 50), 100, 16) == 3


# -- the longest round trip ------------------------------------------------------------------


@pytest.mark.parametrize(("method", "steps"), [("ddp", 1), ("diloco", 7)])
@pytest.mark.parametrize("workers", [2, 3])
def test_the_longest_rtt_is_the_closed_form_to_a_thousandth(
    method: str, steps: int, workers: int
) -> None:
    """u = H T / (H T + 2 (M-1) (S / (M W) + l)) and rtt = 2 l."""
    arguments = {"sync_every": steps} if method == "diloco" else {"overlap": "none"}
    scenario = plain(
        method, arguments, bandwidth=1000.0, workers=workers, latency=0.3, collectives=RING
    )
    for answer in found(scenario, "rtt", 0.3, 0.7):
        spent = steps * (1 / answer.target - 1)
        spent -= ring_seconds("all_reduce", workers, 200, 1000.0)
        exact = spent / (workers - 1)
        assert answer.outcome == "reached"
        assert exact / 1.001 * (1 - 1e-9) <= float(answer.value) <= exact * (1 + 1e-9)
        assert answer.before < answer.target <= answer.utilization


def test_an_rtt_that_is_too_long_at_any_length_and_one_that_never_is() -> None:
    """Without latency u = 1 / (1 + 200 / 100) = 1/3."""
    scenario = plain("ddp", {"overlap": "none"}, bandwidth=100.0, latency=5.0)
    never, always = found(scenario, "rtt", 0.34, 1e-9)
    assert (never.outcome, never.value) == ("not reached", 0.0)
    assert never.utilization == pytest.approx(1 / 3)
    assert never.low is never.high is None
    assert always.outcome == "any"


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("streaming_diloco", {"sync_every": 6, "num_fragments": 2, "fragment_sync_delay": 2}),
        ("eager_diloco", {"sync_every": 4, "outer_sync_delay": 2}),
        ("ddp", {"overlap": "bucket", "bucket_bytes": 60}),
    ],
)
def test_the_longest_rtt_of_an_overlapped_method_is_that_of_a_scan(
    method: str, arguments: dict[str, Any]
) -> None:
    scenario = plain(method, arguments, bandwidth=80.0, workers=3)
    target = 0.8 * utilization(scenario)
    (answer,) = found(scenario, "rtt", target)
    assert isinstance(answer.value, float)
    scanned = [
        utilization(with_round_trip(scenario, answer.value * factor)) >= target
        for factor in (0.0, 0.2, 0.5, 0.9, 0.999, 1.0, 1.0011, 1.1, 2.0, 8.0)
    ]
    assert scanned == [True] * 6 + [False] * 4


def test_an_answer_that_others_contradict_lists_them() -> None:
    """Messages of gloo's collectives overtake each other: a longer rtt may lead to less waiting."""
    arguments = {"sync_every": 2, "outer_sync_delay": 3, "num_fragments": 2}
    scenario = plain(
        "delayed_diloco",
        arguments,
        bandwidth=40.0,
        layers=(30, 40, 50),
        machines=[machine(1.0, speed=0.7), machine(1.0)],
        collectives=Collectives(algorithm="gloo", concurrent=2),
    )
    (answer,) = found(scenario, "rtt", 0.148)
    assert answer.exceptions
    for seconds in map(float, answer.exceptions):
        reached = utilization(with_round_trip(scenario, seconds)) >= 0.148
        assert reached == (seconds > float(answer.value))
    blocking = plain("diloco", {"sync_every": 5}, latency=1.0)
    assert found(blocking, "rtt", 0.5)[0].exceptions == ()
    assert found(blocking, "batch_tokens", 0.5)[0].exceptions == ()


def test_unequal_round_trips_keep_their_proportion() -> None:
    scenario = plain("diloco", {"sync_every": 5}, workers=3, bandwidth=1e9, collectives=RING)
    latency = ((0.0, 1.0, 2.0), (1.0, 0.0, 3.0), (2.0, 5.0, 0.0))
    network = replace(scenario.network, latency=latency)
    scenario = replace(scenario, network=network)
    assert round_trip(scenario) == 8.0
    assert with_round_trip(scenario, 4.0).network.latency.rows[1] == (0.5, 0.0, 1.5)
    (answer,) = found(scenario, "rtt", 0.5)
    assert utilization(with_round_trip(scenario, float(answer.value))) >= 0.5
    assert utilization(with_round_trip(scenario, float(answer.value) * 1.0011)) < 0.5


def test_round_trips_are_given_to_sites_that_have_none() -> None:
    assert round_trip(with_round_trip(plain(workers=3), 0.25)) == 0.25


# -- the fewest inner steps ------------------------------------------------------------------


@pytest.mark.parametrize("method", ["diloco", "streaming_diloco"])
@pytest.mark.parametrize("target", [0.5, 0.8])
def test_the_fewest_steps_are_those_of_a_scan_of_every_number(method: str, target: float) -> None:
    scenario = make_scenario(model="1B", method=method, bandwidth="20 Gbit/s").resolved
    scanned = next(
        steps
        for steps in range(1, 200)
        if utilization(with_argument(scenario, "sync_every", steps)) >= target
    )
    (answer,) = found(scenario, "sync_every", target)
    assert answer.value == scanned
    assert answer.utilization >= target


def test_more_steps_than_are_tried_are_not_reached() -> None:
    scenario = plain("diloco", {"sync_every": 10}, bandwidth=1e-3)
    (answer,) = found(scenario, "sync_every", 0.9)
    assert (answer.outcome, answer.value) == ("not reached", 4096)
    assert answer.utilization == pytest.approx(blocking_utilization(4096, 2e5), rel=1e-6)


# -- the shortest delay ----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["delayed_diloco", "eager_diloco"])
def test_the_shortest_delay_in_rounds_is_the_closed_form(method: str) -> None:
    """Rounds of C seconds, all-reduces of X: every k + 1 rounds one has to end, in X + C.

    u = min(1, (k + 1) C / (X + C)), here with X = 7 C.
    """
    collectives = Collectives(algorithm="ring", concurrent=16)
    arguments = {"sync_every": 4, "outer_sync_delay": 3}
    scenario = plain(method, arguments, bandwidth=1e9, latency=7.0 * 4 / 2, collectives=collectives)
    for answer, needed in zip(found(scenario, "delay", 0.2, 0.45, 0.99), (1, 3, 7), strict=True):
        assert answer.value == needed == ceil(8 * answer.target) - 1
        assert answer.utilization == pytest.approx((needed + 1) / 8, rel=1e-6)


def test_the_shortest_delay_in_inner_steps_is_that_of_a_scan() -> None:
    arguments = {"sync_every": 60, "num_fragments": 2, "fragment_sync_delay": 1}
    scenario = plain("streaming_diloco", arguments, latency=12.0, bandwidth=1e9)
    scanned = {
        target: next(
            delay
            for delay in range(60)
            if utilization(with_argument(scenario, "fragment_sync_delay", delay)) >= target
        )
        for target in (0.5, 0.7, 0.8, 0.99)
    }
    answers = found(scenario, "delay", *scanned)
    assert {answer.target: answer.value for answer in answers} == scanned
    assert [answer.outcome for answer in answers] == ["any", "reached", "reached", "reached"]
    assert scanned[0.99] > 16


# -- the widest type -------------------------------------------------------------------------


def test_the_widest_type_is_the_closed_form_with_its_scales() -> None:
    """u = H T / (H T + 2 (M-1) S / (M W)), S with one 16-bit scale per 8 values."""
    collectives = Collectives(algorithm="ring", quantize_block=8)
    scenario = plain(
        "diloco", {"sync_every": 3}, bandwidth=50.0, collectives=collectives, layers=(40, 40)
    )
    # A slice of 40 values for each worker; an int8 one of 40 + 5 x 2 bytes.
    exact = {
        name: blocking_utilization(3.0, 2 * wire_bytes(40, name, 8) / 50.0)
        for name in ("fp32", "bf16", "int8", "fp4")
    }
    assert wire_bytes(40, "int8", 8) == 50
    wider = None
    for name, share in exact.items():
        (answer,) = found(scenario, "comm_dtype", share * (1 - 1e-9))
        assert answer.value == name
        assert answer.utilization == pytest.approx(share, rel=1e-9)
        assert answer.before == pytest.approx(wider, nan_ok=True) if wider else answer.before
        wider = share
    (answer,) = found(scenario, "comm_dtype", exact["fp4"] * (1 + 1e-9))
    assert (answer.outcome, answer.value) == ("not reached", "fp4")


def test_a_type_that_takes_long_to_make_is_not_narrow_enough() -> None:
    """Quantizing takes a second: int8 is slower than bf16, and a scan of all types says so."""
    machines = [machine(1.0, quantize_seconds=1.0)] * 2
    scenario = plain("diloco", {"sync_every": 2}, bandwidth=200.0, machines=machines)
    shares = {
        name: utilization(with_argument(scenario, "comm_dtype", name))
        for name in ("fp32", "bf16", "int8", "fp4")
    }
    assert shares["int8"] < shares["bf16"]
    (answer,) = found(scenario, "comm_dtype", shares["bf16"])
    assert answer.value == "bf16"


def test_the_type_of_16_bits_is_the_scenarios_own() -> None:
    scenario = plain("diloco", {"sync_every": 3, "comm_dtype": "fp16"}, bandwidth=50.0)
    offered = QUANTITIES["comm_dtype"].range_in(scenario)
    assert [offered.value(n) for n in range(offered.last + 1)] == ["fp32", "fp16", "int8", "fp4"]


# -- the smallest batch ----------------------------------------------------------------------


@pytest.mark.parametrize("accumulated", [1, 4])
def test_the_smallest_batch_is_the_closed_form(accumulated: int) -> None:
    """u = H c b / (H c b + X), so b = u X / (H c (1 - u)), c = 1 s / 10 tokens."""
    machines = [machine(1.0, n_grad_accumulation=accumulated)] * 2
    scenario = plain("diloco", {"sync_every": 5}, bandwidth=2.0, machines=machines)
    for answer in found(scenario, "batch_tokens", 0.31, 0.87):
        exact = answer.target * 100.0 / (5 * (1 - answer.target)) * TOKENS
        units = ceil(exact / accumulated)
        if units <= 1000:
            assert answer.value == units * accumulated
        else:
            assert 0 <= int(answer.value) - exact <= 1e-3 * exact + accumulated
        assert answer.before < answer.target <= answer.utilization


def test_batches_are_whole_in_each_micro_batch_and_0_1_percent_apart() -> None:
    machines = [machine(1.0, n_grad_accumulation=8)] * 2
    scenario = plain("diloco", {"sync_every": 5}, machines=machines)
    offered = QUANTITIES["batch_tokens"].range_in(scenario)
    values = [int(offered.value(position)) for position in range(offered.last + 1)]
    assert values[0] == 8
    assert values[-1] == pytest.approx(2**31, rel=1e-3)
    for one, other in pairwise(values):
        assert one % 8 == other % 8 == 0
        assert one < other <= max(one + 8, one * 1.001 + 8)
    assert offered.easier is not None
    for position in (0, 998, 999, 1000, 5000):
        assert offered.easier(position, 1.0) == position


def test_unequal_batches_grow_in_proportion() -> None:
    machines = [machine(1.0), replace(machine(2.0), batch_tokens=2 * TOKENS)]
    scenario = plain("diloco", {"sync_every": 5}, bandwidth=2.0, machines=machines)
    (answer,) = found(scenario, "batch_tokens", 0.5)
    # Worker 1 computes C, worker 0 half of it: u = (3/4) C / (C + 100), so C = 200 for 1/2.
    # C = 5 steps of 0.1 s for each of 400 tokens; worker 0 has 200.
    assert answer.value == 300


# -- all -------------------------------------------------------------------------------------

TYPED = {
    "rtt": ("diloco", ["--sync-every", "90"]),
    "sync_every": ("diloco", ["--rtt", "30ms"]),
    "delay": ("streaming_diloco", ["--sync-every", "30"]),
    "comm_dtype": ("diloco", ["--sync-every", "50"]),
    "batch_tokens": ("diloco", ["--sync-every", "30"]),
}


@pytest.mark.parametrize("of", TYPED)
def test_the_options_of_an_answer_give_its_utilization(of: str) -> None:
    method, options = TYPED[of]
    words = ["--model", "1B", "--method", method, "--bandwidth", "10 Gbit/s", *options]
    base = dict(zip(words[::2], words[1::2], strict=True))
    scenario = load(None, base)
    (answer,) = found(scenario, of, 0.8)
    assert answer.outcome == "reached"
    typed = shlex.split(QUANTITIES[of].range_in(scenario).typed(answer.value))
    again = load(None, {**base, **dict(zip(typed[::2], typed[1::2], strict=True))})
    assert again.sha256 != scenario.sha256
    assert utilization(again) == pytest.approx(answer.utilization, rel=1e-6)


def test_a_batch_of_known_accelerators_is_typed_without_its_step() -> None:
    base = {"--accelerators": "8 x H100", "--model": "1B", "--method": "diloco"}
    base |= {"--bandwidth": "1 Gbit/s"}
    scenario = load(None, base)
    (answer,) = found(scenario, "batch_tokens", 0.8)
    option, tokens = QUANTITIES["batch_tokens"].range_in(scenario).typed(answer.value).split()
    assert (option, tokens) == ("--batch-tokens", str(answer.value))
    again = load(None, {**base, option: tokens})
    assert utilization(again) == pytest.approx(answer.utilization, rel=1e-9)


@pytest.mark.parametrize(("of", "target"), [("rtt", 0.6), ("sync_every", 0.85)])
def test_random_times_give_the_median_of_the_replications(of: str, target: float) -> None:
    machines = [machine(1.0, jitter=Jitter("lognormal", 0.3))] * 2
    scenario = plain("diloco", {"sync_every": 12}, latency=1.0, machines=machines)
    scenario = replace(scenario, run=replace(scenario.run, replications=3, measured_rounds=5))
    (answer,) = found(scenario, of, target)
    single = replace(scenario, run=replace(scenario.run, replications=1))
    alone = [found(replace(single, replication=n), of, target)[0].value for n in range(3)]
    assert len(set(alone)) > 1
    assert answer.value == sorted(map(float, alone))[1]
    assert answer.replications == 3
    assert {answer.low, answer.high} == {min(map(float, alone)), max(map(float, alone))}


@pytest.mark.parametrize("of", ["rtt", "comm_dtype", "batch_tokens"])
def test_a_method_that_is_always_busy_is_sent_to_the_bandwidth(of: str) -> None:
    with pytest.raises(ArgumentError, match=r"busy at any .*--of bandwidth"):
        found(plain("acco", machines=[machine(3.0, n_grad_accumulation=3)] * 2), of, 0.5)


@pytest.mark.parametrize(
    ("of", "method", "text"),
    [
        ("sync_every", "ddp", "ddp takes no sync_every"),
        ("delay", "ddp", r"ddp takes neither outer_sync_delay \(delayed_diloco and eager_diloco"),
    ],
)
def test_a_method_without_the_quantity_is_refused(of: str, method: str, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        found(plain(method), of, 0.5)


@pytest.mark.parametrize("of", QUANTITIES)
def test_one_worker_synchronizes_with_nobody(of: str) -> None:
    arguments = {"sync_every": 4, "fragment_sync_delay": 1, "comm_dtype": "bf16"}
    scenario = plain("streaming_diloco", arguments, workers=1)
    with pytest.raises(ArgumentError, match=r"has one (worker|site)"):
        found(scenario, of, 0.5)


def test_a_quantity_that_is_given_per_worker_is_refused() -> None:
    arguments = {"sync_every": (4, 8), "fragment_sync_delay": (1, 2)}
    scenario = plain("streaming_diloco", arguments)
    for of in ("sync_every", "delay"):
        with pytest.raises(ArgumentError, match="given per worker"):
            found(scenario, of, 0.5)


def test_positions_have_a_last_one_and_values_that_are_finite() -> None:
    arguments = {"sync_every": 4, "fragment_sync_delay": 1, "comm_dtype": "bf16"}
    scenario = plain("streaming_diloco", arguments)
    for row in QUANTITIES.values():
        offered = row.range_in(scenario)
        for position in (0, offered.last):
            value = offered.value(position)
            assert isinstance(value, str) or 0 <= value < inf
