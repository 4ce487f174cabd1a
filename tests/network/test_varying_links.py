"""Links that vary over time, in both models of the network, against integrals and recursions."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import floor, inf, nextafter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.thorough import examples, only_thorough

from sim.clock import Clock
from sim.figures.evaluation import figures
from sim.members import everyone
from sim.network.links import Links
from sim.network.message_links import PREAMBLE_BYTES, FifoLink
from sim.network.states import LinksError
from sim.network.varying_flows import VaryingFlows
from sim.network.varying_links import Curve, VaryingLink, VaryingMessageLinks, through
from sim.records.profiles import UNVARIED, Profile
from sim.records.scenario import Collectives, HostCosts, Jitter, Run, Scenario
from sim.runtime import SimulationError, periods, simulate
from tests.support.plain_scenario import machine, plain

DAY = Profile.of([(0.0, 1.0), (8.0, 0.25), (20.0, 1.0)], 24.0)
factors = st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.0, 2.0]) | st.floats(0.1, 3)


@st.composite
def profiles(draw: st.DrawFn, most: int = 5) -> Profile:
    lengths = draw(st.lists(st.floats(0.5, 20), min_size=1, max_size=most))
    begins = [sum(lengths[:number]) for number in range(len(lengths))]
    pieces = [(begin, draw(factors)) for begin in begins]
    if all(factor == 0 for _, factor in pieces) or draw(st.booleans()):
        pieces[-1] = (begins[-1], draw(st.floats(0.1, 3)))
    period = sum(lengths)
    ends = pieces[-1][1] > 0 and draw(st.booleans())
    return Profile(*map(tuple, zip(*pieces, strict=True)), inf if ends else period)  # type: ignore[arg-type]


def factor_at(profile: Profile, instant: float) -> float:
    """By the definition, without the code under test."""
    within = instant
    if profile.period < inf:
        within = instant - floor(instant / profile.period) * profile.period
    return [f for begin, f in zip(profile.begins, profile.factors, strict=True) if begin <= within][
        -1
    ]


def integral(profile: Profile, begin: float, end: float) -> float:
    """By splitting at every change of the first periods, without the code under test."""
    cycles = range(floor(end / profile.period) + 2) if profile.period < inf else [0]
    period = profile.period if profile.period < inf else 0.0
    cuts = {cycle * period + start for cycle in cycles for start in profile.begins}
    cuts = sorted({begin, end} | {cut for cut in cuts if begin < cut < end})
    return sum((b - a) * factor_at(profile, (a + b) / 2) for a, b in pairwise(cuts))


def on(scenario: Scenario, profile: Profile) -> Scenario:
    return replace(
        scenario,
        sites=tuple(replace(site, profile=profile) for site in scenario.sites),
        network=replace(scenario.network, profile=profile),
    )


def gloo(scenario: Scenario, **host: Any) -> Scenario:
    collectives = Collectives(algorithm="gloo", host=HostCosts(**host))
    return replace(scenario, network=replace(scenario.network, collectives=collectives))


# -- profiles ----------------------------------------------------------------------------------


@given(profiles(), st.floats(0, 200), st.floats(0.01, 100))
@settings(max_examples=examples(150), deadline=None)
def test_what_is_done_at_the_end_is_the_integral_of_the_factor(
    profile: Profile, begin: float, work: float
) -> None:
    end = profile.end_of(begin, work)
    assert integral(profile, begin, end) == pytest.approx(work, rel=1e-9)
    assert profile.done(begin, end) == pytest.approx(work, rel=1e-9)
    if end - begin > 1e-6:  # and it is the first such instant
        assert integral(profile, begin, end - 1e-7) < work


@given(st.floats(0.1, 1e5), st.integers(0, 10**7), st.sampled_from([0.0, 0.3]))
@settings(max_examples=examples(300), deadline=None)
def test_a_piece_ends_after_every_instant_in_it(period: float, number: int, part: float) -> None:
    profile = Profile((0.0, 0.3 * period), (1.0, 2.0), period)
    for instant in (number * period, number * period + part * period):
        for near in (instant, nextafter(instant, inf), nextafter(instant, 0.0)):
            factor, until = profile.at(near)
            assert until > near
            assert profile.at(until)[0] == 3.0 - factor  # it is the next piece that begins there
            assert profile.end_of(near, 1.0) > near


def test_many_periods_are_passed_at_once() -> None:
    assert DAY.end_of(5.0, 1e6 * 15 + 3.0) == pytest.approx(5.0 + 1e6 * 24 + 3.0, abs=1e-6)


def test_the_mean_of_a_day_is_that_of_its_hours() -> None:
    assert DAY.mean == pytest.approx((8 + 12 * 0.25 + 4) / 24)


# -- the flow-level model ----------------------------------------------------------------------


def flows_of(scenario: Scenario, *sizes: tuple[float, float]) -> list[float]:
    """When all-reduces of (begin, bytes), each of its own group, end."""
    clock, links = Clock(), Links(scenario)
    flows, members = VaryingFlows(clock, links.states), everyone(len(scenario.workers))
    ended = [inf] * len(sizes)
    for number, (begin, size) in enumerate(sizes):

        def start(number: int = number, size: float = size) -> None:
            cost = links.cost_from(clock.now, "all_reduce", "bf16", size, members)

            def end() -> None:
                ended[number] = clock.now

            flows.start(cost, 0.0, end, str(number))

        clock.after(begin, start)
    clock.run()
    return ended


@given(profiles(), st.floats(0, 100), st.floats(1, 5000), st.sampled_from([0.0, 0.5]))
@settings(max_examples=examples(100), deadline=None)
def test_a_transfer_ends_when_the_integral_of_the_rate_is_its_bytes(
    profile: Profile, begin: float, size: float, latency: float
) -> None:
    scenario = on(plain(bandwidth=100.0, latency=latency), profile)
    if not Links(scenario).varies:
        return
    [ended] = flows_of(scenario, (begin, size))
    transmits = begin + 2 * latency
    assert integral(profile, transmits, ended) * 100.0 == pytest.approx(size, rel=1e-9)
    cost = Links(scenario).cost_from(begin, "all_reduce", "bf16", size, everyone(2))
    assert begin + cost.seconds == pytest.approx(ended, rel=1e-9)
    assert cost.latency_s == pytest.approx(2 * latency)


@given(profiles(), st.floats(0, 50), st.floats(10, 3000), st.floats(10, 3000))
@settings(max_examples=examples(100), deadline=None)
def test_two_transfers_share_a_varying_link_and_lose_no_byte(
    profile: Profile, begin: float, size: float, other: float
) -> None:
    scenario = on(plain(bandwidth=100.0), profile)
    if not Links(scenario).varies:
        return
    ends = flows_of(scenario, (begin, size), (begin, other))
    last = integral(profile, begin, max(ends)) * 100.0
    assert last == pytest.approx(size + other, rel=1e-9)  # the link was never idle
    first = integral(profile, begin, min(ends)) * 100.0
    assert first == pytest.approx(2 * min(size, other), rel=1e-9)  # and shared equally


@given(st.floats(0, 24), st.integers(1, 1000), st.floats(1, 5000))
@settings(max_examples=examples(50), deadline=None)
def test_whole_periods_later_everything_takes_as_long(
    begin: float, periods: int, size: float
) -> None:
    links = Links(on(plain(bandwidth=100.0), DAY))
    kind = "all_reduce", "bf16", size, everyone(2)
    now = links.cost_from(begin, *kind).seconds
    assert links.cost_from(begin + 24.0 * periods, *kind).seconds == pytest.approx(now, rel=1e-7)


@given(profiles(), st.floats(10, 3000))
@settings(max_examples=examples(60), deadline=None)
def test_no_transfer_is_faster_than_its_lower_bound(profile: Profile, size: float) -> None:
    scenario = on(plain(bandwidth=100.0, workers=3, latency=0.2), profile)
    links, members = Links(scenario), everyone(3)
    if links.varies:
        least = links.cost("all_reduce", "bf16", size, members).seconds
        for begin in (0.0, 1.0, 7.7, 30.0):
            took = links.cost_from(begin, "all_reduce", "bf16", size, members).seconds
            assert took >= least * (1 - 1e-12)


@pytest.mark.parametrize("algorithm", ["ring", "tree", "direct", "hierarchical", "gloo"])
@pytest.mark.parametrize("factor", [0.3, 1.0, 2.5])
def test_equal_pieces_are_the_network_of_that_bandwidth(algorithm: str, factor: float) -> None:
    pieces = Profile((0.0, 3.0, 11.0), (factor,) * 3, 40.0)  # not as one piece, which of() makes
    machines = [machine(1.0), machine(1.3), machine(0.7)]
    collectives = Collectives(algorithm=algorithm, concurrent=2)
    arguments = {"sync_every": 3, "num_fragments": 2, "fragment_sync_delay": 1}
    kind: Any = {"machines": machines, "latency": 0.05, "collectives": collectives}
    slower = plain("streaming_diloco", arguments, bandwidth=200.0 * factor, **kind)
    varying = on(plain("streaming_diloco", arguments, bandwidth=200.0, **kind), pieces)
    assert Links(varying).varies
    one, other = (simulate(scenario, rounds=12) for scenario in (slower, varying))
    times = [[(row.begin_s, row.end_s) for row in trace.rows] for trace in (one, other)]
    assert len(times[0]) == len(times[1])
    for expected, found in zip(*times, strict=True):
        assert found == pytest.approx(expected, rel=1e-10, nan_ok=True)


def test_a_constant_factor_is_that_bandwidth_to_the_last_bit() -> None:
    half = Profile.of([(0, 0.5)])
    slow = simulate(plain("diloco", {"sync_every": 4}, bandwidth=50.0, latency=0.1))
    found = simulate(on(plain("diloco", {"sync_every": 4}, latency=0.1), half))
    assert [row.end_s for row in found.rows] == pytest.approx(
        [row.end_s for row in slow.rows], rel=0, abs=0, nan_ok=True
    )


def test_a_link_that_is_down_is_waited_for() -> None:
    down = Profile.of([(0.0, 1.0), (2.0, 0.0), (9.0, 1.0)], 100.0)
    assert flows_of(on(plain(bandwidth=100.0), down), (0.0, 300.0)) == pytest.approx([10.0])
    assert flows_of(on(plain(bandwidth=100.0), down), (3.0, 300.0)) == pytest.approx([12.0])


def test_what_ends_as_the_link_goes_down_has_ended() -> None:
    down = Profile.of([(0.0, 1.0), (3.0, 0.0), (90.0, 1.0)], 100.0)
    assert flows_of(on(plain(bandwidth=100.0), down), (0.0, 300.0)) == pytest.approx([3.0])


def test_links_that_are_never_up_together_are_refused() -> None:
    scenario = plain(bandwidth=inf)
    pieces = [[(0, 1.0), (5, 0.0)], [(0, 0.0), (5, 1.0)]]
    sites = tuple(
        replace(site, uplink=100.0, downlink=100.0, profile=Profile.of(each, 10.0))
        for site, each in zip(scenario.sites, pieces, strict=True)
    )
    links = Links(replace(scenario, sites=sites))
    with pytest.raises(LinksError, match="never up at the same time"):
        links.cost_from(0.0, "all_reduce", "bf16", 10.0, everyone(2))
    with pytest.raises(SimulationError, match="never up at the same time"):
        simulate(replace(scenario, sites=sites))


# -- the message-level model -------------------------------------------------------------------


def message(
    begin: float, size: float, *links: tuple[float, Profile], latency: float = 0.1
) -> float:
    """When a message arrives that crosses links one after the other."""
    clock, found = Clock(), [inf]

    def path(sender: int, receiver: int) -> tuple[tuple[int, ...], float]:
        return tuple(range(len(links))), latency

    carries = VaryingMessageLinks(
        clock, [rate for rate, _ in links], path, HostCosts(), None, None, lambda n: links[n][1]
    )
    connections = carries.connections(2)

    def arrived() -> None:
        found[0] = clock.now

    clock.after(begin, lambda: connections.put(0, 1, size, arrived) and None, first=True)
    clock.run()
    return found[0]


@given(profiles(), st.floats(0, 60), st.floats(1, 5000))
@settings(max_examples=examples(100), deadline=None)
def test_a_message_arrives_when_the_integral_of_the_rate_is_its_bytes(
    profile: Profile, begin: float, size: float
) -> None:
    arrives = message(begin, size, (100.0, profile), latency=0.1)
    sent = integral(profile, begin, arrives - 0.1) * 100.0
    assert sent == pytest.approx(size + PREAMBLE_BYTES, rel=1e-9)


def fluid(comes: Curve, rate: float, profile: Profile, begin: float, at: float) -> float:
    """Bytes that have left by an instant: min over s of A(s) + S(s, at), on a fine grid."""

    def came(instant: float) -> float:
        before = 0.0
        for (a, x), (b, y) in pairwise(comes):
            if instant >= b:
                before = y
            elif instant > a:
                return x + (instant - a) / (b - a) * (y - x)
        return before

    steps = 200
    grid = [begin + (at - begin) * step / steps for step in range(steps + 1)]
    grid = sorted({*grid, *(instant for instant, _ in comes if begin <= instant <= at)})
    edges = [cycle * profile.period + b for cycle in range(30) for b in profile.begins] + [0.0]
    grid = sorted({*grid, *(edge for edge in edges if begin < edge < at)})
    best = rate * integral(profile, begin, at)  # what was there before its turn
    return min([best, *(came(s) + rate * integral(profile, s, at) for s in grid)])


@given(profiles(3), profiles(3), st.floats(0, 10), st.floats(10, 3000), st.floats(30, 300))
@settings(max_examples=examples(40), deadline=None)
def test_two_links_in_series_pass_a_message_as_a_fluid(
    first: Profile, second: Profile, begin: float, size: float, rate: float
) -> None:
    if inf in (first.period, second.period):
        first, second = (replace(each, period=each.begins[-1] + 7.0) for each in (first, second))
    one, other = VaryingLink(100.0, first), VaryingLink(rate, second)
    comes = one.carry([(begin, 0.0), (begin, size)])
    leaves = other.carry(comes)
    rounding = 1e-12 * size  # sums of the same bytes in another order
    for curve in (comes, leaves):
        assert all(a[0] <= b[0] and a[1] <= b[1] + rounding for a, b in pairwise(curve))
        assert (curve[0][1], curve[-1][1]) == (0.0, size)  # every byte, and once
    for instant, passed in leaves:
        exact = fluid(comes, rate, second, comes[0][0], instant)
        assert passed == pytest.approx(exact, rel=1e-6, abs=1e-6 * size)


@given(st.floats(0, 5), st.floats(0, 5), st.floats(10, 500), st.floats(10, 500))
@settings(max_examples=examples(100), deadline=None)
def test_a_link_that_does_not_vary_passes_messages_as_one_of_constant_rate(
    first: float, spread: float, size: float, rate: float
) -> None:
    constant, varying = FifoLink(rate), VaryingLink(rate, UNVARIED)
    for number in range(3):
        begin, last = first * number, first * number + spread
        leaves = constant.pass_on(begin, last, size)
        curve = varying.carry([(begin, 0.0), (last, size)])
        assert (curve[0][0], curve[-1][0]) == pytest.approx(leaves, rel=1e-9)
        for at in (begin, begin + 0.3 * spread + 0.1, last + 1.0):
            assert varying.behind(at) == pytest.approx(constant.behind(at), rel=1e-9)


def test_what_comes_at_once_leaves_as_it_is_served() -> None:
    serves = [(1.0, 0.0), (2.0, 10.0), (5.0, 10.0), (6.0, 20.0)]
    assert through([(0.0, 0.0), (0.0, 15.0)], serves) == [
        (1.0, 0.0),
        (2.0, 10.0),
        (5.0, 10.0),
        (5.5, 15.0),
    ]


def test_a_notification_waits_while_a_link_is_down() -> None:
    down = Profile.of([(0.0, 1.0), (2.0, 0.0), (9.0, 1.0)], 100.0)
    assert message(1.0, 0.0, (100.0, down), latency=0.5) == pytest.approx(1.5)
    assert message(3.0, 0.0, (100.0, down), latency=0.5) == pytest.approx(9.5)


def test_messages_of_a_collective_are_sent_where_a_change_comes() -> None:
    """Alone from now on, a collective takes what its messages take in the run."""
    night = Profile.of([(0.0, 1.0), (6.0, 0.2), (30.0, 1.0)], 50.0)
    scenario = on(
        gloo(plain("diloco", {"sync_every": 3}, bandwidth=1e3, layers=(5000, 5000))), night
    )
    trace = simulate(scenario, rounds=6)
    sent = [row for row in trace.rows if row.operation == "all_reduce" and row.rank == 0]
    assert len(sent) == 6
    assert len({round(row.work_s, 6) for row in sent}) > 2  # some in a slow piece, some across
    for row in sent:
        assert row.end_s - row.ready_s == pytest.approx(row.work_s, rel=1e-6)


# -- whole periods -----------------------------------------------------------------------------

BLOCKING = {"sync_every": 9}
"""9 steps of 10 s; the outer gradient is 200 bytes in bf16, so 10 s at 20 bytes/s."""


def blocking(profile: Profile, **run: int) -> Scenario:
    scenario = plain(
        "diloco", BLOCKING, machines=[machine(10.0)] * 2, bandwidth=20.0, run=Run(**run)
    )
    return on(scenario, profile)


def test_a_day_of_blocking_rounds_is_the_sum_of_its_pieces() -> None:
    day = Profile.of([(0.0, 1.0), (1000.0, 0.5)], 2100.0)  # 10 rounds of 100 s, 10 of 110 s
    found = figures(simulate(blocking(day)))
    assert found.steady
    assert found.wall_clock_s / 2100.0 == pytest.approx(round(found.wall_clock_s / 2100.0))
    assert found.window_rounds == round(20 * found.wall_clock_s / 2100.0)
    assert found.compute_utilization == pytest.approx(20 * 90 / 2100)
    assert found.breakdown["exposed_communication"] == pytest.approx((10 * 10 + 10 * 20) / 2100)


def ends(profile: Profile, rounds: int) -> float:
    now = 0.0
    for _ in range(rounds):
        now = profile.end_of(now + 90.0, 10.0)
    return now


@pytest.mark.parametrize("rounds", [5, 57, 300])
def test_a_run_that_is_short_enough_has_the_total_of_the_recursion(rounds: int) -> None:
    uneven = Profile.of([(0.0, 1.0), (1234.5, 0.3), (2345.6, 0.7)], 4321.0)
    found = figures(simulate(blocking(uneven, rounds=rounds)))
    assert not found.extrapolated
    assert found.total_wall_clock_s == pytest.approx(ends(uneven, rounds), rel=1e-9)


@pytest.mark.parametrize("rounds", [200_000, 200_013])
def test_a_long_run_is_extrapolated_by_whole_periods(rounds: int) -> None:
    uneven = Profile.of([(0.0, 1.0), (1234.5, 0.3), (2345.6, 0.7)], 4321.0)
    found = figures(simulate(blocking(uneven, rounds=rounds)))
    assert found.extrapolated
    assert found.total_wall_clock_s == pytest.approx(ends(uneven, rounds), rel=2e-3)
    assert found.wall_clock_s / 4321.0 == pytest.approx(
        round(found.wall_clock_s / 4321.0), rel=3e-3
    )


def test_a_profile_that_ends_is_simulated_to_the_end_of_the_run() -> None:
    ending = Profile.of([(0.0, 1.0), (1500.0, 0.25), (4000.0, 2.0)])
    found = figures(simulate(blocking(ending, rounds=80)))
    assert found.total_wall_clock_s == pytest.approx(ends(ending, 80), rel=1e-9)
    assert not found.extrapolated


def test_rounds_that_are_too_many_for_a_period_are_refused_with_the_keys_to_set() -> None:
    pieces = [(1e5 * number, 1.0 if number % 2 else 0.5) for number in range(4000)]
    year = Profile.of(pieces, 4e8)
    with pytest.raises(SimulationError, match=r"run\.measured_rounds"):
        simulate(blocking(year))
    asked = simulate(blocking(year, skip_rounds=1, measured_rounds=5))
    assert figures(asked).window_rounds == 5


def test_a_period_shorter_than_a_round_is_evaluated_over_many_of_them() -> None:
    flicker = Profile.of([(0.0, 2.0), (3.0, 0.5)], 7.0)
    found = figures(simulate(blocking(flicker)))
    assert found.window_rounds >= 4
    mean = ends(flicker, 3000) / 3000
    assert found.wall_clock_s / found.window_rounds == pytest.approx(mean, rel=1e-2)


UNEVEN = Profile.of([(0.0, 1.0), (61.0, 0.1), (150.0, 0.0), (171.0, 2.0), (230.0, 0.4)], 277.0)
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("ddp", {}),
    ("diloco", {"sync_every": 4}),
    ("streaming_diloco", {"sync_every": 6, "num_fragments": 2, "fragment_sync_delay": 2}),
    ("delayed_diloco", {"sync_every": 3, "outer_sync_delay": 1}),
    ("eager_diloco", {"sync_every": 3, "outer_sync_delay": 1}),
    ("acco", {}),
    ("dpu", {}),
]


def unequal(name: str, arguments: dict[str, Any], algorithm: str, **other: Any) -> Scenario:
    machines = [machine(1.0, **other), machine(1.3, **other), machine(1.0, **other)]
    collectives = Collectives(algorithm=algorithm, concurrent=2)
    kind: Any = {"machines": machines, "bandwidth": 70.0, "collectives": collectives}
    return on(plain(name, arguments, latency=0.1, **kind), UNEVEN)


RINGS = [pytest.param(*method, "ring", id=f"{method[0]}-ring") for method in METHODS]
GLOO = pytest.param(*METHODS[2], "gloo", id="streaming_diloco-gloo", marks=only_thorough)


@pytest.mark.parametrize(("name", "arguments", "algorithm"), [*RINGS, GLOO])
def test_evaluated_rounds_have_the_pace_of_a_long_run(
    name: str, arguments: dict[str, Any], algorithm: str
) -> None:
    scenario = unequal(name, arguments, algorithm)
    found = figures(simulate(scenario))
    rounds = max(400, 4 * found.window_rounds)
    begins = simulate(scenario, rounds=rounds).round_begins().max(axis=1)
    pace = (begins[-1] - begins[20]) / (rounds - 20)
    assert found.steady
    assert found.wall_clock_s / found.window_rounds == pytest.approx(pace, rel=5e-3)
    assert found.wall_clock_s / 277.0 == pytest.approx(round(found.wall_clock_s / 277.0), rel=5e-3)


def test_random_times_are_evaluated_over_as_many_periods() -> None:
    random = Jitter("lognormal", 0.2)
    still = figures(simulate(unequal("diloco", {"sync_every": 4}, "ring")))
    found = figures(simulate(unequal("diloco", {"sync_every": 4}, "ring", jitter=random)))
    assert found.wall_clock_s / 277.0 == pytest.approx(round(found.wall_clock_s / 277.0), rel=1e-2)
    assert found.wall_clock_s / found.window_rounds > still.wall_clock_s / still.window_rounds


def test_shorter_pieces_say_of_short_rounds_what_whole_ones_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    day = Profile.of([(0.0, 1.0), (30_000.0, 0.25), (70_000.0, 0.6)], 86_400.0)
    scenario = on(plain("ddp", machines=[machine(10.0)] * 2, bandwidth=20.0), day)
    whole = figures(simulate(scenario))
    long = figures(simulate(replace(scenario, run=Run(rounds=20_000))))
    assert whole.shortened == long.shortened == 1
    monkeypatch.setattr(periods, "MOST_ROWS", 8_000)
    found = figures(simulate(scenario))
    assert found.shortened >= 4
    covered = found.wall_clock_s * found.shortened / 86_400
    assert covered == pytest.approx(round(covered), rel=5e-3)
    assert found.compute_utilization == pytest.approx(whole.compute_utilization, rel=5e-3)
    assert found.breakdown == pytest.approx(whole.breakdown, abs=5e-3)
    short = figures(simulate(replace(scenario, run=Run(rounds=20_000))))
    assert short.rounds == 20_000
    assert short.total_wall_clock_s == pytest.approx(long.total_wall_clock_s, rel=1e-2)


def test_computation_is_slowed_by_the_bytes_that_are_sent() -> None:
    """Per byte a worker loses as many seconds, however fast the link is when they are sent."""
    slow = Profile.of([(0.0, 1.0), (40.0, 0.2), (100.0, 1.0)], 160.0)
    arguments = {"sync_every": 8, "num_fragments": 2, "fragment_sync_delay": 3}
    machines = [machine(1.0, communication_s_per_byte=0.004)] * 2
    scenario = on(plain("streaming_diloco", arguments, machines=machines, bandwidth=100.0), slow)
    trace = simulate(scenario, rounds=40)
    lost = sum(
        row.end_s - row.begin_s - row.work_s for row in trace.rows if row.operation == "inner_step"
    )
    sent = sum(row.bytes for row in trace.rows if row.operation == "all_reduce")
    assert 0 < lost <= sent * 0.004 * (1 + 1e-9)
