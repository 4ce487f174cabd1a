"""A command loads its scenario once per process, whatever it does with it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.command_line import Bandwise

from sim.scenario import load, loaded, reading, sections

SCENARIO = """\
[run]
rounds = 3
[model]
kind = "gpt"
hidden = 4
layers = 2
heads = 1
vocabulary = 16
context = 8
[[site]]
count = 2
step_time = "1 ms"
batch_tokens = 16
"""
STUDY = SCENARIO + '[study]\n[study.axis]\n"network.bandwidth" = ["1 Gbit/s", "2 Gbit/s"]\n'


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[Path]:
    """How often each scenario file is read."""
    found: Counter[Path] = Counter()
    read: Callable[..., Any] = reading.read_toml

    def counted(path: Path, label: str) -> dict[str, Any]:
        found[path] += 1
        return dict(read(path, label))

    monkeypatch.setattr(reading, "read_toml", counted)
    return found


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.toml"
    path.write_text(SCENARIO)
    return path


@pytest.mark.parametrize(
    "command",
    [
        ["simulate", "--replications", "3"],
        ["required", "--target", "50 %"],
        ["compare", "--methods", "ddp,diloco"],
        ["study", "--out", "out"],
    ],
    ids=lambda command: command[0],
)
def test_the_simulators_commands_read_a_scenario_once(
    file: Path, reads: Counter[Path], bandwise: Bandwise, command: list[str]
) -> None:
    if command[0] == "study":
        file.write_text(STUDY)
    ran = bandwise(command[0], file, *command[1:])
    assert ran.status == 0, ran.err
    assert reads[file] == 1


class MeetError(Exception):
    """The workers would meet now."""


@pytest.mark.parametrize("command", [["train"], ["calibrate", "--out", "machine.toml"]])
def test_a_worker_reads_its_scenario_once(
    file: Path, reads: Counter[Path], monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    pytest.importorskip("torch")
    from realrun import training
    from realrun.cli.app import app
    from realrun.processes import placement

    def meet(*_: object) -> None:
        raise MeetError

    for module in (placement, training):
        monkeypatch.setattr(module, "meet", meet)
    for key, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(key, value)
    arguments = [command[0], str(file), *command[1:]]
    monkeypatch.setattr(sys, "argv", ["realrun", *arguments])
    with pytest.raises(MeetError):
        app(arguments)
    assert reads[file] == 1


def test_the_doctor_reads_a_scenario_once(file: Path, reads: Counter[Path]) -> None:
    pytest.importorskip("torch")
    from realrun.cli.app import app

    with pytest.raises(SystemExit):
        app(["doctor", str(file), "--json"])
    assert reads[file] == 1


def test_what_is_loaded_is_the_scenario_and_its_sections(file: Path) -> None:
    asked = str(file), {"--rounds": "5"}, ["site.count=3"]
    found = loaded(*asked)
    assert found.scenario == load(*asked)
    assert found.sections == sections(*asked)
    assert found.folder == file.parent
    assert loaded("quick_start").folder is None
    assert loaded(None, {"--model": "10B"}).folder is None
