"""Keys that say how links vary: what they come to, what keeps them, and who refuses them."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest
from support.command_line import Bandwise

import sim
from realrun.errors import RunError
from realrun.lab import topology
from realrun.validation.plan import planned
from sim.figures.evaluation import Figures, figures
from sim.network.links import Links
from sim.output.varying_links import record, said
from sim.questions.effort import effort
from sim.questions.variations import scaled, with_bandwidth, with_latency_of, with_sites
from sim.records.profiles import UNVARIED, Profile
from sim.records.scenario import CollectiveTable
from sim.records.varying import period_of, varying
from sim.runtime import simulate
from sim.scenario import Scenario, ScenarioError, load, load_study
from sim.theory import wall_clock

SITES = """
[model]
parameters = "1B"
[method]
name = "diloco"
sync_every = 10
[[site]]
name = "paris"
step_time = "20 s"
{paris}
[[site]]
name = "osaka"
step_time = "20 s"
{osaka}
[network]
bandwidth = "1 Gbit/s"
{network}
"""
DAY = 'profile = [["0 h", 1.0], ["8 h", 0.4], ["20 h", 1.0]]\nprofile_period = "24 h"'
HOURS = Profile.of([(0, 1.0), (28800, 0.4), (72000, 1.0)], 86400)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def scenario(network: str = "", paris: str = "", osaka: str = "") -> Scenario:
    Path("two.toml").write_text(SITES.format(network=network, paris=paris, osaka=osaka))
    return load("two.toml")


def test_a_profile_is_that_of_all_links_between_sites() -> None:
    found = scenario(DAY)
    assert [site.profile for site in found.sites] == [HOURS, HOURS]
    assert found.network.profile == HOURS
    assert period_of(found) == 86400.0


def test_a_file_and_pieces_are_the_same_scenario() -> None:
    written = scenario(DAY)
    Path("day.csv").write_text("time_s,factor\n0,1\n28800, 0.4\n72000,1.0\n\n")
    read = scenario('profile = "day.csv"\nprofile_period = "24 h"')
    assert read.sha256 == written.sha256
    Path("day.csv").write_text("time_s,factor\n0,1\n28800,0.5\n72000,1\n")
    assert scenario('profile = "day.csv"\nprofile_period = "24 h"').sha256 != written.sha256


def test_python_takes_begins_in_seconds() -> None:
    given = {"profile": [[0, 1.0], [28800, 0.4], [72000, 1]], "profile_period": 86400}
    written = {**given, "profile": [["0 h", 1.0], ["8 h", 0.4], ["20 h", 1]]}
    written["profile_period"] = "24 h"
    one, other = (sim.make_scenario(model="1B", network=each) for each in (given, written))
    assert one.sha256 == other.sha256
    assert one.sha256 != sim.make_scenario(model="1B").sha256


def test_each_key_of_a_site_replaces_that_of_the_network() -> None:
    found = scenario(DAY + '\nbackground = "10 %"', osaka="background = 0.5")
    paris, osaka = (site.profile for site in found.sites)
    assert paris.factors == pytest.approx((0.9, 0.36, 0.9))
    assert osaka.factors == pytest.approx((0.5, 0.2, 0.5))
    own = scenario(DAY + "\nbackground = 0.1", osaka='profile = [["0 h", 0.5]]')
    assert own.sites[1].profile.factors == pytest.approx((0.45,))


def test_background_is_the_rest_of_the_bandwidth() -> None:
    shared = figures(simulate(scenario("background = 0.25")))
    less = figures(simulate(with_bandwidth(scenario(), 0.75 * 125e6)))
    assert shared == less


def test_a_scenario_without_these_keys_keeps_its_hash() -> None:
    plain = scenario()
    assert plain.network.profile == UNVARIED == Profile()
    before = "1e4cf81eef192ff691c8aa4856c2edef665e516d131bac3a71594c0a7bbb64d2"
    assert plain.sha256 == before  # as computed when links could not vary
    for given in (
        "background = 0",
        'profile = [["0 h", 1.0]]',
        'profile = [["0 h", 1], ["1 h", 1]]',
    ):
        assert scenario(given).sha256 == plain.sha256
    assert scenario("background = 0.1").sha256 != plain.sha256
    assert scenario(DAY).sha256 != plain.sha256


def test_other_bandwidths_and_sites_vary_as_before() -> None:
    found = scenario(DAY, osaka="background = 0.5")
    for changed in (with_bandwidth(found, 1e6), scaled(found, 2.0), with_latency_of(found, 0.5)):
        assert [site.profile for site in changed.sites] == [site.profile for site in found.sites]
        assert changed.network.profile == found.network.profile
    assert with_sites(found, [1]).sites[0].profile == found.sites[1].profile
    assert varying(with_sites(found, [1])) == []  # one site has no link to another


def test_a_profile_of_links_that_nothing_limits_varies_nothing() -> None:
    pairs = scenario(DAY + '\nper = "pair"')
    assert [site.uplink for site in pairs.sites] == [inf, inf]
    assert varying(pairs) == [HOURS]
    unlimited = with_bandwidth(pairs, inf)
    assert varying(unlimited) == []


def test_measured_times_are_scaled_by_what_their_transmission_takes() -> None:
    found = scenario("background = 0.5")
    table = CollectiveTable("all_reduce", "bf16", (1e6, 1e9), (1.0, 20.0))
    collectives = replace(found.network.collectives, tables=(table,))
    network = replace(found.network, collectives=collectives)
    shared = Links(replace(found, network=network)).cost("all_reduce", "bf16", 1e9)
    sites = tuple(replace(site, profile=UNVARIED) for site in found.sites)
    as_given = replace(found, sites=sites, network=replace(network, profile=UNVARIED))
    cost = Links(as_given).cost("all_reduce", "bf16", 1e9)
    assert cost.seconds == pytest.approx(20.0)
    assert shared.latency_s == pytest.approx(cost.latency_s)
    assert shared.transmit_s == pytest.approx(2 * cost.transmit_s)


def test_the_estimate_of_effort_covers_two_periods() -> None:
    days = effort(scenario(DAY)).seconds
    assert days > 3 * effort(scenario()).seconds
    took = figures(simulate(scenario(DAY)))
    assert took.wall_clock_s == pytest.approx(86400 * round(took.wall_clock_s / 86400), rel=3e-3)


@pytest.mark.parametrize(
    ("network", "osaka", "key"),
    [
        (DAY, "", "network.profile"),
        ("background = 0.1", "", "network.background"),
        ("", "background = 0.1", "site.osaka.background"),
    ],
)
def test_no_lab_emulates_links_that_vary(network: str, osaka: str, key: str) -> None:
    with pytest.raises(RunError) as refused:
        topology(scenario(network, osaka=osaka))
    assert str(refused.value).startswith(f"{key}: links of a lab do not vary")


def test_no_validation_and_no_theory_has_links_that_vary() -> None:
    study = Path(__file__).parents[2] / "validation" / "quick" / "study.toml"
    with pytest.raises(ScenarioError, match=r"network\.background: is not emulated"):
        planned(load_study(str(study), {}, ["network.background=10 %"]))
    with pytest.raises(ValueError, match=r"network\.profile: closed forms"):
        wall_clock(scenario(DAY), 3)


def told(found: Scenario) -> tuple[str, Figures]:
    result = figures(simulate(found))
    return " ".join(said(found, result)), result


def test_an_answer_says_what_varies_and_how_many_periods_were_evaluated() -> None:
    found = scenario(DAY)
    text, result = told(found)
    assert "All links between sites: 0.4 to 1 times the bandwidth, 0.7 on average" in text
    assert "The evaluated rounds take" in text
    assert "not a whole number" not in text
    about = record(found, result)
    assert about is not None
    assert about["period_s"] == 86400
    assert about["evaluated_periods"] == pytest.approx(round(about["evaluated_periods"]), abs=0.02)


def test_rounds_that_were_asked_for_are_said_to_be_a_part_of_a_period() -> None:
    scenario(DAY)
    text, _ = told(load("two.toml", {}, ["run.measured_rounds=5"]))
    assert "not a whole number: figures are of that part" in text


def test_nothing_is_said_where_nothing_varies() -> None:
    assert said(scenario()) == []
    assert record(scenario(), figures(simulate(scenario()))) is None


def test_a_site_of_its_own_is_named() -> None:
    text, _ = told(scenario(osaka='background = "50 %"'))
    assert "Uplink and downlink of osaka: 0.5 times the bandwidth" in text
    assert "paris" not in text


def test_a_profile_that_ends_needs_a_run_that_ends() -> None:
    ending = 'profile = [["0 h", 1.0], ["8 h", 0.4]]'
    with pytest.raises(ScenarioError, match="has no period"):
        scenario(ending)
    text, result = told(load("two.toml", {"--rounds": "200"}, []))
    assert "does not repeat" in text
    assert not result.extrapolated


def test_a_single_link_has_keys_of_its_own() -> None:
    found = scenario(DAY, osaka="background = 0.5")
    own = load("two.toml", {}, ['network.link_profiles={"osaka.uplink" = {background = 0.2}}'])
    assert own.network.link_profiles == (("osaka.uplink", HOURS.times(0.8)),)
    links = Links(own)
    state, _ = links.states.at(0.0)
    rates = links._capacity(state).of(np.arange(8)[4:]) / 125e6  # uplinks, then downlinks
    assert rates.tolist() == pytest.approx([1.0, 0.8, 1.0, 0.5])
    assert found.sha256 != own.sha256
    text, _ = told(own)
    assert "Osaka.uplink: 0.32 to 0.8 times" in text
    assert "osaka.downlink: 0.2 to 0.5 times" in text


def test_one_direction_of_a_pair_may_be_slower_than_the_other() -> None:
    scenario('per = "pair"')
    setting = 'network.link_profiles={"paris-osaka" = {background = 0.75}}'
    own = load("two.toml", {}, [setting])
    factors = Links(own).states.factors(Links(own).states.best)
    assert factors[:2] == (1.0, {1: 0.25})
    whole, less = (figures(simulate(each)).inner_step_s for each in (load("two.toml"), own))
    slow = figures(simulate(with_bandwidth(load("two.toml"), 0.25 * 125e6))).inner_step_s
    assert whole < less == pytest.approx(slow, rel=1e-3)  # latencies may be hidden
    left = with_sites(own, [0])
    assert left.network.link_profiles == ()


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ('{"oska.uplink" = {background = 0.2}}', 'no link "oska.uplink"; did you mean "osaka.up'),
        ('{"paris-osaka" = {background = 0.2}}', "unlimited, so nothing varies; sites have up"),
        ('{"osaka.uplink" = {backgroud = 0.2}}', "osaka.uplink.backgroud: unknown key; did you me"),
        ('{"osaka.uplink" = {background = 1}}', "osaka.uplink.background: 1: must be less than"),
        ('{"osaka.uplink" = 0.2}', "osaka.uplink: 0.2: must be a table"),
        ('{"osaka.uplink" = {profile_period = "1 h"}}', "goes with profile"),
        ('{"osaka.uplink" = {profile = [["0 h", 1], ["1 h", -1]]}}', "profile[1][1]: -1: must be"),
        ('{"osaka.uplink" = {profile = "no.csv"}}', "there is no file no.csv"),
        ("0.5", "must be a table by link"),
    ],
)
def test_a_mistake_in_the_keys_of_a_link_is_one_line(setting: str, text: str) -> None:
    scenario()
    with pytest.raises(ScenarioError) as refused:
        load("two.toml", {}, [f"network.link_profiles={setting}"])
    assert text in str(refused.value)
    assert str(refused.value).startswith("--set network.link_profiles")
    assert "\n" not in str(refused.value)


def test_results_of_a_sweep_say_how_many_periods_were_evaluated(bandwise: Bandwise) -> None:
    given = ("--model", "1B", "--method", "diloco", "--bandwidth", "1Gbit/s", "--json")
    hour = ("--set", "network.profile_period=1h")
    pieces = ("--set", 'network.profile=[["0 h", 1.0], ["30 min", 0.5]]')
    sweep = ("sweep", *given, "--over", "method.sync_every=20,100")
    for row in bandwise(*sweep, *hour, *pieces).json["results"]:
        # Pieces that were simulated as they are: whole periods but for a part of a round.
        assert row["evaluated_periods"] * 3600 == pytest.approx(row["wall_clock_s"], rel=1e-9)
        assert abs(row["evaluated_periods"] - round(row["evaluated_periods"])) < 0.02
    assert "evaluated_periods" not in bandwise(*sweep).json["results"][0]
