"""``network.collective.algorithm = "nccl"``: what collectives between workers take."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.plain_scenario import machine, plain

from sim.figures.collective_model import in_words
from sim.figures.evaluation import figures
from sim.network.links import Links
from sim.network.schedules import OPERATIONS
from sim.records.scenario import Collectives, Scenario, Site, Worker
from sim.runtime import simulate
from sim.theory.closed_forms import ring_seconds

RATE, LATENCY = 1e9, 1e-3


def nodes(per_site: list[int], algorithm: str = "nccl", **site: Any) -> Scenario:
    """Return sites of several workers: 200 GB/s within, 1 GB/s and 1 ms between."""
    asked = plain(
        workers=len(per_site),
        bandwidth=RATE,
        latency=LATENCY,
        collectives=Collectives(algorithm),
    )
    inside = {"within_bandwidth": 200e9, "within_latency": 0.0, **site}
    ranks = [number for number, count in enumerate(per_site) for _ in range(count)]
    return replace(
        asked,
        sites=tuple(Site(f"s{n}", count, **inside) for n, count in enumerate(per_site)),
        workers=tuple(Worker(rank, site, machine()) for rank, site in enumerate(ranks)),
    )


def seconds(scenario: Scenario, operation: str, size: float, dtype: str = "bf16") -> float:
    return Links(scenario).cost(operation, dtype, size).seconds


def test_two_nodes_of_four_take_the_closed_form_of_the_fastest_pair() -> None:
    two, size = nodes([4, 4]), 1e9
    simple = 8.4 + 12 * 3.4 + 2 * 14
    assert seconds(two, "all_reduce", size) == pytest.approx(
        14 / 8 * size / RATE + 2 * LATENCY + 1.4 * simple / 1e6, rel=1e-9
    )
    tree = 6.8 + 2 * (3 * 0.6 + 5.0)  # LL, 64 bytes
    bandwidth = RATE * 0.92 / 3.8 * 0.85 / 2
    assert seconds(two, "all_reduce", 64) == pytest.approx(
        64 / bandwidth + 2 * LATENCY + tree / 1e6, rel=1e-9
    )
    half = 8.4 + 6 * 3.4 + 14
    for operation in ("reduce_scatter", "all_gather"):
        assert seconds(two, operation, size) == pytest.approx(
            7 / 8 * size / RATE + LATENCY + half / 1e6, rel=1e-9
        )
    assert seconds(two, "broadcast", size) == pytest.approx(
        size / RATE + LATENCY + (8.4 + 14) / 1e6, rel=1e-9
    )


def test_one_node_has_the_bandwidth_and_the_latency_of_its_own_network() -> None:
    one = nodes([8], within_latency=2e-6)
    assert seconds(one, "all_reduce", 1e9) == pytest.approx(
        14 / 8 * 1e9 / 200e9 + 14 * 2e-6 + (8.4 + 14 * 3.4) / 1e6, rel=1e-9
    )
    by_pcie = nodes([8], within_bandwidth=20e9)
    assert seconds(by_pcie, "all_reduce", 1e9) == pytest.approx(
        14 / 8 * 1e9 / 20e9 + (8.4 + 14 * 5.7) / 1e6, rel=1e-9
    )


def test_an_uplink_and_unequal_nodes_limit_it_as_they_limit_a_ring() -> None:
    slow = nodes([3, 1], uplink=1e8)
    assert seconds(slow, "all_reduce", 1e9) == pytest.approx(
        6 / 4 * 1e9 / 1e8 + 2 * LATENCY, rel=1e-4
    )
    assert seconds(nodes([1]), "all_reduce", 1e9) == 0


def test_a_simulated_exchange_takes_what_its_closed_form_says() -> None:
    asked = plain(
        "local_sgd",
        {"sync_every": 1},
        workers=4,
        bandwidth=100.0,
        latency=0.5,
        layers=(1024, 1024),
        collectives=Collectives("nccl"),
    )
    ring = ring_seconds("all_reduce", 4, 4096, 100.0, 0.5)
    published = 1.4 * (8.4 + 6 * 14) / 1e6
    assert simulate(asked, rounds=1).total_s - 1.0 == pytest.approx(ring + published, rel=1e-9)


@pytest.mark.parametrize(
    ("latency", "parameters", "told"),
    [(1e-5, 1024, True), (1e-5, 2**28, False), (0.01, 1024, False)],
)
def test_the_answer_says_how_far_off_small_collectives_between_near_nodes_were(
    latency: float, parameters: int, told: bool
) -> None:
    asked = plain(
        "local_sgd",
        {"sync_every": 1},
        workers=4,
        bandwidth=1e9,
        latency=latency,
        layers=(parameters,),
        collectives=Collectives("nccl"),
    )
    found = figures(simulate(asked, rounds=3))
    assert ("up to 80 % off" in in_words(found.exchanges, asked)) is told


@pytest.mark.parametrize(
    ("operation", "dtype"),
    [("all_to_all", "bf16"), ("all_reduce", "int8"), ("reduce_scatter", "fp4")],
)
def test_what_nccl_does_not_carry_is_carried_as_under_ring(operation: str, dtype: str) -> None:
    for size in (64.0, 1e9):
        nccl, ring = (
            Links(nodes([4, 4], algorithm)).cost(operation, dtype, size)
            for algorithm in ("nccl", "ring")
        )
        assert (nccl.latency_s, nccl.transmit_s) == (ring.latency_s, ring.transmit_s)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_more_bytes_from_one_mebibyte_up_take_longer_and_are_sent_by_every_worker(
    operation: str,
) -> None:
    links = Links(nodes([2, 2, 2]))
    taken = [links.cost(operation, "fp32", 2.0**power).seconds for power in range(20, 34)]
    assert taken == sorted(taken)
    assert links.sent_share(operation, "fp32").max() > 0
