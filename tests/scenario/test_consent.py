"""Opening a file runs no stranger's program: where a module may be imported from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest
from support.command_line import Bandwise

from sim.cli.app import COMMANDS
from sim.scenario import Allowed, ScenarioError, load, load_study, sections, sweep

POISON = "raise SystemExit('imported')\n"
METHOD = """\
def method(worker):
    while worker.next_round(steps=1):
        yield worker.compute(worker.model.inner_step, commits=True)
"""
SCENARIO = '[model]\nname = "1B"\n[method]\nname = "own_of_consent:method"\n'


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of somebody else's, with a module; the working directory is another one."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    (folder / "own_of_consent.py").write_text(METHOD)
    (folder / "case.toml").write_text(SCENARIO)
    yield folder
    sys.modules.pop("own_of_consent", None)


def imported() -> bool:
    return "own_of_consent" in sys.modules


def test_a_stranger_s_file_imports_nothing_and_says_what_to_type(stranger: Path) -> None:
    with pytest.raises(ScenarioError) as error:
        load(stranger / "case.toml")
    message = str(error.value)
    assert str(stranger / "case.toml") in message
    assert 'method.name: "own_of_consent:method"' in message
    assert "the module own_of_consent" in message
    assert "--allow-code" in message
    assert not imported()


def test_with_leave_it_is_imported(stranger: Path) -> None:
    assert load(Allowed(stranger / "case.toml")).method.name == "own_of_consent:method"
    assert imported()


def test_what_is_typed_is_meant(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(stranger)
    own = "own_of_consent:method"
    assert load(None, {"--model": "1B", "--method": own}).method.name == own
    assert load(None, {"--model": "1B"}, [f"method.name={own}"]).method.name == own
    assert len(sweep(None, {"--model": "1B"}, [], [f"method=ddp,{own}"]).cases()) == 2
    # Another method than the file's needs no leave.
    assert load(stranger / "case.toml", {"--method": "ddp"}).method.name == "ddp"


def test_a_file_below_the_working_directory_is_one_s_own(
    stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stranger.parent)
    assert load("theirs/case.toml").method.name == "own_of_consent:method"


def test_a_link_below_the_working_directory_is_where_it_leads(stranger: Path) -> None:
    Path("case.toml").symlink_to(stranger / "case.toml")
    with pytest.raises(ScenarioError, match="--allow-code"):
        load("case.toml")
    Path("folder").symlink_to(stranger)
    with pytest.raises(ScenarioError, match="--allow-code"):
        load("folder/case.toml")
    assert not imported()


@pytest.mark.parametrize(
    "axis",
    [
        '[study.axis]\n"method.name" = ["ddp", "own_of_consent:method"]\n',
        '[study.axis.m]\na = { }\nb = { method = { name = "own_of_consent:method" } }\n',
    ],
)
def test_an_axis_of_a_stranger_s_study_imports_nothing(axis: str, stranger: Path) -> None:
    path = stranger / "study.toml"
    path.write_text(f'[model]\nname = "1B"\n[study]\n{axis}')
    with pytest.raises(ScenarioError, match="--allow-code"):
        load_study(path)
    assert not imported()
    assert len(load_study(Allowed(path)).cases()) == 2


@pytest.mark.parametrize("key", ["module", "loss"])
def test_a_model_or_loss_is_asked_for_where_it_would_be_imported(key: str, stranger: Path) -> None:
    path = stranger / "model.toml"
    module = '[model]\nlayer_parameters = [10]\nmodule = "own_of_consent:M"\n'
    given = module + ('loss = "own_of_consent:f"\n' if key == "loss" else "")
    path.write_text(f'{given}[[site]]\nstep_time = "1 s"\n')
    load(path)  # the simulator imports neither
    with pytest.raises(ScenarioError, match=r"model\.module: .*--allow-code"):
        sections(path)
    assert getattr(sections(Allowed(path)).model, key).startswith("own_of_consent")
    if key == "loss":  # the module typed, the loss from the file
        with pytest.raises(ScenarioError, match=r"model\.loss: .*--allow-code"):
            sections(path, None, ["model.module=mine:M"])


def test_commands_need_leave_and_take_it(stranger: Path, bandwise: Bandwise) -> None:
    case = stranger / "case.toml"
    quick = ("--replications", "1")
    for command in (("simulate", case, *quick), ("sweep", case, "--over", "rtt=1,2ms")):
        ran = bandwise(*command)
        assert (ran.status, ran.err.count("\n")) == (2, 1)
        assert "--allow-code" in ran.err
        assert not imported()
    assert bandwise("simulate", case, *quick, "--allow-code").status == 0


def test_every_command_that_takes_a_scenario_or_a_study_has_the_option(bandwise: Bandwise) -> None:
    for command in ("simulate", "compare", "required", "sweep", "study", "reproduce"):
        assert command in COMMANDS
        assert "--allow-code" in bandwise(command, "-h").out


@pytest.mark.parametrize("command", ["train", "lab", "calibrate", "validate", "doctor"])
def test_every_command_of_realrun_has_the_option(command: str) -> None:
    pytest.importorskip("torch")
    import importlib

    function = getattr(importlib.import_module(f"realrun.cli.{command}"), command)
    hints = getattr(function, "__annotations__", {}) or get_type_hints(function)
    assert "allow_code" in hints


def test_pictures_traces_and_results_import_nothing(
    stranger: Path, bandwise: Bandwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path("out")
    sweep_of = ("sweep", "--model", "1B", "--over", "bandwidth=1,2Gbit/s", "--jobs", 1)
    monkeypatch.syspath_prepend(stranger)
    own = ("--method", "own_of_consent:method")
    assert bandwise(*sweep_of, *own, "--out", out).status == 0
    assert bandwise("simulate", "--model", "1B", *own, "--trace", "run.csv").status == 0
    sys.modules.pop("own_of_consent")
    (stranger / "own_of_consent.py").write_text(POISON)
    for results, kind in (
        (out / "results.csv", "utilization"),
        (out / "results.parquet", "breakdown"),
        ("run.csv", "timeline"),
    ):
        ran = bandwise("plot", results, "--kind", kind, "--out", "a.png")
        assert ran.status == 0, ran.err
    ran = bandwise("simulate", "--model", "1B", "--method", "ddp", "--replay", "run.csv")
    assert "the trace is of own_of_consent:method" in ran.err
    assert not imported()


def test_the_records_of_a_kept_validation_import_nothing() -> None:
    pytest.importorskip("torch")
    from realrun.validation.archive import Archive

    known = set(sys.modules)
    assert Archive(Path(__file__).parents[2] / "validation" / "lab").records
    assert {name.partition(".")[0] for name in set(sys.modules) - known} <= {"realrun", "sim"}
