"""Thousands of sites: loading takes time and memory in proportion, and hashes stay the same."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from sim.network import Links
from sim.scenario import identity, load, load_study
from sim.scenario.resolved import alike

ALONE = {"--model": "1B", "--step-time": "1s"}


def test_the_cases_of_a_study_share_what_is_alike_for_all_pairs(tmp_path: Path) -> None:
    path = tmp_path / "many.toml"
    path.write_text(
        'model.parameters = "1B"\nsite = [{ count = 300, step_time = "1 s" }]\n'
        '[study.axis]\n"run.seed" = [1, 2, 3]\n'
    )
    first, *rest = (case.scenario.network for case in load_study(path).cases())
    for network in rest:
        assert network.latency is first.latency
    assert first.bandwidth[0] is first.bandwidth[-1]


def test_loading_makes_no_object_per_pair_of_sites() -> None:
    load(None, ALONE)
    blocks = {}
    for sites in (400, 800):
        before = sys.getallocatedblocks()
        scenario = load(None, {**ALONE, "--sites": str(sites)})
        blocks[sites] = sys.getallocatedblocks() - before
        assert len(scenario.sites) == sites
    assert blocks[800] < 2.5 * blocks[400]


@pytest.mark.parametrize("where", ["network.rtt=30ms", "network.per=pair", "network.goodput=0.5"])
def test_a_hash_is_that_of_the_whole_text(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    monkeypatch.setattr(identity, "_digest", lambda data: texts.append(data) or "")
    load(None, {**ALONE, "--sites": "5", "--method": "diloco"}, [where]).sha256  # noqa: B018
    monkeypatch.undo()
    whole = json.dumps(texts[0], sort_keys=True, separators=(",", ":"), default=str)
    assert identity._digest(texts[0]) == hashlib.sha256(whole.encode()).hexdigest()


def test_what_is_alike_is_what_a_matrix_says() -> None:
    assert alike(1, 2.0, 0.0) == ((0.0,),)
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
