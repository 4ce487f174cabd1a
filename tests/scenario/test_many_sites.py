"""Thousands of sites: loading takes time and memory in proportion, and hashes stay the same."""

from __future__ import annotations

import hashlib
import json
import pickle
import random
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from math import inf
from pathlib import Path
from typing import Any

import pytest

from sim.clock import Clock
from sim.network.links import Links
from sim.questions.effort import effort
from sim.questions.variations import links, scaled, with_bandwidth, with_sites
from sim.records import identity
from sim.records.connections import WINDOW, windowed
from sim.records.pairs import Pairs
from sim.scenario import Scenario, ScenarioError, load, load_study
from sim.scenario.hardware import Hardware

ALONE = {"--model": "1B", "--step-time": "1s"}
FEW, MANY = 200, 800


def many(sites: int, *settings: str, **options: str) -> Scenario:
    given = {f"--{key.replace('_', '-')}": value for key, value in options.items()}
    return load(None, {**ALONE, **given, "--sites": str(sites)}, settings)


def named(folder: Path, lines: list[tuple[float, float]]) -> Scenario:
    """Sites with names, and with an uplink and a downlink of their own, in Gbit/s."""
    text = 'model.parameters = "1B"\nnetwork.rtt = "30 ms"\n'
    for number, (up, down) in enumerate(lines):
        text += f'[[site]]\nname = "s{number}"\nstep_time = "1 s"\n'
        text += f'uplink = "{up} Gbit/s"\ndownlink = "{down} Gbit/s"\n'
    (folder / "named.toml").write_text(text)
    return load(folder / "named.toml")


def peak_bytes(action: Callable[[], Any]) -> int:
    """The most that an action holds at once."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def assert_linear(action: Callable[[int], Any]) -> None:
    """What an action holds at once grows with the sites, not with the pairs of sites."""
    action(2)  # what is made once for all
    few, lots = (peak_bytes(lambda sites=sites: action(sites)) for sites in (FEW, MANY))
    assert lots < 1.5 * (MANY / FEW) * few


def test_the_cases_of_a_study_hold_nothing_per_site_of_links_that_are_alike(
    tmp_path: Path,
) -> None:
    sizes = set()
    for sites in (300, 600):
        path = tmp_path / "many.toml"
        path.write_text(
            f'model.parameters = "1B"\nsite = [{{ count = {sites}, step_time = "1 s" }}]\n'
            '[study.axis]\n"run.seed" = [1, 2, 3]\n'
        )
        for case in load_study(path).cases():
            network = case.scenario.network
            assert len(network.latency) == len(network.bandwidth) == sites
            sizes |= {len(pickle.dumps(each)) for each in (network.latency, network.bandwidth)}
    assert max(sizes) < 200


def test_loading_makes_no_object_per_pair_of_sites() -> None:
    load(None, ALONE)
    blocks = {}
    for sites in (400, 800):
        before = sys.getallocatedblocks()
        scenario = load(None, {**ALONE, "--sites": str(sites)})
        blocks[sites] = sys.getallocatedblocks() - before
        assert len(scenario.sites) == sites
    assert blocks[800] < 2.5 * blocks[400]


@pytest.mark.parametrize("per", ["site", "pair"])
def test_memory_of_a_scenario_and_of_its_hash_grows_with_the_sites(per: str) -> None:
    assert_linear(lambda sites: many(sites, f"network.per={per}").sha256)


def test_memory_of_named_sites_grows_with_the_sites(tmp_path: Path) -> None:
    assert_linear(lambda sites: named(tmp_path, [(1 + n % 7, 2) for n in range(sites)]).sha256)


@pytest.mark.parametrize("per", ["site", "pair"])
@pytest.mark.parametrize("algorithm", ["ring", "tree", "halving_doubling"])
def test_memory_of_a_collective_grows_with_the_sites(per: str, algorithm: str) -> None:
    scenarios = {
        sites: many(sites, f"network.per={per}", algorithm=algorithm) for sites in (2, FEW, MANY)
    }
    assert_linear(lambda sites: Links(scenarios[sites]).cost("all_reduce", "bf16", 1e9))


@pytest.mark.parametrize("per", ["site", "pair"])
def test_links_of_gloos_messages_are_made_when_one_carries_something(per: str) -> None:
    scenarios = {sites: many(sites, f"network.per={per}") for sites in (2, FEW, MANY)}

    def between_two(sites: int) -> None:
        links = Links(scenarios[sites]).message_links(Clock())
        path = links.between(0, sites - 1)[0]
        assert len(path) == (2 if per == "site" else 1)

    assert_linear(between_two)


def test_other_bandwidth_and_other_sites_of_alike_links_hold_no_pair() -> None:
    scenario = many(5, "network.per=pair", bandwidth="1Gbit/s")
    for changed in (
        scaled(scenario, 2.0),
        with_bandwidth(scenario, 250e6),
        with_sites(with_bandwidth(scenario, 250e6), [1, 3, 4]),
    ):
        assert changed.network.bandwidth.common == 250e6
        assert changed.network.latency.common == scenario.network.latency.common
        assert set(links(changed).values()) == {250e6}
        assert len(links(changed)) == len(changed.sites) * (len(changed.sites) - 1)
    one = scaled(scenario, 2.0, "site-1-site-3")
    assert one.network.bandwidth.common is None
    assert {name for name, rate in links(one).items() if rate == 250e6} == {"site-1-site-3"}


def test_pairs_are_counted_in_what_a_prediction_takes_only_where_they_differ() -> None:
    alike, more = (effort(many(sites, "network.per=pair")) for sites in (50, 100))
    assert more.bytes < 2.1 * alike.bytes
    scenario = many(100, "network.per=pair")
    rows = [list(row) for row in scenario.network.latency]
    rows[3][5] = 1.0
    network = replace(scenario.network, latency=Pairs.of(rows))
    assert effort(replace(scenario, network=network)).bytes > more.bytes + 100**2


def test_of_alike_links_two_of_the_fastest_lines_say_where_windows_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(1)
    looked: list[tuple[int, int]] = []
    rate = Scenario.rate
    for count in (2, 3, 5, 9):
        for _ in range(5):
            lines = [(chance.choice((1, 2, 9)), chance.choice((1, 3, 9))) for _ in range(count)]
            scenario = named(tmp_path, lines)
            best = max(scenario.rate(a, b) for a, b in permutations(range(count), 2))
            assert best * 0.03 <= WINDOW or windowed(scenario).bandwidth == best
    scenario = named(tmp_path, [(1 + n, 1000 - n) for n in range(200)])
    monkeypatch.setattr(Scenario, "rate", lambda *asked: looked.append(asked[1:]) or rate(*asked))
    assert windowed(scenario) is not None
    assert len(looked) <= 12


def test_the_only_link_of_a_hardware_file_is_looked_up_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[tuple[str, ...]] = []
    link = Hardware.link
    monkeypatch.setattr(Hardware, "link", lambda *asked: looked.append(asked[1:]) or link(*asked))
    file = tmp_path / "hw.toml"
    file.write_text(
        "[calibration]\nschema = 1\n[link.a-b]\ngoodput_bytes_per_s = 1e6\nrtt_s = 0.1\n"
    )
    scenario = many(300, hardware=str(file))
    assert len(looked) <= 2
    assert (scenario.network.bandwidth.common, scenario.network.latency.common) == (1e6, 0.05)
    assert scenario.network.per == "pair"


def test_as_many_sites_as_workers_are_taken() -> None:
    assert len(many(10_000).sites) == 10_000
    with pytest.raises(ScenarioError, match="more than 10,000 sites cannot be simulated"):
        many(10_001)


@pytest.mark.parametrize("where", ["network.rtt=30ms", "network.per=pair", "network.goodput=0.5"])
def test_a_hash_is_that_of_the_whole_text(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    monkeypatch.setattr(identity, "_digest", lambda data: texts.append(data) or "")
    load(None, {**ALONE, "--sites": "5", "--method": "diloco"}, [where]).sha256  # noqa: B018
    monkeypatch.undo()
    whole = json.dumps(texts[0], sort_keys=True, separators=(",", ":"), default=str)
    assert identity._digest(texts[0]) == hashlib.sha256(whole.encode()).hexdigest()


def test_pairs_are_hashed_row_by_row_unless_many_are_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hashes of up to 100 sites, and where pairs differ of all, are what they always were."""
    texts = []
    monkeypatch.setattr(identity, "_digest", texts.append)
    for sites in (3, 100):
        scenario = many(sites, "network.rtt=30ms", "network.per=pair", bandwidth="1Gbit/s")
        identity.sha256(scenario)
        identity.sha256_of_schema_0(scenario)
        for text in (texts.pop(), texts.pop()):
            assert text["network"]["bandwidth"] == list(Pairs.alike(sites, 125e6, inf))
            assert text["network"]["latency"] == list(Pairs.alike(sites, 0.015, 0.0))
    scenario = many(101, "network.rtt=30ms")
    rows = [list(row) for row in scenario.network.latency]
    identity.sha256(scenario)
    assert texts.pop()["network"]["latency"] == {"common": 0.015, "diagonal": 0.0}
    rows[3][5] = 1.0
    identity.sha256(replace(scenario, network=replace(scenario.network, latency=rows)))
    assert [list(row) for row in texts.pop()["network"]["latency"]] == rows


def test_hashes_of_many_sites_tell_their_links_apart() -> None:
    rates = [many(101, bandwidth=rate).sha256 for rate in ("1Gbit/s", "2Gbit/s")]
    pairs = [
        many(101, "network.per=pair", bandwidth=rate).sha256 for rate in ("1Gbit/s", "2Gbit/s")
    ]
    trips = [many(101, rtt=rtt).sha256 for rtt in ("10ms", "20ms")]
    assert len({*rates, *pairs, *trips, many(102, bandwidth="1Gbit/s").sha256}) == 7


def test_what_is_alike_is_what_a_matrix_says() -> None:
    assert list(Pairs.alike(1, 2.0, 0.0)) == [(0.0,)]
    assert Pairs.of([[0.0]]) == Pairs.alike(1, 2.0, 0.0)
    given = '{ unit = "ms", matrix = [[0, 30, 30], [30, 0, 30], [30, 30, 0]] }'
    one = load(None, {**ALONE, "--sites": "3"}, ["network.rtt=30ms"])
    other = load(None, {**ALONE, "--sites": "3"}, [f"network.rtt={given}"])
    assert one.network == other.network
    assert one.sha256 == other.sha256


def test_an_exchange_that_is_repeated_is_laid_out_once() -> None:
    scenario = load(None, {**ALONE, "--workers": "20", "--algorithm": "direct"})
    priced = Links(scenario)._priced("all_reduce", "bf16")
    first, second = priced._rounds
    assert first is second
    assert priced.sent == pytest.approx([2 * 39 / 40] * 40)
