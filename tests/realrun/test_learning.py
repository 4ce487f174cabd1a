"""The learning benchmark's statistics and report; nothing is trained here."""

from __future__ import annotations

import sys
from dataclasses import replace
from math import isnan, sqrt
from pathlib import Path
from statistics import stdev

import pytest

from sim.scenario import load

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import learning
import learning_plan as plan
from learning_report import experiments_table, smoothed, summarise, table
from learning_results import Row, add, read
from learning_statistics import Claim, Interval, difference, t_quantile, verdict


def row(configuration: str, seed: int, loss: float, workers: int = 2) -> Row:
    return Row(
        key=f"{configuration}-{workers}-{seed}",
        configuration=configuration,
        method="ddp" if configuration == "ddp" else "diloco",
        arguments="",
        workers=workers,
        seed=seed,
        learning_rate=0.001,
        held_out_loss=loss,
        trained_tokens=4096.0,
        tokens_per_update=512.0,
        seconds=1.0,
        curve=(3.0, 2.5, 2.25),
    )


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423)],
)
def test_quantiles_are_those_of_the_tables(freedom: int, expected: float) -> None:
    assert t_quantile(freedom) == pytest.approx(expected, abs=5e-5)


def test_quantile_with_one_degree_of_freedom_is_the_cauchy_distributions() -> None:
    assert t_quantile(1, 0.5) == pytest.approx(1)


def test_interval_is_students() -> None:
    values = [1.0, 2.0, 4.0]
    found = Interval.of(values)
    assert found.mean == pytest.approx(7 / 3)
    assert found.high - found.mean == pytest.approx(4.302653 * stdev(values) / sqrt(3), rel=1e-6)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_one_value_has_no_interval() -> None:
    found = Interval.of([2.0])
    assert isnan(found.low)
    assert isnan(found.high)
    assert found.written() == "2.000 (one seed)"


def test_differences_are_paired_by_seed() -> None:
    rows = [row("ddp", seed, 2 + seed) for seed in range(3)]
    rows += [row("diloco", seed, 2.5 + seed) for seed in (0, 2, 7)]
    found = difference(rows, "diloco", "ddp", 2)
    assert found is not None
    assert found.count == 2
    assert found.mean == found.low == found.high == 0.5
    assert difference(rows, "diloco", "ddp", 4) is None


@pytest.mark.parametrize(
    ("relation", "low", "high", "expected"),
    [
        ("near", -0.5, 0.019, "agrees"),
        ("near", 0.019, 0.021, "open"),
        ("near", 0.021, 0.5, "differs"),
        ("worse", 0.001, 0.5, "agrees"),
        ("worse", -0.001, 0.5, "open"),
        ("worse", -0.5, -0.001, "differs"),
    ],
)
def test_the_interval_decides(relation: str, low: float, high: float, expected: str) -> None:
    claim = Claim("", relation, "ddp")  # type: ignore[arg-type]
    found = Interval((low + high) / 2, low, high, 3)
    assert verdict(claim, found, reference=2.0) == expected


def test_one_seed_decides_nothing() -> None:
    claim = Claim("", "worse", "ddp")
    assert verdict(claim, Interval.of([0.5]), 2.0) == "too few seeds"
    assert verdict(claim, None, 2.0) == "too few seeds"


def test_table_has_what_was_run() -> None:
    rows = [row("ddp", seed, 2.0 + 0.1 * seed) for seed in range(3)]
    rows += [row("diloco", seed, 2.001 + 0.1 * seed) for seed in range(3)]
    claims = {"ddp": None, "diloco": Claim("near ddp", "near", "ddp"), "acco": None}
    lines = table(rows, claims, 2).splitlines()
    assert len(lines) == 4
    assert lines[-1].endswith("| agrees |")
    assert "+0.001 [+0.001, +0.001]" in lines[-1]
    assert len({line.count("|") for line in lines}) == 1


def test_smoothing_keeps_constants_and_averages_what_there_is() -> None:
    assert smoothed([2.0] * 7) == [2.0] * 7
    assert smoothed([1.0, 2.0, 6.0], reach=1) == [1.5, 3.0, 4.0]


def test_every_run_takes_the_same_tokens_in_whole_rounds() -> None:
    for run in plan.planned(plan.CONFIGURATIONS, 1):
        scenario = load(str(plan.BASE), {}, run.assignments)
        tokens = scenario.horizon_tokens
        share = run.configuration.batches_per_update
        assert scenario.tokens_per_step * share == plan.BATCH_TOKENS
        assert tokens == load(str(plan.BASE)).horizon_tokens
        assert tokens is not None
        assert tokens % (plan.BATCH_TOKENS * plan.SYNC_EVERY) == 0
        assert len(scenario.workers) == run.workers


def test_every_run_has_a_key_of_its_own_which_changes_with_its_settings() -> None:
    runs = plan.planned(plan.CONFIGURATIONS, 2)
    assert len({run.key for run in runs}) == len(runs)
    assert replace(runs[0], learning_rate=0.5).key != runs[0].key
    assert replace(runs[0]).key == runs[0].key


def test_experiments_have_keys_of_their_own() -> None:
    runs = plan.experiments()
    assert len({run.key for run in runs}) == len(runs)
    one = next(run for run in runs if run.configuration.late_share)
    assert replace(one, configuration=replace(one.configuration, late_share=0.25)).key != one.key
    one = next(run for run in runs if run.after)
    assert replace(one, after=None).key != one.key


def test_what_starts_trained_is_compared_with_what_starts_alike(tmp_path: Path) -> None:
    cold = [row(name, seed, 2.0 + seed) for name in ("ddp", "diloco", "eager") for seed in (0, 1)]
    rows = [row(f"diloco{plan.STARTED}", seed, 1.0 + seed) for seed in (0, 1)]
    rows += [row(f"eager{plan.STARTED}", seed, 1.25 + seed) for seed in (0, 1)]
    rows += [row(f"{plan.ALONE}{share}", 0, 3.0 + share, 1) for share in (0, 0.5)]
    lines = experiments_table(rows, cold).splitlines()
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    found = {line.split(" | ")[0][2:]: line.split(" | ")[6:8] for line in lines if " | " in line}
    assert found[f"eager{plan.STARTED}"] == ["-", "+0.250 [+0.250, +0.250]"]
    assert found[f"diloco{plan.STARTED}"] == ["-", "-"]
    assert found[f"{plan.ALONE}0.5"] == ["-", "+0.500 (one seed)"]
    assert found[f"{plan.ALONE}0"] == ["-", "-"]


def test_the_first_runs_are_a_comparison() -> None:
    count = len(plan.CONFIGURATIONS)
    first = plan.planned(plan.CONFIGURATIONS, 3)[: count * len(plan.WORKERS)]
    assert {run.seed for run in first} == {0}
    assert {run.configuration.name for run in first} == {c.name for c in plan.CONFIGURATIONS}


def test_claims_name_configurations() -> None:
    names = {configuration.name for configuration in plan.CONFIGURATIONS}
    for configuration in plan.CONFIGURATIONS:
        if configuration.claim is not None:
            assert configuration.claim.than in names - {configuration.name}


def test_fp4_is_compared_with_what_differs_in_the_type_alone() -> None:
    by_name = {configuration.name: configuration for configuration in plan.CONFIGURATIONS}
    quantized = [c for c in plan.CONFIGURATIONS if c.arguments.get("comm_dtype") == "fp4"]
    assert quantized
    for one in quantized:
        assert one.claim is not None
        other = by_name[one.claim.than]
        assert {**one.arguments, "comm_dtype": "bf16"} == other.arguments
        assert one.method == other.method


def test_results_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    rows = [row("ddp", 0, 2.0625), row("diloco", 1, 2.125, workers=4)]
    for each in rows:
        add(path, each)
    assert read(path) == rows
    assert [file.name for file in tmp_path.iterdir()] == ["results.csv"]


def test_a_finished_run_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = plan.planned(plan.CONFIGURATIONS[:2], 1)
    made: list[str] = []

    def train(run: plan.Planned) -> Row:
        made.append(run.key)
        if run is runs[1] and made.count(run.key) == 1:
            raise RuntimeError(f"{run}: no memory")
        found = row(run.configuration.name, run.seed, 2.0, run.workers)
        return replace(found, key=run.key)

    monkeypatch.setattr(learning, "train", train)
    path = tmp_path / "results.csv"
    assert not learning.make(runs, path, jobs=1)
    assert "no memory" in capsys.readouterr().err
    assert learning.make(runs, path, jobs=1)
    assert sorted(made) == sorted([run.key for run in runs] + [runs[1].key])


def test_summary_says_what_is_missing(tmp_path: Path) -> None:
    runs = plan.planned(plan.CONFIGURATIONS, 2)
    for run in runs[:5]:
        found = row(run.configuration.name, run.seed, 2.0, run.workers)
        add(tmp_path / "results.csv", replace(found, key=run.key))
    add(tmp_path / "results.csv", row("ddp", 0, 9.0))  # of other settings
    summarise(tmp_path, 2)
    text = (tmp_path / "summary.md").read_text()
    assert f"{len(runs) - 5} of {len(runs)} runs are missing" in text
    assert "dpu (4, seed 1)" in text
    assert "9.000" not in text
    assert (tmp_path / "curves.png").stat().st_size > 0
    assert (tmp_path / "differences.png").stat().st_size > 0


def test_kept_results_are_those_of_the_plan() -> None:
    """A key that is written into the base file must be written into the results' keys as well."""
    plans = {
        "results.csv": plan.planned(plan.CONFIGURATIONS, seeds=3),
        "experiments.csv": plan.experiments(),
        "pilot.csv": plan.pilot(),
    }
    for name, planned in plans.items():
        kept = {each.key for each in read(plan.BASE.parent / name)}
        assert kept == {each.key for each in planned}, name
