from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from sim import study as studies
from sim.scenario import load_study, sweep
from sim.study import StudyError, run

OPTIONS = {"--model": "1B", "--sync-every": "10"}


def small(points: int = 6) -> studies.Study:
    return sweep(None, OPTIONS, [], [f"bandwidth=0.1..10Gbit/s:{points}", "num_fragments=2,4"])


def test_results_are_tidy_and_the_same_in_any_number_of_processes(tmp_path: Path) -> None:
    one = run(small(), tmp_path / "one", jobs=1)
    two = run(small(), tmp_path / "two", jobs=2)
    assert one.equals(two)
    names = list(one.columns)
    assert names[: names.index("schema")] == [
        "method.num_fragments",
        "network.bandwidth_bytes_per_s",
    ]
    assert len(one) == 12
    for name in ("results.csv", "results.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


class Interrupted(Exception):
    pass


def test_an_interrupted_study_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "_CHUNK", 1)
    whole = run(small(), tmp_path / "whole")

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(small(), tmp_path / "stopped", on_progress=stop)
    log = tmp_path / "stopped" / "progress.jsonl"
    log.write_text(log.read_text() + '[5, [{"half a li')  # cut off in the middle of a line

    simulated = []
    real = studies.predicted
    monkeypatch.setattr(studies, "predicted", lambda s: simulated.append(s) or real(s))
    resumed = run(small(), tmp_path / "stopped")
    assert len(simulated) == 12 - 5
    assert resumed.equals(whole)
    assert not log.exists()


def test_the_progress_of_another_study_is_not_taken_up(tmp_path: Path) -> None:
    log = tmp_path / "progress.jsonl"
    log.write_text(json.dumps({"study_sha256": "0" * 64}) + "\n")
    with pytest.raises(StudyError, match="holds the progress of another study") as caught:
        run(small(), tmp_path)
    assert "\n" not in str(caught.value)
    assert log.exists()


def test_a_method_of_the_users_own_runs_in_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_for_study.py").write_text(
        textwrap.dedent(
            """
            def half(worker, *, sync_every: int = 10):
                layers = range(0, worker.model.num_layers, 2)
                while worker.next_round(steps=sync_every):
                    yield worker.compute(worker.model.inner_step, times=sync_every)
                    yield worker.all_reduce(worker.model.delta(layers), "bf16")
            """
        )
    )
    monkeypatch.chdir(tmp_path)
    varied = sweep(
        None,
        {"--model": "1B", "--method": "mine_for_study:half"},
        [],
        ["bandwidth=0.1..10Gbit/s:6"],
    )
    monkeypatch.setattr(studies, "_CHUNK", 3)
    frame = run(varied, tmp_path / "out", jobs=2)
    assert len(frame) == 6
    assert frame["compute_utilization_fraction"].is_monotonic_increasing


def test_fifteen_rows_in_one_file() -> None:
    study = load_study("streaming_diloco_table4")
    assert len(study.cases()) == 15
    assert len(study.grid) == 50
