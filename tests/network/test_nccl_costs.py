"""NCCL's cost model: closed forms, limits, and what NCCL itself printed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from benchmarks.nccl_tables import Cell, Number, cells, read
from sim.network.nccl.choice import choose, seconds
from sim.network.nccl.constants import ALGORITHMS, NCCL_2_20, NCCL_2_29, PROTOCOLS
from sim.network.nccl.costs import OPERATIONS, algorithms, bandwidth_gbps, latency_us
from sim.network.nccl.fabric import Fabric

EIGHT_H100 = Fabric(nodes=1, per_node=8, bandwidth_gbps=370.0)
#: 16 channels of 12 GB/s give the first printed time of LL128; the other nine follow.
THREE_NODES = Fabric(nodes=3, per_node=8, bandwidth_gbps=192.0)
CELLS = list(cells())


@pytest.mark.parametrize(
    "cell", CELLS, ids=lambda cell: f"{cell.source[-20:]}-{'-'.join(cell[1:4])}"
)
def test_a_cost_table_that_nccl_printed_is_computed_to_its_last_digit(cell: Cell) -> None:
    assert cell.latency_us.equal, cell
    assert cell.bandwidth_gbps is None or cell.bandwidth_gbps.equal, cell


def test_two_tables_are_whole_and_a_third_but_for_one_cell() -> None:
    found = Counter(cell.source for cell in CELLS)
    assert sorted(found.values()) == [3, 6, 6, 14, 15, 15]
    missing = {row["source"]: row["missing"] for row in read("sources.csv")}
    assert {missing[source] for source, count in found.items() if count == 15} == {"nothing"}


def test_a_number_is_equal_that_rounds_to_what_was_printed() -> None:
    assert Number("4.6", 4.6499).equal
    assert not Number("4.6", 4.54).equal
    assert Number("29", 29.49).equal
    assert not Number("29", 29.51).equal


@pytest.mark.parametrize("row", read("chosen.csv"), ids=lambda row: row["bytes"])
def test_what_nccl_chose_and_its_time_are_computed_to_the_precision_of_its_floats(
    row: dict[str, str],
) -> None:
    choice = choose("all_reduce", int(row["bytes"]), THREE_NODES, NCCL_2_20)
    assert choice[:2] == (row["algorithm"], row["protocol"])
    assert 1e6 * choice.seconds == pytest.approx(float(row["time_us"]), rel=2e-7)


def test_a_ring_inside_a_node_takes_its_hops_and_its_share_of_the_bytes() -> None:
    size = 2**30
    expected = (8.4 + 14 * 3.4) / 1e6 + 2 * 7 / 8 * size / 370e9
    assert seconds("all_reduce", "ring", "Simple", size, EIGHT_H100) == pytest.approx(
        expected, rel=1e-9
    )
    for operation in ("reduce_scatter", "all_gather"):
        assert seconds(operation, "ring", "LL", size, EIGHT_H100) == pytest.approx(
            (6.6 + 7 * 0.6) / 1e6 + 7 / 8 * size / 141e9, rel=1e-9
        )


def test_a_ring_over_nodes_pays_the_network_between_and_its_overhead_inside() -> None:
    fabric = Fabric(nodes=4, per_node=8, bandwidth_gbps=48.0, vendor="amd", card_us=1.5)
    hops = 56 * 6.0 + 6 * (14 + 2 * 1.5)  # AMD's 2 us, three times for Simple, exceed 3.4 us
    assert seconds("all_reduce", "ring", "Simple", 2**30, fabric) == pytest.approx(
        1.4 * (8.4 + hops) / 1e6 + 62 / 32 * 2**30 / 48e9, rel=1e-9
    )


def test_a_tree_is_a_chain_inside_and_logarithmic_over_nodes() -> None:
    fabric = Fabric(nodes=8, per_node=8, bandwidth_gbps=48.0)
    for nodes, depth in ((8, 3), (16, 4), (64, 6)):
        latency = latency_us("all_reduce", "tree", "LL", replace(fabric, nodes=nodes), NCCL_2_29)
        assert latency == pytest.approx(6.8 + 2 * (7 * 0.6 + depth * 5.0), rel=1e-9)
    bandwidth = bandwidth_gbps("all_reduce", "tree", "Simple", fabric, NCCL_2_29)
    assert bandwidth == pytest.approx(48 * 0.92 * 0.85 / 2, rel=1e-9)
    balanced = replace(fabric, balanced_trees=True)
    bandwidth = bandwidth_gbps("all_reduce", "tree", "Simple", balanced, NCCL_2_29)
    assert bandwidth == pytest.approx(48 * 0.92 / 2, rel=1e-9)


def test_ll_and_ll128_of_a_ring_keep_what_their_release_gives_them() -> None:
    one_node = Fabric(nodes=1, per_node=8, bandwidth_gbps=30.0)
    for constants, gather, reduce in ((NCCL_2_20, 1 / 3, 1 / 4), (NCCL_2_29, 1 / 2, 1 / 2)):
        ring = ("ring", "LL", one_node, constants)
        assert bandwidth_gbps("all_gather", *ring) == pytest.approx(30 * gather * 8 / 7, rel=1e-9)
        assert bandwidth_gbps("all_reduce", *ring) == pytest.approx(30 * reduce * 8 / 14, rel=1e-9)
    one_per_node = Fabric(nodes=8, per_node=1, bandwidth_gbps=30.0)
    for constants, share in ((NCCL_2_20, 0.7), (NCCL_2_29, 0.92)):
        found = bandwidth_gbps("all_gather", "ring", "LL128", one_per_node, constants)
        assert found == pytest.approx(30 * share * 8 / 7, rel=1e-9)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("nodes", [1, 2, 4])
def test_more_bytes_never_take_less_by_a_ring_and_one_rank_takes_nothing(
    operation: str, nodes: int
) -> None:
    fabric = Fabric(nodes, 8, 48.0)
    sizes = [2**power for power in range(36)]
    for protocol in PROTOCOLS:
        taken = [seconds(operation, "ring", protocol, size, fabric) for size in sizes]
        assert all(a < b for a, b in pairwise(taken))
    assert choose(operation, 2**30, Fabric(1, 1, 48.0)).seconds == 0


def test_the_choice_is_the_fastest_and_turns_from_latency_to_bandwidth() -> None:
    fabric = Fabric(nodes=4, per_node=8, bandwidth_gbps=48.0)
    for power in range(34):
        choice = choose("all_reduce", 2**power, fabric)
        for algorithm in ALGORITHMS:
            for protocol in PROTOCOLS:
                taken = seconds("all_reduce", algorithm, protocol, 2**power, fabric)
                assert choice.seconds <= taken
    assert choose("all_reduce", 64, fabric)[:2] == ("tree", "LL")
    assert choose("all_reduce", 2**34, fabric)[:2] == ("ring", "Simple")
    simple = replace(fabric, protocols=("Simple",))
    assert choose("all_reduce", 64, simple).protocol == "Simple"


def test_the_latency_of_a_path_is_paid_and_not_known_to_the_choice() -> None:
    fabric = Fabric(nodes=4, per_node=8, bandwidth_gbps=48.0)
    far = replace(fabric, between_path_us=50_000.0)
    for power in range(6, 34):
        near, paid = (choose("all_reduce", 2**power, each) for each in (fabric, far))
        assert near[:2] == paid[:2]
        crossed = 6 if near.algorithm == "ring" else 4
        assert paid.seconds - near.seconds == pytest.approx(crossed * 0.05, rel=1e-9)


def test_what_nccl_does_not_know_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="operation = 'all_to_all': one of all_reduce"):
        algorithms("all_to_all")
    with pytest.raises(ValueError, match="inside = 'cable': one of nvlink, pcie"):
        Fabric(1, 8, 48.0, inside="cable")
    with pytest.raises(ValueError, match="nodes = 0: must be positive"):
        Fabric(0, 8, 48.0)
