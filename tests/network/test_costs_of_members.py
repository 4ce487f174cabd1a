"""What a collective over some of the workers costs: as if there were no others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.plain_scenario import plain
from support.scenarios_strategy import DTYPES, scenarios
from support.thorough import examples

from sim.members import Members, members_of
from sim.network.links import Links
from sim.network.schedules import OPERATIONS
from sim.questions.variations import with_sites
from sim.records.scenario import Collectives, CollectiveTable, HostCosts, Scenario
from sim.theory import longest_path

CLAIM = settings(
    derandomize=True,
    deadline=None,
    max_examples=examples(150),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
KINDS = st.tuples(
    st.sampled_from(OPERATIONS), st.sampled_from(DTYPES), st.sampled_from([2.0, 999.0, 1e5])
)


@st.composite
def some_of(draw: st.DrawFn, algorithm: str | None = None) -> tuple[Scenario, Members]:
    """Draw a scenario, with one algorithm or any, and some of its workers."""
    scenario = draw(scenarios())
    workers = len(scenario.workers)
    ranks = draw(st.sets(st.integers(0, workers - 1), min_size=1, max_size=workers))
    if algorithm is not None:
        host = replace(scenario.network.collectives.host, message_s=0.01, byte_s=1e-6)
        collectives = replace(scenario.network.collectives, algorithm=algorithm, host=host)
        scenario = replace(scenario, network=replace(scenario.network, collectives=collectives))
    return scenario, members_of(ranks, workers)


def alone(scenario: Scenario, members: Members) -> Links:
    """Return the links of a scenario that has these workers only, at the same sites."""
    workers = tuple(
        replace(scenario.workers[rank], rank=place) for place, rank in enumerate(members.ranks)
    )
    return Links(replace(scenario, workers=workers))


@CLAIM
@given(some_of(), KINDS)
def test_a_collective_costs_its_members_what_it_would_cost_them_alone(asked, kind) -> None:
    scenario, members = asked
    among, without_others = Links(scenario), alone(scenario, members)
    cost, expected = among.cost(*kind, members), without_others.cost(*kind)
    assert (cost.latency_s, cost.transmit_s) == (expected.latency_s, expected.transmit_s)
    assert sorted(cost.use[cost.use > 0]) == sorted(expected.use[expected.use > 0])
    assert cost.pair_use.tolist() == expected.pair_use.tolist()
    shares = among.sent_share(*kind[:2], members), without_others.sent_share(*kind[:2])
    np.testing.assert_array_equal(*shares)


@settings(CLAIM, max_examples=examples(40))
@given(some_of("gloo"), KINDS)
def test_messages_of_gloo_take_its_members_what_they_would_take_alone(asked, kind) -> None:
    scenario, members = asked
    assert (
        Links(scenario).cost(*kind, members).seconds == alone(scenario, members).cost(*kind).seconds
    )


@settings(CLAIM, max_examples=examples(40))
@given(some_of("nccl"), KINDS)
def test_nccl_takes_its_members_what_it_would_take_them_alone(asked, kind) -> None:
    scenario, members = asked
    among, expected = Links(scenario).cost(*kind, members), alone(scenario, members).cost(*kind)
    assert (among.latency_s, among.transmit_s) == (expected.latency_s, expected.transmit_s)


@CLAIM
@given(some_of(), KINDS)
def test_a_collective_over_members_takes_its_longest_path(asked, kind) -> None:
    scenario, members = asked
    operation, dtype, size = kind
    expected = longest_path(scenario, operation, size, dtype, members.ranks)
    cost = Links(scenario).cost(operation, dtype, size, members)
    assert cost.seconds == pytest.approx(expected.total_s, rel=1e-9)
    assert cost.transmit_s == pytest.approx(expected.transmission_s, rel=1e-9)


def test_a_table_of_all_workers_holds_for_fewer_in_proportion_to_what_is_computed() -> None:
    """As where a site is left out; and a collective that took twice as long as computed does so."""
    table = CollectiveTable("all_reduce", "bf16", (100.0, 1000.0), (8.0, 80.0))
    asked = plain(workers=4, collectives=Collectives("ring", tables=(table,)))
    pair = members_of((1, 3), 4)
    bare = Links(plain(workers=4, collectives=Collectives("ring")))
    for size in (50.0, 100.0, 300.0, 1000.0, 5000.0):
        seconds = Links(asked).cost("all_reduce", "bf16", size, pair).seconds
        fewer = with_sites(asked, pair.ranks)
        assert seconds == Links(fewer).cost("all_reduce", "bf16", size).seconds
    ratio = 80.0 / bare.cost("all_reduce", "bf16", 1000.0).seconds
    computed = bare.cost("all_reduce", "bf16", 1000.0, pair).seconds
    assert Links(asked).cost("all_reduce", "bf16", 1000.0, pair).seconds == pytest.approx(
        ratio * computed
    )


@pytest.mark.parametrize("algorithm", ["ring", "gloo"])
def test_a_member_alone_sends_nothing(algorithm: str) -> None:
    collectives = Collectives(algorithm, host=HostCosts(message_s=1.0))
    links, one = Links(plain(workers=3, collectives=collectives)), members_of((1,), 3)
    for operation in OPERATIONS:
        assert links.cost(operation, "fp4", 1e3, one).seconds == 0
        assert links.sent_share(operation, "fp4", one).tolist() == [0]
