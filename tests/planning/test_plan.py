"""The plan as it is asked for: what is kept, what is said, and that it can be typed again."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from support.command_line import Bandwise
from support.thorough import only_thorough

import sim

SCENARIO = ("--model", "1B", "--sites", "paris,osaka", "--bandwidth", "2Gbit/s", "--rtt", "60ms")


def planned(bandwise: Bandwise, *options: str) -> dict:
    ran = bandwise("plan", *SCENARIO, *options, "--json")
    assert ran.status == 0, ran.err
    return ran.json


def test_every_setting_can_be_typed_and_gives_its_figures(bandwise: Bandwise) -> None:
    said = planned(bandwise, "--tokens", "20B")
    assert said["reached"]
    for which in ("recommended", "fastest", "leanest"):
        row = said[which]
        ran = bandwise("simulate", *SCENARIO, *shlex.split(row["typed"]), "--json")
        again = ran.json
        assert again["scenario_sha256"] != said["as_given"]["scenario_sha256"]
        assert again["compute_utilization"] == pytest.approx(row["compute_utilization"], rel=1e-9)
        rounds = again["evaluated_rounds"]
        assert rounds["tokens_per_update"] == pytest.approx(row["tokens_per_update"], rel=1e-9)
        rate = rounds["tokens_per_s"] if "tokens_per_s" in rounds else again["tokens_per_s"]
        assert 20e9 / rate == pytest.approx(row["time_for_tokens_s"], rel=1e-9)


def test_what_was_typed_is_kept(bandwise: Bandwise) -> None:
    said = planned(bandwise, "--method", "diloco", "--sync-every", "40", "--algorithm", "ring")
    for row in (said["recommended"], said["fastest"], *said["front"]):
        assert row["method"] == "diloco"
        assert "method.sync_every" not in row["values"]
        assert "network.collective.algorithm" not in row["values"]
        assert row["tokens_per_update"] == pytest.approx(40 * 2 * 2**20)


def test_fewer_tokens_per_update_are_worth_a_slower_setting_that_reaches_the_target(
    bandwise: Bandwise,
) -> None:
    low, high = planned(bandwise, "--target", "50%"), planned(bandwise, "--target", "95%")
    assert low["recommended"]["tokens_per_update"] < high["recommended"]["tokens_per_update"]
    assert low["fastest"]["time_for_tokens_s"] == high["fastest"]["time_for_tokens_s"]
    for said, target in ((low, 0.5), (high, 0.95)):
        assert said["recommended"]["compute_utilization"] >= target


def test_a_plan_says_and_keeps_what_sites_do_in_a_round(bandwise: Bandwise) -> None:
    ran = bandwise(
        "plan", "--model", "1B", "--sites", "a,b", "--method", "diloco", "--bandwidth", "5Gbit/s",
        "--set", "site.b.speed=0.5", "--set", "site.sync_every=balanced",
    )  # fmt: skip
    said = " ".join(ran.out.split())
    assert "diloco, 1B parameters, 2 workers at 2 sites." in said
    assert "a 100 (66.7 %, 50 %), b 50 (33.3 %, 50 %)" in said
    assert "diloco, every (100, 50)" in said


def test_a_slow_site_is_named_and_a_balanced_batch_offered(bandwise: Bandwise) -> None:
    said = planned(bandwise, "--set", "site.osaka.speed=0.5")
    assert not said["reached"]
    balanced = said["changes"][0]
    assert (balanced["key"], balanced["after"]) == ("site.batch_tokens", "balanced")
    assert balanced["time_for_tokens_s"] < 0.9 * said["recommended"]["time_for_tokens_s"]


@pytest.mark.parametrize(
    "method", ["diloco", pytest.param("streaming_diloco", marks=only_thorough)]
)
def test_balance_can_be_typed_and_gives_its_figures_and_weights(
    bandwise: Bandwise, method: str
) -> None:
    given = ("--set", "site.osaka.speed=0.5", "--method", method, "--algorithm", "ring")
    said = planned(bandwise, *given, "--tokens", "20B", "--no-sensitivity")
    found = {change["key"]: change for change in said["changes"] if change["after"] == "balanced"}
    assert list(found) == ["site.batch_tokens", "site.sync_every"]
    for change in found.values():
        again = bandwise(
            "simulate", *SCENARIO, *given, *shlex.split(change["typed"]), "--json"
        ).json
        assert again["compute_utilization"] == pytest.approx(
            change["compute_utilization"], rel=1e-9
        )
        rate = again["evaluated_rounds"]["tokens_per_s"]
        assert 20e9 / rate == pytest.approx(change["time_for_tokens_s"], rel=1e-9)
        shares = [site["tokens_fraction"] for site in change["by_site"]]
        assert shares == pytest.approx([2 / 3, 1 / 3], rel=1e-5)  # as fast as they compute
        assert [site["weight_fraction"] for site in change["by_site"]] == [0.5, 0.5]
    by_tokens = planned(bandwise, *given, "--set", "train.average_by=tokens", "--no-sensitivity")
    weights = [site["weight_fraction"] for site in by_tokens["changes"][0]["by_site"]]
    assert weights == pytest.approx([2 / 3, 1 / 3], rel=1e-5)
    text = " ".join(bandwise("plan", *SCENARIO, *given, "--no-sensitivity").out.split())
    assert "Balanced with --batch-tokens balanced: Tokens of an inner step by site" in text
    assert "Balanced with --set site.sync_every=balanced: Inner steps of a round by site" in text


def test_balance_that_was_typed_or_cannot_be_is_not_offered(bandwise: Bandwise) -> None:
    given = ("--set", "site.osaka.speed=0.5", "--method", "diloco", "--no-sensitivity")
    fixed = ("--sync-every", "50", "--batch-tokens", "1Mi")
    slow = ("--set", "site.osaka.speed=1e-7")  # not one token fits, nor one step
    for other in (fixed, slow):
        keys = [change["key"] for change in planned(bandwise, *given, *other)["changes"]]
        assert not [key for key in keys if key.startswith("site.")]


def test_a_plan_ends_with_levers_of_the_recommended_setting(bandwise: Bandwise) -> None:
    said = planned(bandwise)
    assert said["levers_of"] == said["recommended"]["method"]
    assert {"bandwidth x2", "rtt halved"} <= {each["lever"] for each in said["levers"]}
    assert planned(bandwise, "--no-sensitivity").get("levers") is None


def test_named_methods_are_searched_although_they_learned_worse(bandwise: Bandwise) -> None:
    assert planned(bandwise, "--methods", "eager_diloco")["recommended"]["method"] == "eager_diloco"
    default = planned(bandwise)
    assert "eager_diloco" not in {row["method"] for row in default["front"]}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "101%"], '--target: "101%"'),
        (["--target", "0"], '--target: "0": must be above 0 %'),
        (["--methods", "dilcoo"], 'unknown "dilcoo"; did you mean "diloco"?'),
        (["--methods", "ddp", "--method", "acco"], "--methods: --method names the one method"),
        (["--max-tokens-per-update", "1"], "settings is within the limits (excluded: "),
        (["--max-tokens-per-update", "x"], '--max-tokens-per-update: "x"'),
        (["--max-sync-every", "0"], '--max-sync-every: "0": must be'),
        (["--sync-every", "0"], '--sync-every: "0": must be a whole number of at least 1'),
    ],
)
def test_what_is_wrong_is_said_in_a_line(bandwise: Bandwise, options: list[str], said: str) -> None:
    ran = bandwise("plan", *SCENARIO, *options)
    assert ran.status == 2
    assert said in ran.err
    assert ran.err.strip().count("\n") == 0


def test_python_plans_as_the_command_does(bandwise: Bandwise) -> None:
    scenario = sim.make_scenario(
        model="1B", sites=["paris", "osaka"], bandwidth="2 Gbit/s", rtt="60 ms", tokens="20B"
    )
    found = sim.plan(scenario, "95 %")
    said = planned(bandwise, "--tokens", "20B")
    assert found.figures["recommended"] == said["recommended"]
    assert sim.simulate(found.recommended).figures["compute_utilization"] == pytest.approx(
        said["recommended"]["compute_utilization"]
    )
    with pytest.raises(ValueError, match="plan: max_sync_every 0: must be at least 1"):
        sim.plan(scenario, max_sync_every=0)
    with pytest.raises(TypeError, match=r'plan: methods are a list, like \["ddp"\]'):
        sim.plan(scenario, methods="ddp")


def test_what_was_searched_is_not_among_what_was_assumed(bandwise: Bandwise) -> None:
    few = ("--method", "diloco", "--tokens", "20B", "--no-sensitivity")
    assumed = planned(bandwise, *few)["assumed"]
    searched = {"method.sync_every", "method.comm_dtype", "network.collective.algorithm"}
    assert not searched & set(assumed)
    assert "site.batch_tokens" in assumed
    kept = bandwise("simulate", *SCENARIO, *few[:4], "--json").json["assumed"]
    assert {*assumed} <= {*kept}
    assert len(searched & set(kept)) > 1
    scenario = sim.make_scenario(model="1B", sites=2, bandwidth="2 Gbit/s", method="diloco")
    assert not searched & set(sim.plan(scenario).provenance.assumed)


def test_a_worker_that_does_not_fit_is_no_plan(bandwise: Bandwise) -> None:
    options = ("--model", "100B", "--accelerators", "8 x H100", "--sites", "2", "--methods", "ddp")
    ran = bandwise("plan", *options)
    assert ran.status == 2
    assert "more memory than the accelerators have" in ran.err
    ran = bandwise("plan", "--model", "10B", *options[2:], "--json")
    assert ran.json["fits_in_memory"]


def test_a_run_that_chance_makes_shorter_than_its_bound_is_planned(
    bandwise: Bandwise, tmp_path: Path
) -> None:
    file = tmp_path / "two.toml"
    sites = '{name = "a", step_time = "1 s"}, {name = "b", step_time = "0.002 s"}'
    file.write_text(f'model.parameters = "1B"\nsite = [{sites}]\n')
    few = ("--methods", "streaming_diloco", "--max-sync-every", "5", "--replications", "1")
    chance = ("--set", "run.measured_rounds=2", "--jitter", "lognormal:0.05")
    ran = bandwise("plan", file, *few, *chance, "--json")
    assert ran.status == 0
    assert ran.json["recommended"]
