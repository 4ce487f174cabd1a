"""A method of the user's that fails while it is simulated is named with rank, file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.plain_scenario import plain

from sim.cli.app import main
from sim.program import Program, Worker
from sim.records.scenario import Run
from sim.runtime import SimulationError, simulate

FAILING = """\
def failing(worker):
    model = worker.model
    while worker.next_round(steps=1):
        yield worker.compute(model.inner_step)
        missing = {}["rate"]
"""


def too_many_layers(worker: Worker) -> Program:
    while worker.next_round(steps=1):
        if worker.rank == 1:
            raise ValueError("no such layer")
        yield worker.compute(worker.model.inner_step)


def spawned_and_failing(worker: Worker) -> Program:
    while worker.next_round(steps=1):
        yield worker.spawn(too_many_layers)


@pytest.mark.parametrize("method", [too_many_layers, spawned_and_failing])
def test_the_line_names_rank_method_and_place(method: object) -> None:
    with pytest.raises(SimulationError) as caught:
        simulate(plain(method, run=Run(rounds=2)))  # type: ignore[arg-type]
    text = str(caught.value)
    assert text.startswith("rank 1: method too_many_layers failed: ValueError: no such layer (")
    raising = too_many_layers.__code__.co_firstlineno + 3
    assert text.endswith(f"test_users_method_fails.py, line {raising})")


@pytest.mark.parametrize("command", ["simulate", "compare", "required"])
def test_every_command_says_so_in_one_line(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / f"failing_in_{command}.py").write_text(FAILING)
    monkeypatch.chdir(tmp_path)
    option = "--methods" if command == "compare" else "--method"
    line = ["bandwise", command, "--model", "1B", option, f"failing_in_{command}:failing"]
    monkeypatch.setattr("sys.argv", line)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    *progress, error = capsys.readouterr().err.splitlines()
    assert all(line.endswith(" runs") for line in progress)
    place = f"failing_in_{command}.py, line 5"
    assert f"rank 0: method failing failed: KeyError: 'rate' ({place})" in error
