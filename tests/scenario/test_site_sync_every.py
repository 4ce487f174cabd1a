"""``site.sync_every``: a slow site takes fewer inner steps in a round, in number or balanced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.command_line import Bandwise

from sim import make_scenario
from sim.figures.evaluation import Figures, figures
from sim.output.site_shares import records, sentence
from sim.planning.asked import typed_keys
from sim.runtime import simulate
from sim.scenario import Scenario, ScenarioError, load
from sim.scenario.inner_steps import Pace, inner_steps
from sim.scenario.loading import document_of
from sim.theory.costs import Costs
from sim.theory.recurrences import RECURRENCES

BASE = {"--model": "1B", "--sites": "paris,osaka", "--bandwidth": "10 Gbit/s"}


def resolved(*settings: str, method: str = "diloco", **options: str) -> Scenario:
    more = {f"--{name.replace('_', '-')}": text for name, text in options.items()}
    return load(None, {**BASE, "--method": method, **more}, list(settings))


def steps(scenario: Scenario) -> Any:
    return scenario.method.arguments["sync_every"]


def predicted(scenario: Scenario) -> Figures:
    return figures(simulate(scenario))


# -- numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["local_sgd", "diloco", "streaming_diloco", "delayed_diloco", "eager_diloco"]
)
def test_a_sites_number_is_that_of_all_its_workers(method: str) -> None:
    scenario = resolved("site.osaka.sync_every=20", "site.osaka.workers=3", method=method)
    assert steps(scenario) == (100, 20, 20, 20)


def test_a_block_of_several_sites_gives_it_to_each() -> None:
    scenario = resolved("site.sync_every=20", "site.osaka.sync_every=7", sites="rome,osaka,lima")
    assert steps(scenario) == (20, 7, 20)
    same = load(
        None,
        {"--model": "1B", "--method": "diloco", "--bandwidth": "10 Gbit/s"},
        ["site.count=3", "site.workers=2", "site.sync_every=20"],
    )
    assert steps(same) == 20


def test_the_same_number_everywhere_is_the_scenario_with_that_number() -> None:
    by_site = resolved("site.sync_every=20")
    assert by_site.sha256 == resolved(sync_every="20").sha256
    assert "method.sync_every" not in dict(by_site.assumed)
    assert "method.sync_every" in dict(resolved("site.osaka.sync_every=20").assumed)


def test_it_is_the_scenario_with_a_number_per_worker() -> None:
    by_site = resolved("site.paris.sync_every=30", "site.osaka.sync_every=20")
    assert by_site.sha256 == resolved(sync_every="[30, 20]").sha256


@pytest.mark.parametrize("method", ["local_sgd", "diloco", "delayed_diloco", "eager_diloco"])
def test_rounds_of_unequal_steps_are_those_of_the_recurrence(method: str) -> None:
    scenario = resolved(
        "site.paris.sync_every=30", "site.osaka.sync_every=20", "site.osaka.speed=0.7",
        "site.outer_step_time=0.2 s", "site.workers=2", method=method,
    )  # fmt: skip
    arguments: dict[str, Any] = {"sync_every": (30, 30, 20, 20), "comm_dtype": "bf16"}
    if "delay" in method or "eager" in method:
        arguments |= {"outer_sync_delay": 1}
    ends, _ = RECURRENCES[method](Costs(scenario), 6, **arguments)
    trace = simulate(scenario, rounds=6)
    assert trace.total_s == pytest.approx(float(max(ends)), rel=1e-9)
    assert len(trace.context.standing_for) == 2  # a worker of each site stands for the other one


# -- balanced --------------------------------------------------------------------------------


def test_a_site_of_half_the_speed_takes_half_the_steps_and_nobody_waits() -> None:
    common = resolved("site.osaka.speed=0.5")
    balanced = resolved("site.osaka.speed=0.5", "site.sync_every=balanced")
    assert steps(balanced) == (100, 50)
    assert predicted(common).breakdown["waiting"] > 0.1
    assert predicted(balanced).breakdown["waiting"] == pytest.approx(0.0, abs=1e-9)
    assumed = dict(balanced.assumed)
    assert assumed["site.paris.sync_every"] == "100 (balanced)"
    assert assumed["site.osaka.sync_every"] == "50 (balanced)"


@given(
    st.lists(st.floats(0.05, 20.0), min_size=1, max_size=6),
    st.integers(1, 1000),
    st.one_of(st.none(), st.tuples(st.integers(1, 1000), st.floats(0.05, 20.0))),
)
def test_less_than_one_step_is_waited_for(
    seconds: list[float], common: int, other: tuple[int, float] | None
) -> None:
    sites = [Pace("balanced", each) for each in seconds]
    sites += [] if other is None else [Pace(*other)]
    taken = inner_steps(sites, common)
    rounds = [own * site.step_seconds for own, site in zip(taken, sites, strict=True)]
    longest = max(rounds[-1] if other else common * min(seconds), 0.0)
    for took, own, second in zip(rounds, taken, seconds, strict=False):
        assert own == int(own)
        assert -1e-9 * longest <= longest - took < second * (1 + 1e-9)
    if other is None:
        assert max(taken) == common == taken[seconds.index(min(seconds))]
    else:
        assert taken[-1] == other[0]


def test_balanced_sites_follow_the_longest_of_the_others() -> None:
    scenario = resolved(
        "site.a.sync_every=40", "site.a.speed=0.5", "site.b.sync_every=balanced",
        "site.c.sync_every=balanced", "site.c.speed=0.3", sites="a,b,c",
    )  # fmt: skip
    assert steps(scenario) == (40, 80, 24)


def test_balanced_machines_with_an_optimizer_count_it() -> None:
    """Steps of 0.1 + 0.1 s and 0.1 + 0.3 s."""
    scenario = resolved(
        "site.optimizer_time=0.1 s", "site.osaka.optimizer_time=0.3 s", "site.sync_every=balanced"
    )
    assert steps(scenario) == (100, 50)


def test_batches_that_are_balanced_leave_equal_steps() -> None:
    scenario = resolved(
        "site.osaka.speed=0.5", "site.batch_tokens=balanced", "site.sync_every=balanced"
    )
    assert len({worker.machine.batch_tokens for worker in scenario.workers}) == 2
    assert set(steps(scenario)) <= {99, 100}  # batches are whole tokens


def test_equal_sites_keep_the_number_and_the_hash() -> None:
    scenario = resolved("site.sync_every=balanced", sites="a,b,c")
    assert steps(scenario) == 100
    assert scenario.sha256 == resolved(sites="a,b,c").sha256


def test_python_takes_both() -> None:
    keywords: dict[str, Any] = {"model": "1B", "method": "diloco", "bandwidth": "10 Gbit/s"}
    assert steps(make_scenario(**keywords, site={"sync_every": 20}).resolved) == 20
    assert steps(make_scenario(**keywords, site={"sync_every": "balanced"}).resolved) == 100


# -- what the answer says --------------------------------------------------------------------


def test_the_answer_states_steps_shares_and_weights() -> None:
    scenario = resolved("site.osaka.speed=0.5", "site.sync_every=balanced")
    assert sentence(scenario) == (
        "Inner steps of a round by site, its share of the tokens and its weight in the mean: "
        "paris 100 (66.7 %, 50 %), osaka 50 (33.3 %, 50 %)."
    )
    by_tokens = resolved(
        "site.osaka.speed=0.5", "site.sync_every=balanced", "train.average_by=tokens"
    )
    assert "osaka 50 (33.3 %, 33.3 %)" in sentence(by_tokens)
    assert dict(scenario.assumed)["train.average_by"].startswith("workers")


def test_the_shares_of_the_tokens_are_those_of_the_trace() -> None:
    scenario = resolved(
        "site.paris.sync_every=30", "site.osaka.sync_every=7", "site.osaka.workers=2",
        "site.osaka.batch_tokens=3Mi", rounds="2",
    )  # fmt: skip
    trained = dict.fromkeys(("paris", "osaka"), 0.0)
    trace = simulate(scenario)
    for row in trace.rows:
        if row.operation == "inner_step":
            worker, alike = scenario.workers[row.rank], trace.context.standing_for[row.rank]
            tokens = worker.machine.batch_tokens * row.times * len(alike)
            trained[scenario.sites[worker.site].name] += tokens
    found = {each["site"]: each["tokens_fraction"] for each in records(scenario)}
    total = sum(trained.values())
    assert found == pytest.approx({name: each / total for name, each in trained.items()})
    assert predicted(scenario).tokens == pytest.approx(total)


def test_steps_that_differ_within_a_site_are_all_named() -> None:
    scenario = resolved("site.workers=2", sync_every="[3, 4, 5, 5]")
    assert "paris 3 and 4 (41.2 %, 50 %), osaka 5 (58.8 %, 50 %)" in sentence(scenario)


def test_json_has_a_record_per_site(bandwise: Bandwise) -> None:
    ran = bandwise(
        "simulate", "--model", "1B", "--sites", "paris,osaka", "--method", "diloco",
        "--set", "site.osaka.speed=0.5", "--set", "site.sync_every=balanced", "--json",
    )  # fmt: skip
    paris, osaka = json.loads(ran.out)["sites_in_a_round"]
    assert (paris["sync_every"], osaka["sync_every"]) == (100, 50)
    assert osaka["tokens_fraction"] == pytest.approx(1 / 3)
    assert osaka["weight_fraction"] == 0.5


# -- what is refused, and what is left out ---------------------------------------------------


def half_time(worker: Any, *, sync_every: int = 50) -> Any:
    while worker.next_round(steps=sync_every):
        yield worker.compute(worker.model.inner_step, times=sync_every)


@pytest.mark.parametrize(
    ("settings", "method", "answer"),
    [
        (["site.sync_every=20"], "ddp", "ddp does not take sync_every (local_sgd, diloco,"),
        (["site.osaka.sync_every=balancd"], "diloco", 'did you mean "balanced"?'),
        (["site.osaka.sync_every=0"], "diloco", "must be at least 1"),
        (["site.osaka.sync_every=2.5"], "diloco", "must be a whole number"),
        (
            ["site.osaka.sync_every=20", "method.sync_every=[3,4]"],
            "diloco",
            "method.sync_every has a number for each worker; leave one of the two out",
        ),
        (
            ["site.osaka.speed=0.3", "site.sync_every=balanced", "method.sync_every=2"],
            "diloco",
            "not even one step fits into the others' round",
        ),
        (
            ["site.sync_every=balanced", "method.fragment_spacing=nearest"],
            "streaming_diloco",
            'fragment_spacing = "nearest" rounds the steps of a round',
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    settings: list[str], method: str, answer: str
) -> None:
    with pytest.raises(ScenarioError) as refused:
        resolved(*settings, method=method)
    assert answer in str(refused.value)
    assert "sync_every" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_method_with_one_number_for_all_is_refused() -> None:
    with pytest.raises(ScenarioError, match="takes one sync_every for all workers"):
        make_scenario(model="1B", method=half_time, site={"sync_every": 20})


def test_a_list_that_is_typed_replaces_what_a_file_says(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        '[model]\nname = "1B"\n[method]\nname = "diloco"\n[[site]]\ncount = 2\nsync_every = 20\n'
    )
    assert steps(load(str(path), {})) == 20
    assert steps(load(str(path), {"--sync-every": "[30, 40]"})) == (30, 40)
    other = load(str(path), {"--method": "ddp"})
    assert other.left_out == ("site.sync_every",)


def test_compare_leaves_it_out_where_a_method_does_not_take_it(bandwise: Bandwise) -> None:
    asked = ("compare", "--model", "1B", "--set", "site.sync_every=20", "--rounds", "2")
    ran = bandwise(*asked, "--methods", "ddp,diloco")
    assert "because the method does not take it: site.sync_every (ddp)" in ran.out
    alone = bandwise(*asked, "--methods", "ddp,acco")
    assert alone.status == 2
    assert "does not take sync_every" in alone.err


def test_a_plan_keeps_the_steps_that_sites_have() -> None:
    asked = document_of(None, BASE, ["site.osaka.sync_every=20"])
    assert "method.sync_every" in typed_keys(asked)
    assert "method.sync_every" not in typed_keys(document_of(None, BASE, []))
