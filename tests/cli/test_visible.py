"""Control characters never reach a terminal or a page; cells are no formulas."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from support.command_line import Bandwise

from sim.output.show import tell
from sim.questions import result_files
from sim.scenario import ScenarioError, load, load_study, sweep
from sim.text.visible import (
    controls,
    guarded,
    guarded_columns,
    unguarded,
    unguarded_columns,
    visible,
)

HARMFUL = ["\x1b[2J", "\x07", "\x7f", "\x9b31m", "\r", "\u202e", "\u2066", "\u2028"]
BASE = '[model]\nname = "1B"\n'


def toml(text: str) -> str:
    return json.dumps(text).replace("\x7f", "\\u007f")


@pytest.mark.parametrize("harmful", HARMFUL)
@pytest.mark.parametrize(
    "lines",
    [
        "name = {}\n" + BASE,
        BASE + "[[site]]\nname = {}\n",
        BASE + "[[site]]\nmachine = {}\n",
        BASE + "[method]\nname = {}\n",
        BASE + "[method]\n{} = 3\n",
        "hardware = {}\n" + BASE,
    ],
)
def test_names_with_control_characters_are_refused_in_one_visible_line(
    lines: str, harmful: str, tmp_path: Path, bandwise: Bandwise
) -> None:
    path = tmp_path / "case.toml"
    path.write_text(lines.format(toml(f"a{harmful}b")))
    ran = bandwise("simulate", path)
    assert ran.status == 2
    assert ran.err.count("\n") == 1
    assert not controls(ran.err)


@pytest.mark.parametrize("harmful", HARMFUL)
def test_labels_of_a_study_with_control_characters_are_refused(
    harmful: str, tmp_path: Path
) -> None:
    path = tmp_path / "study.toml"
    for axis in (
        f"[study.axis.{toml(harmful)}]\nb = {{ }}\n",
        f"[study.axis.a]\n{toml(harmful)} = {{ }}\n",
        f'[study.axis]\n"site.name" = [{toml(harmful)}]\n',
    ):
        path.write_text(f"{BASE}[study]\n{axis}")
        with pytest.raises(ScenarioError) as error:
            load_study(path)
        assert not controls(str(error.value))
    with pytest.raises(ScenarioError) as error:
        sweep(None, {"--model": "1B"}, [], [f"hardware=a{harmful}"])
    assert not controls(str(error.value))


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "json"])
def test_a_file_s_name_is_shown_escaped_in_every_format(
    form: str, tmp_path: Path, bandwise: Bandwise
) -> None:
    path = tmp_path / "=a\x1b[2J\x9b\u202eb.toml"
    path.write_text(BASE)
    ran = bandwise("simulate", path, "--format", form)
    assert ran.status == 0
    assert not controls(ran.out)
    if form == "json":
        assert json.loads(ran.out)["scenario"] == path.stem
    else:
        assert "=a\\x1b[2J\\x9b\\u202eb" in ran.out
    if form == "csv":
        assert ",'=a\\x1b" in ran.out


def test_what_is_told_in_passing_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    tell("wrote a\x1b[2J")
    assert capsys.readouterr().err == "wrote a\\x1b[2J\n"


def test_ordinary_text_of_any_language_is_left_alone() -> None:
    text = "zürich, 東京, Ελλάδα, 50 µs\n\t| + 1"
    assert visible(text) == text


@pytest.mark.parametrize(
    "label",
    ["=1+1", "+ overlapped", "@a", "-a", "\tx", "'=1", "''=1", "'tis", "-", "-1.5", "ddp", ""],
)
def test_a_guarded_cell_reads_back_as_what_it_was(label: str) -> None:
    assert unguarded(guarded(label)) == label
    assert guarded(label)[:1] not in ("=", "+", "@", "\t") or label in ("-", "-1.5")


def test_numbers_and_columns_survive_the_guard() -> None:
    frame = pd.DataFrame({"=k": ["=1", "a"], "x": [-1.5, 2.0], "n": [-1, 3]})
    once = guarded_columns(frame)
    assert list(once.columns) == ["'=k", "x", "n"]
    assert once["'=k"].tolist() == ["'=1", "a"]
    assert once[["x", "n"]].equals(frame[["x", "n"]])
    assert unguarded_columns(once).equals(frame)


def test_results_of_a_study_hold_no_formula_and_plot_gets_the_labels_back(
    tmp_path: Path, bandwise: Bandwise
) -> None:
    path = tmp_path / "study.toml"
    path.write_text(f'{BASE}[study.axis.kind]\n"=1+1" = {{ }}\n"+ more" = {{ run.seed = 1 }}\n')
    out = tmp_path / "out"
    assert bandwise("study", path, "--out", out, "--jobs", 1).status == 0
    cells = [line.split(",")[0] for line in (out / "results.csv").read_text().splitlines()]
    assert cells == ["kind", "'=1+1", "'+ more"]
    read = [
        result_files.load(out / f"results.{kind}")["kind"].tolist() for kind in ("csv", "parquet")
    ]
    assert read == [["=1+1", "+ more"]] * 2


def test_a_page_of_a_validation_holds_no_control_characters() -> None:
    pytest.importorskip("torch")
    from realrun.validation.markdown import table

    assert table(["a"], [["x\x1b|\ny"]]) == "| a |\n|---|\n| x\\x1b/ y |"


def test_a_name_of_several_lines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "case.toml"
    path.write_text(f'name = "a\\nb"\n{BASE}')
    with pytest.raises(ScenarioError, match="must not hold control characters"):
        load(path)
