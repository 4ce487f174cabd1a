"""Studies whose results are streamed to parts, on this machine and on other engines."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.command_line import Bandwise

from sim.processes.engines import EngineError, engine
from sim.questions import streamed_study
from sim.questions.streamed_study import stream
from sim.questions.study import run
from sim.questions.study_folder import StudyError
from sim.scenario import ScenarioError, Study, load_study, sweep
from sim.scenario.cases import GeneratedCases
from sim.storage.files import DamagedError

OPTIONS = {"--model": "1B", "--method": "diloco"}
OVER = ["bandwidth=0.1..10Gbit/s:5", "sync_every=10,20", "rtt=1,50ms"]  # 20 points


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed_study, "RUNS_OF_A_PART", 8)
    monkeypatch.setattr(streamed_study, "_RUNS_OF_A_TASK", 3)


def generated() -> Study:
    return sweep(None, OPTIONS, [], OVER, generated=True)


def parts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def here(function: Callable[[Any], Any], items: Any) -> Iterator[Any]:
    return map(function, items)


def reversed_in_fours(function: Callable[[Any], Any], items: Any) -> Iterator[Any]:
    """Results in another order, as an engine gives them."""
    waiting = []
    for item in items:
        waiting.append(pickle.loads(pickle.dumps(item)))
        if len(waiting) == 4:
            yield from map(function, reversed(waiting))
            waiting = []
    yield from map(function, reversed(waiting))


def test_generated_cases_are_those_that_are_held() -> None:
    held, made = sweep(None, OPTIONS, [], OVER), generated()
    assert isinstance(made.combinations, GeneratedCases)
    assert [case.labels for case in made.combinations] == [case.labels for case in held.cases()]
    assert [case.scenario.sha256 for case in made.combinations] == [
        case.scenario.sha256 for case in held.cases()
    ]
    assert made.combinations[-1].labels == held.combinations[-1].labels


def test_what_is_wrong_with_a_point_is_said_before_anything_runs() -> None:
    with pytest.raises(ScenarioError, match="sync_every"):
        sweep(None, OPTIONS, [], ["sync_every=10,0", "rtt=1,50ms"], generated=True)


def test_parts_hold_the_rows_of_a_study_that_is_run_at_once(tmp_path: Path) -> None:
    whole = run(sweep(None, OPTIONS, [], OVER))
    assert stream(generated(), tmp_path / "parts", here) == 20
    read = [pd.read_parquet(path) for path in sorted((tmp_path / "parts").glob("*.parquet"))]
    assert [len(part) for part in read] == [8, 8, 4]
    assert pd.concat(read, ignore_index=True).equals(whole)


def test_the_order_in_which_results_come_changes_no_byte(tmp_path: Path) -> None:
    stream(generated(), tmp_path / "a", here)
    stream(generated(), tmp_path / "b", reversed_in_fours)
    with engine("local", jobs=2) as two:
        stream(generated(), tmp_path / "c", two)
    assert parts(tmp_path / "a") == parts(tmp_path / "b") == parts(tmp_path / "c")


class Stopped(Exception):
    pass


def test_an_interrupted_study_resumes_on_another_engine(tmp_path: Path) -> None:
    stream(generated(), tmp_path / "whole", here)

    def stop(done: int, total: int) -> None:
        if done > 12:
            raise Stopped

    with pytest.raises(Stopped):
        stream(generated(), tmp_path / "stopped", here, stop)
    before = parts(tmp_path / "stopped")
    assert list(before) == ["part-000000.parquet"]
    told: list[str] = []
    computed = []

    def counted(function: Callable[[Any], Any], items: Any) -> Iterator[Any]:
        for item in items:
            computed.append(item.end - item.begin)
            yield function(item)

    stream(generated(), tmp_path / "stopped", counted, tell=told.append)
    assert sum(computed) == 12
    assert "holds 8 finished runs of 20" in told[0]
    assert parts(tmp_path / "stopped") == parts(tmp_path / "whole")


def test_items_are_handed_out_as_results_come(tmp_path: Path) -> None:
    """Neither cases nor results pile up: with many more runs as much is under way."""
    under_way: list[int] = []

    def three_ahead(function: Callable[[Any], Any], items: Any) -> Iterator[Any]:
        taken = iter(items)
        waiting = [next(taken) for _ in range(3)]
        while waiting:
            under_way.append(len(waiting))
            yield function(waiting.pop(0))
            waiting += [item for item in [next(taken, None)] if item is not None]

    stream(generated(), tmp_path, three_ahead)
    assert max(under_way) == 3


def test_a_grid_is_streamed_too(tmp_path: Path) -> None:
    study = load_study("streaming_diloco_table4")

    few = replace(study, combinations=study.combinations[:2], grid=(1e8, 1e9, 1e10))
    stream(few, tmp_path, reversed_in_fours)
    frame = pd.concat([pd.read_parquet(path) for path in sorted(tmp_path.glob("*.parquet"))])
    assert frame.reset_index(drop=True).equals(run(few))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda path: path.write_bytes(b"no table"), StudyError, "is no part of a study"),
        (lambda path: (path.parent / "results.csv").touch(), StudyError, "without --backend"),
    ],
    ids=["other file", "other study"],
)
def test_a_folder_of_something_else_is_refused(
    change: Callable[[Path], Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    stream(generated(), tmp_path, here)
    change(tmp_path / "part-000001.parquet")
    with pytest.raises(error, match=message):
        stream(generated(), tmp_path, here)


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    stream(generated(), tmp_path, here)
    path = tmp_path / "part-000001.parquet"
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises((DamagedError, StudyError), match="part-000001"):
        stream(generated(), tmp_path, here)


def test_parts_of_another_study_are_refused(tmp_path: Path) -> None:
    stream(generated(), tmp_path, here)
    other = sweep(None, {**OPTIONS, "--model": "10B"}, [], OVER, generated=True)
    with pytest.raises(StudyError, match=r"part-000000\.parquet: is of another study"):
        stream(other, tmp_path, here)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--address", "a:1"], "--address: goes with --backend dask or --backend ray"),
        (["--backend", "dsk", "--out", "o"], 'unknown "dsk"; did you mean "dask"?'),
        (["--backend", "dask", "--out", "o"], "needs --address"),
        (["--backend", "local"], "needs --out"),
        (["--backend", "local", "--out", "o", "--html", "a.html"], "--html: goes without"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together_are_refused(
    options: list[str], message: str, bandwise: Bandwise
) -> None:
    done = bandwise("sweep", "--model", "1B", "--over", "rtt=1,2ms", *options)
    assert done.status == 2
    assert message in done.err
    assert "Traceback" not in done.err


def test_parts_and_a_table_share_no_folder(bandwise: Bandwise, tmp_path: Path) -> None:
    asked = ("sweep", "--model", "1B", "--over", "rtt=1,2ms", "--out", tmp_path)
    assert bandwise(*asked, "--backend", "local", "--jobs", "1").status == 0
    again = bandwise(*asked, "--backend", "local", "--jobs", "1")
    assert "holds 2 finished runs of 2; nothing is left to compute" in again.err
    refused = bandwise(*asked)
    assert refused.status == 2
    assert "holds part-000000.parquet of a study that was run with --backend" in refused.err
    assert [path.name for path in tmp_path.glob("*")] == ["part-000000.parquet"]


def test_a_dask_cluster_gives_the_same_bytes_and_loses_nothing_with_a_worker(
    tmp_path: Path,
) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
    stream(generated(), tmp_path / "here", here)
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=False,
            protocol="tcp://",
            dashboard_address=None,
            host="127.0.0.1",
        ) as cluster,
        engine("dask", cluster.scheduler_address) as dask,
    ):
        lost = []

        def lose(done: int, total: int) -> None:
            if done >= 8 and not lost:
                lost.append(cluster.scale(1))

        stream(generated(), tmp_path / "dask", dask, lose)
    assert lost
    assert parts(tmp_path / "here") == parts(tmp_path / "dask")


def test_a_scheduler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    monkeypatch.setattr("sim.processes.engines._PATIENCE_S", 0.3)
    with (
        pytest.raises(EngineError, match=r'no Dask scheduler answers at "tcp://127.0.0.1:9"'),
        engine("dask", "tcp://127.0.0.1:9"),
    ):
        pass
