from __future__ import annotations

import json
import os
import signal
import tempfile
import textwrap
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command_line import Bandwise

from sim.questions import study as studies
from sim.questions import study_folder
from sim.questions.study import StudyError, run
from sim.scenario import load_study, sweep
from sim.storage.files import DamagedError
from sim.storage.locks import LockedError, locked

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
    log.write_text(log.read_text() + '{"task": 5, "rows": [{"half a li')  # cut off in the middle

    simulated = []
    real = studies.predicted
    monkeypatch.setattr(studies, "predicted", lambda s: simulated.append(s) or real(s))
    resumed = run(small(), tmp_path / "stopped")
    assert len(simulated) == 12 - 5
    assert resumed.equals(whole)
    for name in ("results.csv", "results.parquet"):
        assert (tmp_path / "stopped" / name).read_bytes() == (
            tmp_path / "whole" / name
        ).read_bytes()
    assert not log.exists()


def test_the_progress_of_another_study_is_not_taken_up(tmp_path: Path) -> None:
    log = tmp_path / "progress.jsonl"
    log.write_text(json.dumps({"study_sha256": "0" * 64}) + "\n")
    with pytest.raises(StudyError, match="holds the progress of another study") as caught:
        run(small(), tmp_path)
    assert "\n" not in str(caught.value)
    assert log.exists()


def refused(study: studies.Study, out: Path, error: type[Exception] = StudyError) -> str:
    """What is said instead of computing; the folder stays as it was."""
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(error) as caught:
        run(study, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_finished_results_of_the_same_study_are_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(small(2), tmp_path)
    csv = (tmp_path / "results.csv").read_bytes()
    (tmp_path / "results.csv").unlink()
    monkeypatch.setattr(studies, "predicted", None)  # nothing is computed
    lines: list[str] = []
    again = run(small(2), tmp_path, tell=lines.append)
    assert again.equals(first)
    assert (tmp_path / "results.csv").read_bytes() == csv
    (line,) = lines
    assert "nothing is computed again" in line


def test_the_results_of_another_study_are_refused(tmp_path: Path) -> None:
    run(small(2), tmp_path)
    (tmp_path / "utilization.png").write_text("a picture")
    text = refused(small(3), tmp_path)
    assert "results.parquet: holds the results of another study" in text
    assert "choose another --out" in text


def test_the_results_of_another_version_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(small(2), tmp_path)
    monkeypatch.setattr(study_folder, "_simulator", lambda: b"another text")
    assert "of this study by another version of the program" in refused(small(2), tmp_path)


@pytest.mark.parametrize("name", ["results.csv", "utilization.svg"])
def test_files_of_a_study_that_is_not_known_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("something")
    assert f"holds {name} of a study that is not known" in refused(small(2), tmp_path)


def test_results_that_another_program_wrote_are_refused(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "results.parquet")
    assert "does not say of which study it is" in refused(small(2), tmp_path)


def test_damaged_results_are_refused_with_the_column(tmp_path: Path) -> None:
    run(small(2), tmp_path)
    path = tmp_path / "results.parquet"
    table = pq.read_table(path)
    about = table.schema.metadata
    frame = table.to_pandas()
    frame.loc[1, "wall_clock_s"] += 1.0
    changed = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(changed.replace_schema_metadata(about), path)
    text = refused(small(2), tmp_path, DamagedError)
    assert "results.parquet: damaged: column wall_clock_s is not as it was written" in text


def test_results_that_are_used_again_are_whole_to_the_byte(tmp_path: Path) -> None:
    """Also where a bit was flipped that no value depends on: others may read it."""
    first = run(small(2), tmp_path)
    path = tmp_path / "results.parquet"
    whole, used = path.read_bytes(), 0
    for place in range(0, len(whole), 499):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with suppress(StudyError, DamagedError):
            assert run(small(2), tmp_path).equals(first)
            assert path.read_bytes() == whole
            used += 1
    assert used


def test_a_damaged_line_of_the_progress_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(small(2), tmp_path, on_progress=stop)
    log = tmp_path / "progress.jsonl"
    lines = log.read_text().splitlines()
    lines[2] = lines[2].replace("1B", "2B").replace('"rows": [', '"rows": [ ')
    log.write_text("\n".join(lines) + "\n")
    assert "progress.jsonl: line 3 is damaged" in refused(small(2), tmp_path, DamagedError)


def test_a_folder_is_one_commands_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(LockedError, match="in use by process"):
        run(small(2), tmp_path)


def test_a_study_without_a_folder_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert len(run(small(2))) == 4
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_full_is_told_with_both_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_folder, "free_bytes", lambda path: 1000)
    text = refused(small(2), tmp_path)
    assert "4 runs need about 0.016 MB there, and 0.001 MB are free" in text


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are found in /proc")
def test_a_killed_worker_is_one_line_and_keeps_what_was_finished(tmp_path: Path) -> None:
    def kill_a_worker(done: int, total: int) -> None:
        if done == 1:
            for child in children():
                os.kill(child, signal.SIGKILL)

    # Of four pieces of work two are handed out: however late the killing is, two are missing.
    with pytest.raises(StudyError) as caught:
        run(small(16), tmp_path, jobs=2, on_progress=kill_a_worker)
    text = str(caught.value)
    assert "was ended by SIGKILL; the system may have run out of memory; the same" in text
    assert "smaller --jobs" in text
    lines: list[str] = []
    run(small(16), tmp_path, tell=lines.append)
    assert "finished runs of 32; the others are computed" in lines[0]
    assert not children()


def children() -> list[int]:
    """The processes of ours that :mod:`sim.processes.parallel` has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if (
                parent == os.getpid()
                and b"sim.processes.parallel" in (status.parent / "cmdline").read_bytes()
            ):
                found.append(int(status.parent.name))
    return found


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


def test_what_is_varied_was_not_assumed_and_methods_have_their_own(bandwise: Bandwise) -> None:
    asked = ("--model", "1B", "--over", "rtt=10ms,100ms", "--over", "method=ddp,diloco")
    found = bandwise("sweep", *asked, "--steps", "100", "--jobs", "1", "--json").json
    assert "network.rtt" not in found["assumed"]
    assert "method.name" not in found["assumed"]
    assert found["assumed"]["network.bandwidth"] == "1 Gbit/s"
    own = found["assumed_of_methods"]
    assert own["ddp"]["zero1"] == "false"
    assert own["diloco"]["sync_every"] == "100"
    assert "sync_every" not in own["ddp"]
