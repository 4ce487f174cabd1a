"""An argument for several methods is for those that take it; for one it must be taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command_line import Bandwise

from sim.scenario import Study, load, load_study, sweep
from sim.scenario.errors import ScenarioError

BASE = {"--model": "1B"}
METHODS = "method=ddp,diloco,streaming_diloco"


def labels(study: Study) -> list[tuple[object, ...]]:
    return [tuple(case.labels.values()) for case in study.cases()]


def test_a_varied_argument_is_varied_for_the_methods_that_take_it() -> None:
    study = sweep(None, BASE, [], [METHODS, "fragment_sync_delay=1,5"])
    assert labels(study) == [
        ("ddp", "-"),
        ("diloco", "-"),
        ("streaming_diloco", "1"),
        ("streaming_diloco", "5"),
    ]
    delays = [case.scenario.method.arguments.get("fragment_sync_delay") for case in study.cases()]
    assert delays == [None, None, 1, 5]


def test_the_order_of_the_axes_decides_nothing() -> None:
    study = sweep(None, BASE, [], ["fragment_sync_delay=1,5", METHODS])
    assert set(labels(study)) == {
        ("-", "ddp"),
        ("-", "diloco"),
        ("1", "streaming_diloco"),
        ("5", "streaming_diloco"),
    }


def test_a_column_of_numbers_stays_one_where_all_methods_take_the_argument() -> None:
    study = sweep(None, BASE, [], ["method=diloco,local_sgd", "sync_every=10,20"])
    assert [case.labels["method.sync_every"] for case in study.cases()] == [10, 20, 10, 20]


@pytest.mark.parametrize("given", [{"--sync-every": "7"}, ["method.sync_every=7"]])
def test_an_option_or_setting_is_for_the_methods_that_take_it(
    given: dict[str, str] | list[str],
) -> None:
    options = {**BASE, **(given if isinstance(given, dict) else {})}
    settings = given if isinstance(given, list) else []
    scenarios = [case.scenario for case in sweep(None, options, settings, [METHODS]).cases()]
    assert [s.method.arguments.get("sync_every") for s in scenarios] == [None, 7, 7]
    assert [s.left_out for s in scenarios] == [("method.sync_every",), (), ()]


def test_what_is_left_out_changes_no_hash() -> None:
    (left,) = sweep(None, {**BASE, "--sync-every": "7"}, [], ["method=ddp,diloco"]).cases()[:1]
    assert left.scenario.sha256 == load(None, {**BASE, "--method": "ddp"}).sha256


@pytest.mark.parametrize(
    ("options", "over", "message"),
    [
        ({"--sync-every": "7"}, ["method=ddp,acco"], "--sync-every: .* does not take sync_every"),
        ({}, ["method=ddp,acco", "sync_every=7,8"], "--over sync_every: .* does not take"),
        ({"--sync-every": "0"}, ["method=ddp,diloco"], '--sync-every: "0": must be'),
        ({"--sync-every": "7"}, ["method=ddp"], "--sync-every: ddp does not take sync_every"),
        ({"--sync-every": "7", "--method": "ddp"}, ["rtt=1,2ms"], "ddp does not take sync_every"),
    ],
)
def test_an_argument_that_no_method_takes_is_an_error_that_names_those_that_do(
    options: dict[str, str], over: list[str], message: str
) -> None:
    with pytest.raises(ScenarioError, match=message):
        sweep(None, {**BASE, **options}, [], over)


def test_a_case_that_names_its_method_is_about_that_method_alone(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    head = '[model]\nname = "1B"\n[method]\nsync_every = 7\n[study.axis.method]\n'
    path.write_text(head + 'one = { method = { name = "ddp" } }\ntwo = { method = { } }\n')
    one, two = (case.scenario for case in load_study(path).cases())
    assert (one.left_out, two.left_out) == (("method.sync_every",), ())
    path.write_text(head + 'one = { method = { name = "ddp", sync_every = 5 } }\n')
    with pytest.raises(ScenarioError, match="ddp does not take sync_every"):
        load_study(path)


def test_a_method_that_is_no_table_is_refused_where_methods_are_varied(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(
        'method = ["ddp"]\n[study]\nask = "simulate"\n[study.axis.method]\n'
        'base = {}\nddp = { method = { name = "ddp" } }\n'
    )
    with pytest.raises(ScenarioError, match=r"method: .* must be a table: \[method\]"):
        load_study(path)


def test_a_slip_of_the_pen_in_a_file_is_found_whatever_method_is_named(tmp_path: Path) -> None:
    path = tmp_path / "case.toml"
    path.write_text('[model]\nname = "1B"\n[method]\nname = "diloco"\nsync_evry = 7\n')
    for over in ("method=ddp,acco", "method=diloco,ddp"):
        with pytest.raises(ScenarioError, match="sync_evry: unknown key"):
            sweep(path, {}, [], [over])
    with pytest.raises(ScenarioError, match="sync_evry: unknown key"):
        load(path, {"--method": "ddp"})


def test_arguments_of_a_file_for_its_method_go_with_it_and_the_output_says_so(
    bandwise: Bandwise, tmp_path: Path
) -> None:
    path = tmp_path / "case.toml"
    path.write_text('[model]\nname = "1B"\n[method]\nname = "diloco"\nsync_every = 7\n')
    ran = bandwise("simulate", path, "--method", "ddp", "--replications", "1")
    assert "does not take it: method.sync_every (ddp)." in " ".join(ran.out.split())
    assert bandwise("simulate", path, "--method", "ddp", "--json").json["left_out"] == [
        "method.sync_every"
    ]


def test_compare_and_sweep_say_for_which_methods_an_argument_was_left_out(
    bandwise: Bandwise,
) -> None:
    given = ("--model", "1B", "--sync-every", "7")
    ran = bandwise("compare", *given, "--methods", "ddp,acco,diloco")
    said = "does not take it: method.sync_every (ddp, acco)."
    assert said in " ".join(ran.out.split())
    ran = bandwise("sweep", *given, "--over", "method=ddp,acco,diloco", "--jobs", 1)
    assert said in " ".join(ran.out.split())
    ran = bandwise("compare", *given, "--methods", "ddp")
    assert ran.status == 2
    assert "ddp does not take sync_every (local_sgd" in ran.err
