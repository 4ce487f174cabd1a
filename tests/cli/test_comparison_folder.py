"""compare --out: a folder with table, levers and picture; or one picture, as before."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from support.command_line import Bandwise

import sim
from sim.questions.study import StudyError

GIVEN = ("--model", "1B", "--sites", "2", "--bandwidth", "2Gbit/s", "--methods", "diloco,local_sgd")
ALL = {"comparison.json", "table.csv", "levers.csv", "comparison.png", "comparison.svg"}


def test_a_folder_holds_the_figures_of_json_and_of_one_comparison_only(
    tmp_path: Path, bandwise: Bandwise
) -> None:
    out = tmp_path / "compared"
    ran = bandwise("compare", *GIVEN, "--out", out, "--json")
    assert ran.status == 0, ran.err
    assert {path.name for path in out.iterdir()} == ALL
    kept = json.loads((out / "comparison.json").read_text())
    assert {key: kept[key] for key in ran.json} == ran.json
    assert (out / "table.csv").read_text() == bandwise("compare", *GIVEN, "--format", "csv").out
    levers = list(csv.DictReader((out / "levers.csv").read_text().splitlines()))
    assert [each["lever"] for each in levers] == [each["lever"] for each in ran.json["levers"]]
    first = (out / "table.csv").read_bytes()
    other = bandwise("compare", *GIVEN, "--sync-every", "20", "--out", out)
    assert other.status != 0
    assert "holds the comparison of another question" in other.err
    assert (out / "table.csv").read_bytes() == first
    assert bandwise("compare", *GIVEN, "--out", out, "--no-sensitivity").status == 0
    assert {path.name for path in out.iterdir()} == ALL - {"levers.csv"}


def test_a_name_that_ends_like_a_picture_is_one(tmp_path: Path, bandwise: Bandwise) -> None:
    assert bandwise("compare", *GIVEN, "--out", tmp_path / "bars.png").status == 0
    assert [path.name for path in tmp_path.iterdir()] == ["bars.png"]
    refused = bandwise("compare", *GIVEN, "--out", tmp_path / "bars.gif")
    assert refused.status != 0
    assert "must end in .png" in refused.err


def test_python_writes_the_same_folder(tmp_path: Path, bandwise: Bandwise) -> None:
    scenario = sim.make_scenario(model="1B", sites=2, bandwidth="2 Gbit/s")
    sim.compare(scenario, ["diloco", "local_sgd"], out=tmp_path / "python")
    assert bandwise("compare", *GIVEN, "--out", tmp_path / "typed").status == 0
    for name in ("table.csv", "levers.csv"):
        texts = [(tmp_path / place / name).read_text() for place in ("python", "typed")]
        assert texts[0] == texts[1]
    with pytest.raises(StudyError, match="another question"):
        sim.compare(scenario, ["diloco"], out=tmp_path / "python")
