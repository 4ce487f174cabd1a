"""Settings that are equal in one figure: the next one decides, and never the rounding."""

from __future__ import annotations

from itertools import pairwise

import pytest
from support.command_line import Bandwise

from sim.planning.asked import Asked
from sim.planning.decision import plan
from sim.planning.evidence import STREAMING, learns_as
from sim.planning.limits import Limits
from sim.planning.search import EQUAL, TOLERANCE, Search
from sim.records.scenario import Scenario
from sim.scenario import load

OPTIONS = {
    "--model": "1B",
    "--sites": "2",
    "--bandwidth": "1Gbit/s",
    "--rtt": "180ms",
    "--accelerators": "16 x H100",
    "--mfu": "0.40",
    "--comm-dtype": "fp4",
    "--algorithm": "ring",
    "--method": "streaming_diloco",
}
TOKENS = 20e9
AXES = {
    "method.sync_every": (5, 10, 20, 40, 80),
    "method.overlap": ("none", "layer"),
    "method.num_fragments": (2, 4, 8, 16),
    "method.fragment_sync_delay": (1,),
}


@pytest.fixture(scope="module")
def base() -> Scenario:
    return load(None, OPTIONS)


@pytest.fixture(scope="module")
def every(base: Scenario) -> Search:
    """All settings, simulated one by one."""
    search = Search({"streaming_diloco": base}, {"streaming_diloco": AXES}, Limits(), TOKENS)
    for candidate in search.candidates:
        search.simulated(candidate)
    assert len(search.points) == 40
    return search


def test_the_answer_is_that_of_all_settings_by_hand(base: Scenario, every: Search) -> None:
    asked = Asked({"streaming_diloco": base}, base)
    found = plan(asked, 0.9, TOKENS, axes={"streaming_diloco": AXES})
    least = min(point.token_s for point in every.points)
    fastest = [point for point in every.points if point.token_s <= least * (1 + EQUAL)]
    assert len({point.tokens_per_update for point in fastest}) > 1  # or nothing is to be decided
    fewest = min(point.tokens_per_update for point in fastest)
    assert found.fastest.tokens_per_update == pytest.approx(fewest)
    assert found.fastest.token_s <= least * (1 + EQUAL)

    reaching = [point for point in every.points if point.utilization >= 0.9]
    fewest = min(point.tokens_per_update for point in reaching)
    alike = [p for p in reaching if p.tokens_per_update == pytest.approx(fewest)]
    quickest = min(point.token_s for point in alike)
    assert max(point.token_s for point in alike) > quickest * (1 + TOLERANCE)
    assert found.recommended.tokens_per_update == pytest.approx(fewest)
    assert found.recommended.token_s <= quickest * (1 + TOLERANCE)

    sent = min(point.sent_per_token for point in reaching)
    lean = [p for p in reaching if p.sent_per_token <= sent * (1 + TOLERANCE)]
    quickest = min(point.token_s for point in lean)
    assert found.leanest.sent_per_token == pytest.approx(sent, rel=TOLERANCE)
    assert found.leanest.token_s <= quickest * (1 + TOLERANCE)


def test_no_setting_of_the_printed_front_is_as_fast_as_the_one_before(bandwise: Bandwise) -> None:
    options = [word for pair in OPTIONS.items() for word in pair]
    said = bandwise("plan", *options, "--tokens", "20B", "--no-sensitivity", "--json").json
    front = said["front"]
    assert [row["time_for_tokens_s"] for row in front] == pytest.approx(
        sorted(row["time_for_tokens_s"] for row in front), rel=EQUAL
    )
    for before, after in pairwise(front):
        if after["time_for_tokens_s"] <= before["time_for_tokens_s"] * (1 + EQUAL):
            assert after["tokens_per_update"] >= before["tokens_per_update"]
    assert front[0]["tokens_per_update"] == said["fastest"]["tokens_per_update"]


def test_a_method_that_learned_no_worse_is_no_less_gentle() -> None:
    assert max(STREAMING.two_workers, STREAMING.four_workers) <= 0
    assert (STREAMING.what.split()[0], STREAMING.against) == ("streaming_diloco", "diloco")
    assert [learns_as(name) for name in ("streaming_diloco", "acco")] == ["diloco", "acco"]
