"""The closed forms, the longest path and the recurrences agree where each applies."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.scenarios_strategy import ALGORITHMS, DTYPES, scenarios
from support.thorough import examples

from sim import theory
from sim.methods import METHODS
from sim.program import ArgumentError
from sim.records.scenario import (
    Collectives,
    CollectiveTable,
    Jitter,
    Machine,
    Method,
    ModelSize,
    Network,
    Run,
    Scenario,
    Site,
    Worker,
)
from sim.theory.longest_path import rounds

MACHINE = Machine(step_seconds=1.0, batch_tokens=1.0)
MODEL = ModelSize("toy", 1000, 1000, (250, 250, 250, 250))
OPERATIONS = ("all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast")
EXACT = settings(derandomize=True, deadline=None, max_examples=examples(150))


def scenario(
    sites: list[Site],
    bandwidth: Any = inf,
    latency: Any = 0.0,
    *,
    method: str = "diloco",
    arguments: dict[str, Any] | None = None,
    machine: Machine = MACHINE,
    **collectives: Any,
) -> Scenario:
    """A scenario of equal machines; one number for ``bandwidth`` or ``latency`` means all pairs."""
    count = len(sites)
    if not isinstance(bandwidth, tuple):
        bandwidth = ((bandwidth,) * count,) * count
    if not isinstance(latency, tuple):
        latency = ((latency,) * count,) * count
    site_of = [number for number, site in enumerate(sites) for _ in range(site.workers)]
    return Scenario(
        run=Run(),
        model=MODEL,
        method=Method(method, METHODS[method], arguments or {}),
        workers=tuple(Worker(rank, site, machine) for rank, site in enumerate(site_of)),
        sites=tuple(sites),
        network=Network(bandwidth, latency, Collectives(**collectives)),
    )


def equal_links(workers: int, bandwidth: float, latency: float, apart: bool, algorithm: str) -> Any:
    """M ports of W bytes/s: one site, or one site each (``apart``)."""
    if apart:
        sites = [Site(f"s{i}", 1, uplink=bandwidth, downlink=bandwidth) for i in range(workers)]
        return scenario(sites, latency=latency, algorithm=algorithm)
    site = Site("s", workers, within_bandwidth=bandwidth, within_latency=latency)
    return scenario([site], algorithm=algorithm)


def is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0


def lone_sites(count: int) -> list[Site]:
    return [Site(f"s{number}", 1) for number in range(count)]


# --- the longest path and the closed forms --------------------------------------------------------

links = {
    "size": st.floats(1, 1e6),
    "bandwidth": st.floats(1, 1e6),
    "latency": st.sampled_from([0.0, 0.01]) | st.floats(0, 1),
    "apart": st.booleans(),
}
FORMS = {
    "ring": theory.ring_seconds,
    "direct": theory.direct_seconds,
    "halving_doubling": theory.halving_doubling_seconds,
}


@EXACT
@given(
    algorithm=st.sampled_from(sorted(FORMS)),
    operation=st.sampled_from(["all_reduce", "reduce_scatter", "all_gather"]),
    workers=st.integers(1, 17),
    **links,
)
def test_on_equal_links_the_longest_path_is_the_textbook_formula(
    algorithm, operation, workers, size, bandwidth, latency, apart
):
    assume(operation == "all_reduce" or algorithm != "halving_doubling" or is_power_of_two(workers))
    case = equal_links(workers, bandwidth, latency, apart, algorithm)
    found = theory.longest_path(case, operation, size)
    form = FORMS[algorithm]
    assert found.total_s == pytest.approx(form(operation, workers, size, bandwidth, latency))
    assert found.transmission_s == pytest.approx(form(operation, workers, size, bandwidth))


@EXACT
@given(doublings=st.integers(0, 4), operation=st.sampled_from(["all_reduce", "broadcast"]), **links)
def test_on_equal_links_a_tree_of_a_power_of_two_is_the_textbook_formula(
    doublings, operation, size, bandwidth, latency, apart
):
    workers = 1 << doublings
    case = equal_links(workers, bandwidth, latency, apart, "tree")
    found = theory.longest_path(case, operation, size).total_s
    assert found == pytest.approx(theory.tree_seconds(operation, workers, size, bandwidth, latency))


@EXACT
@given(workers=st.integers(1, 17), **links)
def test_a_tree_of_any_number_is_no_deeper_than_the_next_power_of_two(
    workers, size, bandwidth, latency, apart
):
    case = equal_links(workers, bandwidth, latency, apart, "tree")
    found = theory.longest_path(case, "all_reduce", size).total_s
    above, below = 1 << (workers - 1).bit_length(), 1 << (workers.bit_length() - 1)
    deepest = theory.tree_seconds("all_reduce", above, size, bandwidth, latency)
    shallowest = theory.tree_seconds("all_reduce", below, size, bandwidth, latency)
    assert shallowest * (1 - 1e-9) <= found <= deepest * (1 + 1e-9)


@EXACT
@given(algorithm=st.sampled_from(ALGORITHMS), workers=st.integers(1, 9), **links)
def test_all_to_all_is_always_direct_and_broadcast_a_tree_unless_direct(
    algorithm, workers, size, bandwidth, latency, apart
):
    case = equal_links(workers, bandwidth, latency, apart, algorithm)
    exchange = theory.longest_path(case, "all_to_all", size).total_s
    assert exchange == pytest.approx(
        theory.direct_seconds("all_to_all", workers, size, bandwidth, latency)
    )
    if is_power_of_two(workers):
        form = theory.direct_seconds if algorithm == "direct" else theory.tree_seconds
        expected = form("broadcast", workers, size, bandwidth, latency)
        assert theory.longest_path(case, "broadcast", size).total_s == pytest.approx(expected)


@EXACT
@given(
    sites=st.integers(1, 5),
    per_site=st.integers(1, 4),
    size=st.floats(1, 1e6),
    uplink=st.floats(1, 1e6),
    latency=st.floats(0, 1),
    within_bandwidth=st.floats(1, 1e6),
    within_latency=st.floats(0, 1),
)
def test_hierarchical_over_equal_sites_is_its_formula(
    sites, per_site, size, uplink, latency, within_bandwidth, within_latency
):
    places = [
        Site(f"s{i}", per_site, uplink, uplink, within_bandwidth, within_latency)
        for i in range(sites)
    ]
    case = scenario(places, latency=latency, algorithm="hierarchical")
    expected = theory.hierarchical_seconds(
        sites, per_site, size, uplink, latency, within_bandwidth, within_latency
    )
    assert theory.longest_path(case, "all_reduce", size).total_s == pytest.approx(expected)


@EXACT
@given(
    algorithm=st.sampled_from(sorted(FORMS)),
    dtype=st.sampled_from(["int8", "fp4"]),
    workers=st.integers(2, 9),
    **links,
)
def test_a_quantized_all_reduce_is_an_all_to_all_and_an_all_gather(
    algorithm, dtype, workers, size, bandwidth, latency, apart
):
    assume(algorithm != "halving_doubling" or is_power_of_two(workers))
    case = equal_links(workers, bandwidth, latency, apart, algorithm)
    exchange = theory.direct_seconds("all_to_all", workers, size, bandwidth, latency)
    gather = FORMS[algorithm]("all_gather", workers, size, bandwidth, latency)
    whole = theory.longest_path(case, "all_reduce", size, dtype).total_s
    assert whole == pytest.approx(exchange + gather)
    scattered = theory.longest_path(case, "reduce_scatter", size, dtype).total_s
    assert scattered == pytest.approx(exchange)


@EXACT
@given(algorithm=st.sampled_from(ALGORITHMS), workers=st.integers(2, 17), **links)
def test_no_all_reduce_beats_the_bandwidth_bound(
    algorithm, workers, size, bandwidth, latency, apart
):
    case = equal_links(workers, bandwidth, latency, apart, algorithm)
    bound = theory.all_reduce_lower_bound(workers, size, bandwidth)
    assert theory.longest_path(case, "all_reduce", size).total_s >= bound * (1 - 1e-9)


@EXACT
@given(
    case=scenarios(),
    operation=st.sampled_from(OPERATIONS),
    size=st.floats(1, 1e5),
    dtype=st.sampled_from(DTYPES),
)
def test_on_any_network_the_duration_lies_between_its_bounds(case, operation, size, dtype):
    found = theory.longest_path(case, operation, size, dtype)
    sequence = rounds(case, operation, size, dtype)
    slowest = max(
        [value for row in case.network.latency for value in row]
        + [site.within_latency for site in case.sites]
    )
    assert found.transmission_s <= found.total_s
    assert found.total_s <= found.transmission_s + len(sequence) * slowest + 1e-9 * found.total_s

    # Everything that a reduction spreads must leave each worker and reach each worker.
    if operation == "all_reduce":
        for worker in case.workers:
            sent = sum(b for step in sequence for (i, _), b in step.items() if i == worker.rank)
            received = sum(b for step in sequence for (_, j), b in step.items() if j == worker.rank)
            assert min(sent, received) > 0


@EXACT
@given(
    case=scenarios(),
    algorithm=st.sampled_from(["ring", "direct", "hierarchical", "tree", "halving_doubling"]),
    size=st.floats(1, 1e5),
)
def test_no_collective_overloads_a_link(case, algorithm, size):
    collectives = replace(case.network.collectives, algorithm=algorithm)
    case = replace(case, network=replace(case.network, collectives=collectives))
    found = theory.longest_path(case, "all_reduce", size)
    assert max(found.share.values()) <= 1 + 1e-9


# --- where a short-cut would be wrong -------------------------------------------------------------


def test_latency_on_one_edge_hides_behind_transmission_on_another():
    bandwidth = ((inf, 10.0, inf), (inf, inf, inf), (inf, inf, inf))
    latency = ((0.0, 0.0, 0.0), (0.0, 0.0, 5.0), (0.0, 0.0, 0.0))
    case = scenario(lone_sites(3), bandwidth, latency)
    found = theory.longest_path(case, "all_reduce", 300.0)
    # Four rounds of 100 bytes. Worker 0 needs 10 s for each; the 5 s from 1 to 2 are over before
    # worker 1 hears from 0 again. "Slowest bandwidth plus slowest latency" would say 60.
    assert found.total_s == 40.0
    assert found.transmission_s == 40.0


def test_when_all_edges_matter_the_answer_is_a_path_through_them():
    bandwidth = ((inf, 10.0, inf), (inf, inf, inf), (inf, inf, inf))
    latency = ((0.0, 0.0, 0.0), (0.0, 0.0, 11.0), (11.0, 0.0, 0.0))
    case = scenario(lone_sites(3), bandwidth, latency)
    # The longest of four steps around the ring: 11 + 11 + 10 + 11. The slowest edge alone says
    # 4 x 11, the slowest bandwidth plus the slowest latency 4 x 21, the mean edge 4 x 32 / 3.
    assert theory.longest_path(case, "all_reduce", 300.0).total_s == 43.0


def test_an_uplink_is_divided_among_the_transfers_that_leave_the_site():
    sites = [Site("a", 2, uplink=10.0, downlink=100.0), Site("b", 2, uplink=100.0, downlink=100.0)]
    sites = [replace(site, within_bandwidth=inf, within_latency=0.0) for site in sites]

    def seconds(algorithm: str) -> float:
        case = scenario(sites, algorithm=algorithm)
        return theory.longest_path(case, "all_reduce", 400.0).total_s

    # A ring: one edge leaves each site, 6 rounds of 100 bytes at 10 bytes/s.
    assert seconds("ring") == 60.0
    # Hierarchical: two slices of 200 share the slow uplink, 2 rounds of 2 x 100 bytes. The site
    # with the fast uplink waits for what the slow one sends.
    assert seconds("hierarchical") == 40.0
    # Direct: each of two rounds sends 4 x 100 bytes out of the slow site.
    assert seconds("direct") == 80.0


def test_the_narrowest_of_pair_link_uplink_and_downlink_counts():
    sites = [Site("a", 1, uplink=100.0), Site("b", 1, downlink=50.0)]
    narrow = ((inf, 20.0), (20.0, inf))
    wide = ((inf, 1e9), (1e9, inf))
    assert theory.longest_path(scenario(sites, narrow), "broadcast", 100.0).total_s == 5.0
    assert theory.longest_path(scenario(sites, wide), "broadcast", 100.0).total_s == 2.0


def test_the_order_of_the_ring_matters_when_directions_differ():
    # Clockwise links are ten times as fast as the others.
    bandwidth = ((inf, 100.0, 10.0), (10.0, inf, 100.0), (100.0, 10.0, inf))
    for order, seconds in (((), 4.0), ((0, 1, 2), 4.0), ((0, 2, 1), 40.0), ((1, 2, 0), 4.0)):
        case = scenario(lone_sites(3), bandwidth, order=order)
        assert theory.longest_path(case, "all_reduce", 300.0).total_s == pytest.approx(seconds)


def test_unequal_sites_send_everything_through_their_first_workers():
    sites = [Site("a", 1), Site("b", 2, within_bandwidth=50.0, within_latency=1.0)]
    case = scenario(sites, 10.0, 3.0, algorithm="hierarchical")
    # Reduce in b: 1 + 100 / 50; the ring of two: 2 x (3 + 50 / 10); broadcast in b again.
    assert theory.longest_path(case, "all_reduce", 100.0).total_s == 3 + 16 + 3


def test_surplus_workers_of_halving_doubling_send_before_and_receive_after():
    sequence = rounds(scenario(lone_sites(3), algorithm="halving_doubling"), "all_reduce", 8.0)
    exchange = {(0, 1): 4.0, (1, 0): 4.0}
    assert sequence == [{(2, 0): 8.0}, exchange, exchange, {(0, 2): 8.0}]


def test_a_tree_sends_to_the_rank_without_its_lowest_bit():
    sequence = rounds(scenario(lone_sites(4), algorithm="tree"), "all_reduce", 1.0)
    assert sequence == [
        {(1, 0): 1.0, (3, 2): 1.0},
        {(2, 0): 1.0},
        {(0, 2): 1.0},
        {(0, 1): 1.0, (2, 3): 1.0},
    ]


def test_an_unknown_collective_is_refused():
    with pytest.raises(ValueError, match="gossip"):
        theory.longest_path(scenario(lone_sites(2), algorithm="gossip"), "all_reduce", 1.0)
    with pytest.raises(ValueError, match="scan"):
        theory.longest_path(scenario(lone_sites(2)), "scan", 1.0)
    with pytest.raises(ArgumentError, match="broadcast"):
        theory.ring_seconds("broadcast", 4, 1.0, 1.0)
    with pytest.raises(ValueError, match="power of two"):
        theory.tree_seconds("all_reduce", 3, 1.0, 1.0)
    with pytest.raises(ValueError, match="power of two"):
        theory.halving_doubling_seconds("all_gather", 3, 1.0, 1.0)


# --- utilization ----------------------------------------------------------------------------------


@EXACT
@given(
    utilization=st.floats(0.01, 0.99),
    workers=st.integers(2, 64),
    size=st.floats(1, 1e12),
    step_s=st.floats(1e-3, 10),
    sync_every=st.integers(1, 1000),
)
def test_the_required_bandwidth_gives_the_utilization_asked_for(
    utilization, workers, size, step_s, sync_every
):
    bandwidth = theory.required_bandwidth(utilization, workers, size, step_s, sync_every)
    communication = theory.ring_seconds("all_reduce", workers, size, bandwidth)
    found = theory.blocking_utilization(sync_every * step_s, communication)
    assert found == pytest.approx(utilization)
    blocking, overlapped = theory.utilization_bounds(sync_every * step_s, communication)
    assert blocking == found <= overlapped <= 1


def test_no_bandwidth_makes_up_for_too_much_latency():
    assert theory.required_bandwidth(0.5, 2, 1.0, step_s=1.0, latency=0.5) == inf


# --- recurrences where a closed form exists -------------------------------------------------------

TWO = lone_sites(2)
S = 2000.0  # bytes of MODEL in bf16; over two workers at 1000 bytes/s a ring takes 2 s


def wall(method: str, count: int, machine: Machine = MACHINE, **arguments: Any) -> float:
    case = scenario(TWO, 1000.0, method=method, arguments=arguments, machine=machine)
    return theory.wall_clock(case, count).total_s


def test_blocking_methods_add_computation_and_communication():
    assert wall("ddp", 5, overlap="none") == pytest.approx(5 * (1 + 2))
    assert wall("ddp", 5, overlap="none", zero1=True) == pytest.approx(5 * (1 + 2))
    assert wall("local_sgd", 5, sync_every=10) == pytest.approx(5 * (10 + 2))
    assert wall("diloco", 5, sync_every=10) == pytest.approx(5 * (10 + 2))


def test_a_delay_hides_what_it_covers():
    late = {"sync_every": 10, "num_fragments": 1}
    assert wall("streaming_diloco", 5, fragment_sync_delay=0, **late) == pytest.approx(60)
    assert wall("streaming_diloco", 5, fragment_sync_delay=1, **late) == pytest.approx(56)
    assert wall("streaming_diloco", 5, fragment_sync_delay=2, **late) == pytest.approx(52)
    assert wall("delayed_diloco", 5, sync_every=10) == pytest.approx(52)
    assert wall("delayed_diloco", 5, sync_every=1) == pytest.approx(1 + 5 * 2)


def test_layer_overlap_exposes_what_neither_pass_covers():
    # Four layers of 0.5 s each on the wire; backward 1/6, forward 1/12 s. The first reduction
    # starts 1/3 + 1/6 into the step. The last ends 2 s later, and only layers 1 to 3's forwards
    # could run at the same time if they were not behind layer 0's.
    assert wall("ddp", 1, overlap="layer") == pytest.approx(1 / 3 + 1 / 6 + 2)
    # Steady state: the link's 2 s, and the chain from the last reduction (layer 0) through all
    # forwards to the first backward's end, 1/3 + 1/6.
    assert wall("ddp", 5, overlap="layer") == pytest.approx(5 * (1 / 3 + 1 / 6 + 2))


def test_accumulation_goes_on_while_communication_is_not_done():
    # Counts: 8 bytes over two workers, 0.008 s; reduce-scatter and all-gather 1 s each. So the
    # communication of 2.008 s costs three steps of 1 s, one of which is the minimum.
    assert wall("dpu", 4) == pytest.approx(1 + 4 * 3)
    assert wall("acco", 4) == pytest.approx(1 + 8 * 3)


def test_a_communication_that_ends_with_a_micro_batch_costs_no_other():
    # Exactly 2.008 / 4 per micro-batch: four of them, not five, whatever the rounding.
    for scale in (1.0, 3.0, 0.7, 1 / 3):
        machine = replace(MACHINE, step_seconds=0.502 * scale)
        case = scenario(TWO, 1000.0 / scale, method="dpu", machine=machine)
        assert theory.wall_clock(case, 50).total_s == pytest.approx(201 * 0.502 * scale)


def test_round_begins_are_per_worker():
    case = scenario(TWO, 1000.0, method="streaming_diloco", arguments={"sync_every": 4})
    slow = replace(case.workers[1], machine=replace(MACHINE, speed=0.5))
    case = replace(case, workers=(case.workers[0], slow))
    begins = theory.wall_clock(case, 3).round_begins_s
    assert begins.shape == (4, 2)
    assert np.all(np.diff(begins, axis=0) > 0)
    assert begins[1, 0] < begins[1, 1] == 8


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"jitter": Jitter("normal", 0.1)}, "jitter"),
        ({"communication_slowdown": 1.1}, "communication_slowdown"),
        ({"background_slowdown": 1.1}, "background_slowdown"),
        ({"cold_start": ((1.0, 0.1),)}, "cold_start"),
        ({"transmission_slowdown": ((1.0, 1.1),)}, "transmission_slowdown"),
    ],
)
def test_machines_outside_the_domain_are_refused(change, said):
    case = scenario(TWO, 1000.0, machine=replace(MACHINE, **change))
    with pytest.raises(ValueError, match=said):
        theory.wall_clock(case, 1)


def test_scenarios_outside_the_domain_are_refused():
    table = CollectiveTable("all_reduce", "bf16", (1.0, 2.0), (1.0, 2.0))
    with pytest.raises(ValueError, match="tables"):
        theory.wall_clock(scenario(TWO, 1000.0, tables=(table,)), 1)

    case = scenario(TWO, 1000.0)
    other = replace(case.workers[1], machine=replace(MACHINE, n_grad_accumulation=2))
    with pytest.raises(ValueError, match="n_grad_accumulation"):
        theory.wall_clock(replace(case, workers=(case.workers[0], other)), 1)
    with pytest.raises(ValueError, match="no recurrence"):
        theory.wall_clock(replace(case, method=Method("own", METHODS["ddp"])), 1)

    arguments = {"bucket_bytes": 500}
    case = scenario(TWO, 1000.0, method="ddp", arguments=arguments, concurrent=2)
    with pytest.raises(ValueError, match="slow each other down"):
        theory.wall_clock(case, 1)
