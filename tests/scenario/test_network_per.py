"""One number for network.bandwidth: every site's own line, or the link of every pair of sites."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.thorough import examples

from sim.figures.evaluation import figures
from sim.network.links import Links
from sim.network.schedules import ALGORITHMS
from sim.output.run_tables import runs
from sim.questions.study import run
from sim.questions.target_search import required
from sim.questions.variations import links, with_bandwidth, with_sites
from sim.runtime import simulate
from sim.scenario import Scenario, ScenarioError, load, load_study, sweep

GIGABIT = 125e6
PAIR, SITE = "network.per=pair", "network.per=site"
FOURTEEN = {
    "--method": "diloco",
    "--model": "10B",
    "--sites": "14",
    "--comm-dtype": "int8",
    "--sync-every": "100",
    "--step-time": "10.65s",
}


def loaded(*settings: str, sites: int = 3, **options: str) -> Scenario:
    more = {f"--{key}": value for key, value in options.items()}
    return load(None, {"--model": "1B", "--sites": str(sites), **more}, settings)


def lines(scenario: Scenario) -> list[tuple[float, float]]:
    return [(site.uplink, site.downlink) for site in scenario.sites]


def assumed(scenario: Scenario) -> dict[str, str]:
    return dict(scenario.assumed)


def test_a_bandwidth_is_every_sites_uplink_and_downlink_unless_told_otherwise() -> None:
    scenario = loaded(bandwidth="2Gbit/s")
    assert lines(scenario) == [(2 * GIGABIT, 2 * GIGABIT)] * 3
    assert {rate for row in scenario.network.bandwidth for rate in row} == {inf}
    assert assumed(scenario)["network.per"] == "site (every site's uplink and downlink)"
    assert scenario == replace(loaded(SITE, bandwidth="2Gbit/s"), assumed=scenario.assumed)


def test_per_pair_leaves_the_sites_lines_unlimited() -> None:
    scenario = loaded(PAIR, bandwidth="2Gbit/s")
    assert lines(scenario) == [(inf, inf)] * 3
    assert scenario.network.bandwidth[0][1] == scenario.network.bandwidth[2][0] == 2 * GIGABIT
    assert assumed(scenario)["site.uplink"] == "unlimited"
    assert "network.per" not in assumed(scenario)


def test_a_sites_own_line_stays_its_own() -> None:
    scenario = loaded("site.site-2.uplink=300 Mbit/s", bandwidth="2Gbit/s")
    assert lines(scenario)[1] == (0.3 * GIGABIT, 2 * GIGABIT)
    assert assumed(scenario)["network.per"].endswith("where it gives none of its own)")
    faster = with_bandwidth(scenario, 5 * GIGABIT)
    assert lines(faster)[1] == (0.3 * GIGABIT, 5 * GIGABIT)
    assert lines(faster)[0] == (5 * GIGABIT, 5 * GIGABIT)


def test_goodput_is_applied_once() -> None:
    scenario = loaded("network.goodput=50 %", "site.site-2.uplink=1 Gbit/s", bandwidth="2Gbit/s")
    assert lines(scenario) == [(GIGABIT, GIGABIT), (GIGABIT / 2, GIGABIT), (GIGABIT, GIGABIT)]


def test_a_matrix_is_per_pair() -> None:
    matrix = 'network.bandwidth={unit="Gbit/s", matrix=[[0, 1, 1], [1, 0, 1], [1, 1, 0]]}'
    scenario = loaded(matrix)
    assert scenario == replace(loaded(matrix, PAIR), assumed=scenario.assumed)
    assert scenario.network.per == "pair"
    with pytest.raises(ScenarioError, match=r"network\.per.*a matrix is per pair of sites; leave"):
        loaded(matrix, SITE)


def test_measured_links_are_per_pair_and_a_bandwidth_overrides_them(tmp_path: Path) -> None:
    path = tmp_path / "hw.toml"
    path.write_text(
        '[calibration]\nschema = 1\ndate = "2026-01-01"\n[link.site-1-site-2]\n'
        "goodput_bytes_per_s = 1e6\nrtt_s = 0.1\n"
    )
    measured = loaded(sites=2, hardware=str(path))
    assert measured.network.per == "pair"
    assert links(measured) == {"site-1-site-2": 1e6, "site-2-site-1": 1e6}
    overridden = loaded(sites=2, hardware=str(path), bandwidth="1Gbit/s")
    assert lines(overridden) == [(GIGABIT, GIGABIT)] * 2
    with pytest.raises(ScenarioError, match=r"network\.per.*has a link per pair of sites; leave"):
        loaded(SITE, sites=2, hardware=str(path))


def test_measured_links_take_the_place_of_lines_that_were_the_networks() -> None:
    scenario = loaded("site.site-2.uplink=300 Mbit/s")
    network = scenario.network.with_links(lambda i, j: (1e6, 0.01))
    found = scenario.on(network)
    assert found.network.per == "pair"
    assert lines(found) == [(inf, inf), (0.3 * GIGABIT, inf), (inf, inf)]


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
@settings(deadline=None, max_examples=examples(20), derandomize=True)
@given(
    st.sampled_from(["all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast"]),
    st.sampled_from(["bf16", "int8"]),
    st.floats(1, 1e10),
)
def test_between_two_sites_of_one_worker_both_mean_the_same_time(
    algorithm: str, operation: str, dtype: str, size: float
) -> None:
    asked = f"network.collective.algorithm={algorithm}"
    pair, site = (Links(loaded(asked, per, sites=2)) for per in (PAIR, SITE))
    assert pair.cost(operation, dtype, size).seconds == site.cost(operation, dtype, size).seconds


def test_fourteen_sites_need_what_their_own_lines_carry() -> None:
    """An int8 all-reduce sends to all others at once: over pairs' links it looks almost free."""
    needed = {}
    for per in (PAIR, SITE):
        (answer,) = required(load(None, FOURTEEN, [per]), [0.95])
        (needed[per],) = set(answer.bandwidth.values())
    assert needed[PAIR] * 8e-9 == pytest.approx(1.44, abs=5e-3)
    assert needed[SITE] * 8e-9 == pytest.approx(2.68, abs=5e-3)
    # All-to-all: S/14 over a pair's link, 13 S/14 over a site's. All-gather: 13 S/14 either way.
    assert needed[SITE] / needed[PAIR] == pytest.approx(26 / 14, rel=3e-3)
    short = load(None, {**FOURTEEN, "--bandwidth": "1.44Gbit/s"}, [SITE])
    utilization = figures(simulate(short)).compute_utilization
    assert utilization == pytest.approx(0.911, abs=5e-4)


def test_a_sweep_varies_the_sites_lines_and_says_what_it_leaves(tmp_path: Path) -> None:
    kept = ["site.site-2.uplink=300 Mbit/s"]
    study = sweep(None, {"--model": "1B"}, kept, ["bandwidth=1..2Gbit/s:2"])
    found = [lines(case.scenario) for case in study.cases()]
    assert [each[0] for each in found] == [(GIGABIT, GIGABIT), (2 * GIGABIT, 2 * GIGABIT)]
    assert {each[1][0] for each in found} == {0.3 * GIGABIT}
    frame = run(study, tmp_path, 1)
    blocks = [block for block in runs(study, frame).blocks if isinstance(block, str)]
    assert any("Not varied with the bandwidth" in b and "site-2.uplink" in b for b in blocks)


def test_a_bandwidth_that_no_line_has_is_not_varied(tmp_path: Path) -> None:
    own = ["site.uplink=1 Gbit/s", "site.downlink=1 Gbit/s"]
    with pytest.raises(ScenarioError, match="varies nothing: every site has its own uplink"):
        sweep(None, {"--model": "1B"}, own, ["bandwidth=1..2Gbit/s:2"])
    assert "not used" in assumed(loaded(*own, bandwidth="1Gbit/s"))["network.bandwidth"]
    path = tmp_path / "study.toml"
    path.write_text(
        '[model]\nname = "1B"\n[[site]]\ncount = 2\nuplink = "1 Gbit/s"\ndownlink = "1 Gbit/s"\n'
        '[study]\nask = "simulate"\ngrid = { bandwidth = "1 Gbit/s .. 2 Gbit/s", points = 2 }\n'
    )
    with pytest.raises(ScenarioError, match=r"study\.grid\.bandwidth.*varies nothing"):
        load_study(path)


def test_a_line_can_be_named_and_sized_alone() -> None:
    scenario = loaded()
    assert set(links(scenario)) == {
        f"site-{n}.{line}" for n in (1, 2, 3) for line in ("uplink", "downlink")
    }
    (answer,) = required(scenario, [0.01], "site-2.uplink")
    assert answer.outcome == "reached"
    assert answer.bandwidth["site-1.uplink"] == GIGABIT


def test_one_site_has_no_line_to_others() -> None:
    alone = loaded(sites=1)
    assert links(alone) == {}
    assert "network.per" not in assumed(alone)
    assert links(with_sites(loaded(), [0, 1])).keys() == links(loaded(sites=2)).keys()


def test_a_lab_has_the_sites_lines() -> None:
    pytest.importorskip("torch")
    from realrun.lab import topology

    found = topology(load("quick_start", {}, [SITE, "site.count=3"]))
    assert len(found.links) == 6
    assert found.rate(0, 1) == 12.5e6
    shared = found.together([(0, 1), (0, 2)])
    assert shared == {(0, 1): 6.25e6, (0, 2): 6.25e6}
