"""Collectives over unequal links, priced by classes of links and by site: as one by one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.thorough import examples

from sim.api.scenarios import make_scenario
from sim.members import Members, everyone, members_of
from sim.network import prices, ring
from sim.network.links import Links
from sim.records.pairs import Pairs
from sim.records.scenario import Scenario

CLAIM = settings(derandomize=True, deadline=None, max_examples=examples(120))
SAME = 1e-12
rates = st.sampled_from([inf, 1e8, 1e8, 3e8, 1e9]) | st.floats(1e7, 1e10)
seconds = st.sampled_from([0.0, 0.03]) | st.floats(0, 0.1)
KINDS = [
    ("all_reduce", "bf16"),
    ("all_reduce", "int8"),
    ("reduce_scatter", "fp4"),
    ("all_to_all", "bf16"),
]


@st.composite
def unequal_sites(draw: st.DrawFn) -> tuple[Scenario, Members]:
    """Draw sites of any sizes behind links of their own, and some of their workers."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    named = {f"site.s{number}.workers": size for number, size in enumerate(sizes)}
    algorithm = draw(st.sampled_from(["direct", "direct", "ring", "tree"]))
    scenario = make_scenario(
        model="1B",
        sites=[f"s{number}" for number in range(len(sizes))],
        settings={"network.collective.algorithm": algorithm, **named},
    ).resolved
    sites = tuple(
        replace(
            site,
            uplink=draw(rates),
            downlink=draw(rates),
            within_bandwidth=draw(rates),
            within_latency=draw(seconds),
        )
        for site in scenario.sites
    )
    network = replace(
        scenario.network,
        bandwidth=Pairs.alike(len(sizes), inf, inf),
        latency=Pairs.alike(len(sizes), draw(seconds), 0.0),
    )
    scenario = replace(scenario, sites=sites, network=network)
    workers = len(scenario.workers)
    some = draw(st.sets(st.integers(0, workers - 1), min_size=1))
    return scenario, members_of(some, workers) if draw(st.booleans()) else everyone(workers)


@contextmanager
def one_by_one() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prices, "by_site", lambda network, limited: False)
        yield


@CLAIM
@given(unequal_sites(), st.sampled_from(KINDS), st.sampled_from([10.0, 1e6, 3e9]))
def test_a_direct_exchange_by_site_costs_what_its_transfers_do(asked, kind, size) -> None:
    scenario, members = asked
    found = Links(scenario)
    cost = found.cost(*kind, size, members)
    sent, leaving = found.sent_share(*kind, members), found.leaving_share(*kind, members)
    with one_by_one():
        each = Links(scenario)
        expected = each.cost(*kind, size, members)
        assert sent == pytest.approx(each.sent_share(*kind, members), rel=SAME)
        assert leaving == pytest.approx(each.leaving_share(*kind, members), rel=SAME)
    assert cost.links.tolist() == expected.links.tolist()
    assert cost.use == pytest.approx(expected.use, rel=SAME)
    assert cost.seconds == pytest.approx(expected.seconds, rel=SAME)
    assert cost.transmit_s == pytest.approx(expected.transmit_s, rel=SAME)


@CLAIM
@given(
    st.lists(st.sampled_from([1.0, 1.5, 7.0]) | st.floats(1e-6, 10), min_size=2, max_size=40),
    st.sampled_from([0.0, 0.3, 9.0]) | st.floats(0, 20),
    st.booleans(),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_a_ring_by_classes_of_links_ends_as_round_by_round(
    busy, latency, waiting, staggered, random
) -> None:
    members = len(busy)
    occupied = np.array(busy)
    delay = np.array([latency * random.choice([1.0, 0.5]) for _ in busy])
    sent = occupied * 0.6 if waiting else None
    enters = np.array([random.random() * staggered for _ in busy])
    expected = enters.copy()
    ring._by_rounds(expected, occupied, sent, delay, 2 * members - 2)
    arrives = occupied + delay if sent is None else np.maximum(occupied, sent + delay)
    found = ring._by_classes(enters, occupied, arrives, np.unique(occupied))
    assert found == pytest.approx(expected, rel=SAME)


def test_ten_thousand_unequal_sites_take_no_array_of_pairs() -> None:
    """An array of a number for every pair would have 800 MB."""
    import tracemalloc

    count = 10_000
    base = make_scenario(
        model="1B", sites=count, settings={"network.collective.algorithm": "direct"}
    ).resolved
    sites = tuple(
        replace(site, uplink=1e8 * (1 + number % 97)) for number, site in enumerate(base.sites)
    )
    scenario = replace(base, sites=sites)
    tracemalloc.start()
    try:
        seconds = Links(scenario).cost("all_reduce", "bf16", 2e9).transmit_s
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    # The slowest uplink carries a part for every other member, twice.
    assert seconds == pytest.approx(2 * (count - 1) / count * 2e9 / 1e8, rel=1e-9)
