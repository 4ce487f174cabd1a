"""Runs of many workers, whose rows are kept as columns: the same figures as those of all rows."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from sim.figures.evaluation import Figures, figures
from sim.runtime import TooLarge, limits, simulate
from sim.scenario import load
from sim.scenario.records import Scenario
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
