"""Updates are what the program declares, in both runtimes; nothing is read off names."""

from __future__ import annotations

import json
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any

import pytest
from support.plain_scenario import TOKENS, machine, plain
from typer.testing import CliRunner

from sim.cli.app import app
from sim.figures.evaluation import Figures, figures
from sim.program import Program, Worker
from sim.records.scenario import Run
from sim.runtime import simulate
from sim.trace.files import load, save
from sim.trace.table import Trace

WHOLE = range(2)
OWN = """
def averaging(worker, *, declared: bool = False):
    model = worker.model
    whole = range(model.num_layers)
    while worker.next_round(steps=50):
        yield worker.compute(model.inner_step, times=50)
        yield worker.all_reduce(model.parameters(whole), model.param_dtype)
        if declared:
            yield worker.compute(model.average_parameters, whole, commits=True)
"""


def figures_of(scenario: Any) -> Figures:
    return figures(simulate(scenario))


def averaging(worker: Worker, *, commits: bool = True) -> Program:
    model = worker.model
    while worker.next_round(steps=5):
        yield worker.compute(model.inner_step, times=5)
        yield worker.all_reduce(model.parameters(WHOLE), "bf16")
        yield worker.compute(model.average_parameters, WHOLE, commits=commits)


def averaging_twice(worker: Worker) -> Program:
    """The same operation commits the second time only."""
    model = worker.model
    while worker.next_round(steps=5):
        for last in (False, True):
            yield worker.compute(model.inner_step, times=5)
            yield worker.all_reduce(model.parameters(WHOLE), "bf16")
            yield worker.compute(model.average_parameters, WHOLE, commits=last)


def one_layer(worker: Worker) -> Program:
    model = worker.model
    while worker.next_round(steps=5):
        yield worker.compute(model.inner_step, times=5)
        yield worker.all_reduce(model.parameters(range(1)), "bf16")
        yield worker.compute(model.average_parameters, range(1), commits=True)


def first_rank_alone(worker: Worker) -> Program:
    model = worker.model
    while worker.next_round(steps=5):
        yield worker.compute(model.inner_step, times=5)
        yield worker.all_reduce(model.parameters(WHOLE), "bf16")
        yield worker.compute(model.average_parameters, WHOLE, commits=worker.rank == 0)


def by_its_steps(worker: Worker) -> Program:
    while worker.next_round(steps=5):
        yield worker.compute(worker.model.inner_step, times=5, commits=True)


@pytest.mark.parametrize(
    ("method", "updates_a_round"),
    [(averaging, 1), (averaging_twice, 1), (one_layer, 1 / 2), (first_rank_alone, 1 / 2)],
)
def test_updates_are_declared_layers_over_all_layers_of_a_mean_worker(
    method: Any, updates_a_round: float
) -> None:
    result = figures_of(plain(method, run=Run(rounds=8)))
    assert result.updates == 8 * updates_a_round
    assert result.window_updates == result.window_rounds * updates_a_round


def test_steps_that_commit_count_once_each() -> None:
    result = figures_of(plain(by_its_steps, run=Run(rounds=8)))
    assert result.updates == 40
    assert result.tokens_per_update == 2 * TOKENS


def test_a_program_that_declares_nothing_has_no_figure() -> None:
    result = figures_of(plain(averaging, {"commits": False}, run=Run(rounds=8)))
    assert not result.declares_updates
    assert isnan(result.updates)
    assert isnan(result.tokens_per_update)


def test_a_program_that_declares_nothing_still_has_a_steady_state() -> None:
    declared, undeclared = (figures_of(plain(averaging, {"commits": c})) for c in (True, False))
    assert undeclared.steady
    assert undeclared.window_rounds == declared.window_rounds
    assert undeclared.wall_clock_s == declared.wall_clock_s


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("ddp", {}),
        ("ddp", {"overlap": "layer"}),
        ("ddp", {"zero1": True}),
        ("local_sgd", {"sync_every": 4}),
        ("diloco", {"sync_every": 4}),
        ("streaming_diloco", {"sync_every": 4, "num_fragments": 2}),
        ("streaming_diloco", {"sync_every": 4, "num_fragments": 2, "overlap": "layer"}),
        ("delayed_diloco", {"sync_every": 4, "outer_sync_delay": 2}),
        ("eager_diloco", {"sync_every": 4, "outer_sync_delay": 2}),
        ("acco", {}),
        ("dpu", {}),
        ("wp", {}),
    ],
)
def test_every_method_declares_one_update_a_round(method: str, arguments: dict[str, Any]) -> None:
    """Also in all: what is in flight at the end is applied, what is taken in late is no update."""
    scenario = plain(method, arguments, machines=[machine(1.0), machine(2.0)])
    scenario = replace(scenario, run=Run(rounds=8))
    result = figures_of(scenario)
    assert result.updates == 8


def test_a_users_method_is_counted_by_its_declaration_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five averages in 250 steps of two workers are five updates, or none that is known of."""
    (tmp_path / "own_averaging.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    command = ["simulate", "--model", "1B", "--method", "own_averaging:averaging", "--steps", "250"]
    declared = ["--set", "method.declared=true"]

    found = json.loads(CliRunner().invoke(app, [*command, *declared, "--json"]).stdout)
    assert found["whole_run"]["updates"] == 5
    assert found["tokens_per_update"] == 50 * 2 * 2**20
    assert found["declares_updates"] is True

    found = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert found["whole_run"]["updates"] is None
    assert found["tokens_per_update"] is None
    assert found["declares_updates"] is False
    shown = CliRunner().invoke(app, command).stdout
    assert shown.count("declares no update") == 2


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_trace_file_says_what_commits(tmp_path: Path, suffix: str) -> None:
    scenario = plain("diloco", {"sync_every": 2}, run=Run(rounds=3))
    trace = simulate(scenario)
    save(trace, tmp_path / f"trace{suffix}")
    again = load(tmp_path / f"trace{suffix}")
    committing = [row.operation for row in again.rows if row.commits]
    assert set(committing) == {"outer_step"}
    assert again.sequence() == trace.sequence()
    assert figures(again).updates == 3


def test_a_trace_file_from_before_the_column_declares_nothing(tmp_path: Path) -> None:
    scenario = plain("diloco", {"sync_every": 2}, run=Run(rounds=3))
    save(simulate(scenario), tmp_path / "trace.csv")
    about, *lines = (tmp_path / "trace.csv").read_text().splitlines()
    assert lines[0].endswith(",commits")
    note = json.loads(about.removeprefix("# bandwise trace: "))
    first = {"schema": 1, "total_s": note["total_s"], "context": note["context"]}
    older = [f"# bandwise trace: {json.dumps(first)}", *(s.rpartition(",")[0] for s in lines)]
    (tmp_path / "older.csv").write_text("\n".join(older) + "\n")
    trace: Trace = load(tmp_path / "older.csv")
    assert not any(row.commits for row in trace.rows)
    assert not figures(trace).declares_updates


def test_a_comparison_names_the_method_whose_updates_are_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "compared_averaging.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    methods = "diloco,compared_averaging:averaging"
    command = ["compare", "--model", "1B", "--methods", methods]
    shown = CliRunner().invoke(app, command).stdout
    assert "compared_averaging:averaging: declares no update" in " ".join(shown.split())
    assert shown.count("declares no update") == 1
