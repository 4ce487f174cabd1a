"""Lines and connections: who waits for whom."""

from __future__ import annotations

import sys
from math import inf
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from ties import MEASURED, later, predicted, read

from sim.clock import Clock
from sim.network.links import Links
from sim.network.message_links import PREAMBLE_BYTES, Connections, FifoLink, LinkPath, MessageLinks
from sim.records.scenario import HostCosts
from sim.scenario import load

RATE, LATENCY = 1e6, 0.1


def sent(
    *messages: tuple[float, int, int, float],
    window: float = inf,
    rates: tuple[float, ...] = (RATE,),
) -> list[float]:
    """When each message (start, sender, receiver, bytes) arrives, all on the same links."""
    clock = Clock()
    found = [inf] * len(messages)

    def path(sender: int, receiver: int) -> LinkPath:
        return tuple(range(len(rates))), LATENCY

    connections = Connections(MessageLinks(clock, rates, path, HostCosts(window_bytes=window)), 4)
    for number, (start, sender, receiver, size) in enumerate(messages):

        def arrived(number: int = number) -> None:
            found[number] = clock.now

        def put(
            message: tuple[int, int, float] = (sender, receiver, size),
            arrived: object = arrived,
        ) -> None:
            connections.put(*message, arrived)  # type: ignore[arg-type]

        clock.after(start, put, first=True)
    clock.run()
    return found


def test_data_leave_a_line_in_the_order_in_which_they_come() -> None:
    took = (1e5 + PREAMBLE_BYTES) / RATE
    assert sent((0, 0, 1, 1e5), (0.01, 2, 3, 1e5)) == pytest.approx(
        [took + LATENCY, 2 * took + LATENCY]
    )


@pytest.mark.parametrize("peers", [(0, 1), (2, 3)], ids=["own data", "another's"])
def test_a_question_waits_for_data_that_are_there(peers: tuple[int, int]) -> None:
    data, question = sent((0, 0, 1, 1e5), (0.01, *peers, 0))
    assert question == pytest.approx(data)


def test_a_question_that_is_first_waits_for_nothing() -> None:
    assert sent((0.0, 2, 3, 0), (0.001, 0, 1, 1e5))[0] == pytest.approx(LATENCY)


def test_a_question_waits_for_what_has_come_of_data_that_trickle_in() -> None:
    """Data come from a link twice as fast: a tenth of a second for what then takes two."""
    link = FifoLink(RATE)
    assert link.pass_on(0.0, 0.1, 2e5) == (0.0, pytest.approx(0.2))
    assert link.behind(0.0) == 0.0
    assert link.behind(0.05) == pytest.approx(0.1)
    assert link.behind(0.1) == link.behind(0.15) == pytest.approx(0.2)
    assert link.behind(0.3) == 0.3


def test_a_question_never_overtakes_data_of_its_own_connection() -> None:
    """Not even where a window lets them out little by little."""
    data, question = sent((0, 0, 1, 1e5), (0.01, 0, 1, 0), window=1e4)
    assert question == pytest.approx(data)


@pytest.mark.parametrize("windows", [0.5, 1, 3, 10])
def test_a_window_is_out_at_once_and_the_next_a_round_trip_later(windows: float) -> None:
    """2 R bytes/s of the window on a link that is much faster."""
    size = 1e5 * windows - PREAMBLE_BYTES
    (arrives,) = sent((0, 0, 1, size), window=1e5, rates=(1e12,))
    expected = LATENCY + max(0.0, (windows - 1) * 2 * LATENCY)
    assert arrives == pytest.approx(expected, rel=1e-5)


def test_the_narrowest_line_decides_and_the_first_bytes_go_ahead() -> None:
    for rates in ((1e6, 4e6), (4e6, 1e6)):
        (arrives,) = sent((0, 0, 1, 1e5), rates=rates)
        assert arrives == pytest.approx((1e5 + PREAMBLE_BYTES) / 1e6 + LATENCY)


def test_a_line_is_not_kept_for_who_comes_later() -> None:
    """The first message waits on its own link; the second, put later, comes to theirs first."""
    clock = Clock()
    paths: dict[int, LinkPath] = {0: ((0, 2), 0.0), 1: ((1, 2), 0.0)}
    links = MessageLinks(
        clock, [1e5, 1e6, 1e6], lambda sender, receiver: paths[sender % 2], HostCosts()
    )
    connections, found = Connections(links, 2), {}

    def put(sender: int, name: str) -> None:
        connections.put(sender, 8, 1e5, lambda: found.update({name: clock.now}))

    put(0, "first")
    put(0, "behind it")
    clock.after(0.5, lambda: put(1, "later"), first=True)
    clock.run()
    assert found["later"] == pytest.approx(0.6, rel=1e-2)
    assert found["behind it"] == pytest.approx(2.0, rel=1e-2)


def test_a_sites_uplink_comes_before_the_line_of_a_pair() -> None:
    """So its question to one site waits for its data to another."""
    scenario = load(
        "quick_start",
        {},
        [
            "site.count=3",
            "network.bandwidth=80 Mbit/s",
            "network.rtt=0 s",
            "site.site-2.uplink=8 Mbit/s",
        ],
    )
    clock = Clock()
    connections, found = Connections(Links(scenario).message_links(clock), 3), {}
    connections.put(1, 0, 1e6, lambda: found.update(data=clock.now))
    clock.after(
        1e-3, lambda: connections.put(1, 2, 0, lambda: found.update(question=clock.now)), first=True
    )
    clock.run()
    assert found["question"] == pytest.approx(1.0, rel=1e-3)


def test_members_of_a_group_are_known_by_their_places() -> None:
    """Of the ranks 1 and 3 the second one sends: over its own link."""
    clock = Clock()
    rates = [1e6, 2e6, 4e6, 8e6]
    links = MessageLinks(clock, rates, lambda sender, receiver: ((sender,), 0.0), HostCosts())
    connections, found = Connections(links, 2, (1, 3)), {}
    connections.put(1, 0, 1e6, lambda: found.update(arrived=clock.now))
    clock.run()
    assert found["arrived"] == pytest.approx((1e6 + PREAMBLE_BYTES) / 8e6)


def test_ties_are_broken_as_often_as_measured() -> None:
    """Four ranks, one with a slow link (benchmarks/ties.py): by rank, and how often later."""
    seen = read(MEASURED)
    drawn = [each for number in range(10) for each in predicted(number)]
    assert len(seen) == 60
    assert min(drawn, key=min) == pytest.approx(min(seen, key=min), abs=5e-3)
    assert set(later(drawn)) == set(later(seen)) == {0, 1, 2}
    ours, theirs = (
        sum(trips * times for trips, times in counts.items()) / counts.total()
        for counts in (later(drawn), later(seen))
    )
    assert ours == pytest.approx(theirs, abs=0.35)
