"""Runs of many workers, whose rows are kept as columns: the same figures as those of all rows."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from support.command_line import Bandwise

from sim.figures.evaluation import Figures, figures
from sim.records.scenario import Scenario
from sim.runtime import TooLarge, limits, simulate
from sim.scenario import load
from sim.trace import files as trace_files
from sim.trace.classes import by_class, class_of
from sim.trace.packed import PackedRows
from sim.trace.table import COLUMNS, Trace

WORKERS = 500


def unequal(tmp_path: Path, workers: int, *settings: str, method: str = "diloco") -> Scenario:
    """Sites of five workers with speeds, links and jitter of their own."""
    sites = "".join(
        f'[[site]]\nname = "place {n}"\nworkers = 5\nstep_time = "{1 + n % 7 / 10} s"\n'
        f'uplink = "{1 + n % 11} Gbit/s"\njitter = "lognormal:0.05"\n'
        for n in range(workers // 5)
    )
    head = f"""
    run.rounds = 6
    model = {{ parameters = "1B", layers = 4 }}
    method.name = "{method}"
    network.collective.algorithm = "hierarchical"
    network.first_collective_time = "3 s"
    """
    file = tmp_path / "sites.toml"
    file.write_text(head + sites)
    return load(file, {}, settings)


def both(scenario: Scenario, monkeypatch: pytest.MonkeyPatch, rounds: int = 6) -> list[Trace]:
    """Return a run whose rows are objects, and the same one whose rows are columns."""
    found = []
    for packed_from in (10**6, 2):
        monkeypatch.setattr(limits, "PACKED_FROM", packed_from)
        found.append(simulate(scenario, rounds=rounds))
    assert isinstance(found[0].rows, list)
    assert isinstance(found[1].rows, PackedRows)
    return found


def same(a: Figures, b: Figures) -> None:
    assert repr(a) == repr(b)


def test_figures_of_columns_are_those_of_all_rows_on_500_workers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole, columns = both(unequal(tmp_path, WORKERS, "method.sync_every=10"), monkeypatch)
    same(figures(whole), figures(columns))
    for window in (whole.context.window, None):
        assert window == columns.context.window


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("ddp", []),
        ("diloco", ["method.exchange=bucket", "method.bucket_bytes=500000000"]),
        ("streaming_diloco", ["method.overlap=layer", "method.sync_every=8"]),
        ("eager_diloco", []),
        ("acco", []),
        ("diloco", ["method.comm_dtype=int8"]),
        ("diloco", ["method.control_round_trips=2"]),
        ("local_sgd", ["run.start_skew=10ms"]),
        ("streaming_diloco", ["method.num_fragments=2", "method.fragment_sync_delay=2"]),
    ],
    ids=str,
)
def test_figures_and_rows_agree_for_every_kind_of_program(
    method: str, settings: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scenario = unequal(tmp_path, 10, *settings, method=method)
    monkeypatch.setattr("sim.trace.packed._AT_ONCE", 64)
    whole, columns = both(scenario, monkeypatch, rounds=4)
    same(figures(whole), figures(columns))
    assert whole.sequence() == columns.sequence()
    assert whole.frame().equals(columns.frame())


def test_the_rows_of_any_worker_can_be_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole, columns = both(unequal(tmp_path, 20), monkeypatch)
    for rank in (0, 7, 19):
        of_rank = whole.frame().query("rank == @rank").reset_index(drop=True)
        rows = columns.rows_of(rank)
        found = pd.DataFrame({name: [getattr(row, name) for row in rows] for name in COLUMNS})
        assert found.equals(of_rank.astype(found.dtypes))


def test_the_limit_of_rows_holds_for_columns_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(limits, "MOST_ROWS", 100)
    monkeypatch.setattr(limits, "PACKED_FROM", 2)
    with pytest.raises(TooLarge, match="passed 1000 operations"):
        simulate(unequal(tmp_path, 20), rounds=20)


def test_the_trace_by_class_has_what_its_workers_did(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole, columns = both(unequal(tmp_path, 20), monkeypatch)
    table = by_class(columns)
    assert table.equals(by_class(whole))
    rows = whole.frame()
    rows["class"] = [f"place {rank // 5}" for rank in rows["rank"]]
    assert table["workers"].sum() == len(rows)
    steps = rows[rows["operation"] == "inner_step"]
    found = table[table["operation"] == "inner_step"]
    assert len(found) == 4 * 6
    for name, group in steps.groupby("class"):
        own = found[found["class"] == name]
        assert own["end_most_s"].max() == group["end_s"].max()
        assert own["begin_least_s"].min() == group["begin_s"].min()
        assert own["work_s"].mean() == pytest.approx(group["work_s"].mean())


def test_classes_of_many_sites_are_tenths_by_speed(tmp_path: Path) -> None:
    sites = "".join(f'[[site]]\nstep_time = "{1 + n % 40} s"\n' for n in range(120))
    (tmp_path / "many.toml").write_text(f'model.parameters = "1B"\nmethod.name = "diloco"\n{sites}')
    trace = simulate(load(tmp_path / "many.toml"), rounds=1)
    classes = class_of(trace)
    assert [classes.count(f"tenth {n}") for n in range(1, 11)] == [12] * 10
    assert {classes[rank] for rank in (0, 40, 80)} == {"tenth 1"}


def test_a_trace_of_some_workers_can_be_read_back(
    bandwise: Bandwise, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(limits, "PACKED_FROM", 2)
    unequal(tmp_path, 20)
    file, out = str(tmp_path / "sites.toml"), tmp_path / "some.parquet"
    quick = ("--replications", "1", "--set", "method.sync_every=2")
    done = bandwise("simulate", file, *quick, "--trace", str(out), "--trace-ranks", "3,7")
    assert done.status == 0, done.err
    trace = trace_files.load(out)
    assert set(trace.frame()["rank"]) == {3, 7}
    by_classes = bandwise("simulate", file, *quick, "--trace", str(tmp_path / "all.csv"))
    assert by_classes.status == 0
    assert "by class of the 20 workers" in by_classes.err
    timeline = bandwise("simulate", file, *quick, "--trace", str(tmp_path / "a.json"))
    assert timeline.status == 2
    assert "name some of them with --trace-ranks" in timeline.err
    assert timeline.out
    wrong = bandwise("simulate", file, "--trace", str(out), "--trace-ranks", "3,20")
    assert '"20" is no worker; they are 0 to 19' in wrong.err
