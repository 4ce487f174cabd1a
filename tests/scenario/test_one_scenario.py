"""Commands for one scenario say so where they are given a study, or more than a machine holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.command_line import Bandwise

from sim.scenario import ScenarioError, load, load_study, sweep

STUDY = """\
[model]
name = "1B"
[study.axis]
"run.seed" = [1, 2, 3]
"method.name" = ["ddp", "diloco"]
"""


@pytest.mark.parametrize(
    "command",
    [("simulate",), ("compare",), ("required",), ("sweep", "--over", "rtt=1,2ms")],
)
def test_a_study_is_refused_with_what_runs_it(
    command: tuple[str, ...], tmp_path: Path, bandwise: Bandwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text(STUDY)
    ran = bandwise(command[0], "s.toml", *command[1:])
    assert (ran.status, ran.err) == (
        2,
        "bandwise: error: s.toml: study: this is a study of 6 cases, not one scenario: bandwise "
        "study s.toml --out DIR runs it; for its base alone, leave [study] out of a copy\n",
    )
    assert bandwise("study", "s.toml", "--out", "DIR", "--jobs", 1).status == 0


def test_a_validation_is_left_to_realrun() -> None:
    path = Path(__file__).parents[2] / "validation" / "quick" / "study.toml"
    with pytest.raises(ScenarioError, match=r"realrun validate .*study\.toml --out DIR runs it"):
        load(path, single=True)
    with pytest.raises(ScenarioError, match="not one scenario"):
        sweep(path, {}, [], ["rtt=1,2ms"], single=True)


def test_in_python_the_base_of_a_study_is_a_scenario_as_before(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(STUDY)
    assert load(path).name == load_study(path).base.name


def test_many_more_processes_than_cores_are_started_only_if_asked_for() -> None:
    pytest.importorskip("torch")
    from realrun.cli.options import checked_processes
    from sim.output.errors import UserError

    cores = len(os.sched_getaffinity(0))
    most = max(16, 4 * cores)
    assert checked_processes(most) == most
    assert checked_processes(500, 500) == 500
    with pytest.raises(UserError, match=r"--nproc: 2: the scenario has 500 workers"):
        checked_processes(500, 2)
    with pytest.raises(UserError) as error:
        checked_processes(most + 1)
    for said in (f"{most + 1} workers", f"{cores} cores", f"up to {most} ", "--nproc"):
        assert said in str(error.value)
    with pytest.raises(UserError) as error:
        checked_processes(most + 1, has_nproc=False)
    assert "--nproc" not in str(error.value)
