"""Inputs of the what-if page: an address, a command line, TOML and Python say the same."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

import sim
from sim.cli.app import COMMANDS
from sim.web.inputs import Point, first, inputs, read

CHOSEN = (
    ("model", "7B"),
    ("tokens", "4B"),
    ("method", "streaming_diloco"),
    ("sync_every", "60"),
    ("num_fragments", "4"),
    ("comm_dtype", "fp4"),
    ("sites", "3"),
    ("accelerators", "8 x H100"),
    ("mfu", "0.4"),
    ("price", "2.50 USD/h"),
    ("bandwidth", "0.5 Gbit/s"),
    ("rtt", "80 ms"),
)


@pytest.fixture
def chosen() -> Point:
    return read(CHOSEN)


def hash_of(point: Point) -> str:
    return sim.make_scenario(**point.keywords).sha256


def test_an_address_gives_the_same_point_again(chosen: Point) -> None:
    assert read(parse_qsl(chosen.address)) == chosen
    assert read(parse_qsl(first().address)) == first()


def test_toml_describes_the_same_scenario(chosen: Point, tmp_path: Path) -> None:
    for point in (chosen, first()):
        file = tmp_path / "point.toml"
        file.write_text(point.toml)
        found = replace(sim.load(file).resolved, name="")  # a file names its scenario
        assert found.sha256 == hash_of(point)


def test_the_command_line_describes_the_same_scenario(
    chosen: Point, capsys: pytest.CaptureFixture[str]
) -> None:
    from sim.cli.app import app

    program, command, *rest = shlex.split(chosen.command)
    assert (program, command in COMMANDS) == ("bandwise", True)
    with pytest.raises(SystemExit) as end:
        app([command, *rest, "--json", "--no-sensitivity"])
    printed = json.loads(capsys.readouterr().out)
    assert (end.value.code, printed["scenario_sha256"]) == (0, hash_of(chosen))


def test_python_prints_the_same_figures(capsys: pytest.CaptureFixture[str]) -> None:
    point = read([("model", "1B"), ("method", "diloco"), ("bandwidth", "1 Gbit/s")])
    exec(point.python, {})
    assert capsys.readouterr().out == f"{sim.simulate(sim.make_scenario(**point.keywords))!r}\n"


def test_arguments_that_a_method_does_not_take_are_left_out(chosen: Point) -> None:
    ddp = chosen.with_value("method", "ddp")
    assert ddp.left_out == ["sync_every", "num_fragments"]
    assert "sync" not in ddp.command + ddp.toml + ddp.python


def test_every_choice_is_one_that_scenarios_know() -> None:
    for of in inputs().values():
        for value in filter(None, of.choices):
            values = {"model": "1B", "method": "diloco", of.name: value}
            hash_of(read(values.items()))
