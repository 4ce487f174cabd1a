"""The measured runs that the repository keeps, predicted again: a change must not lose them."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

pytest.importorskip("torch")

from realrun.validation import archive as archives
from realrun.validation import pictures, run
from realrun.validation.archive import Archive, about, belongs, trace_file
from realrun.validation.collect import rows
from realrun.validation.configurations import configurations
from realrun.validation.plan import Planned, planned
from realrun.validation.predict import BASELINES, predict
from realrun.validation.report import findings, report
from realrun.validation.rows import checked, load
from realrun.validation.run import validate
from realrun.validation.timelines import chosen
from sim.questions import replications
from sim.records.identity import SCHEMA
from sim.runtime import simulate
from sim.scenario import Scenario, ScenarioError, Study, load_study
from sim.storage import journal
from sim.text.visible import visible
from sim.trace.files import save
from sim.trace.table import Trace

LAB = Path(__file__).parents[2] / "validation" / "lab"


@pytest.fixture(scope="module")
def study() -> Study:
    return load_study(LAB / "study.toml")


@pytest.fixture(scope="module")
def plan(study: Study) -> list[Planned]:
    return planned(study)


def test_paced_runs_in_the_lab_are_still_foretold(study: Study, plan: list[Planned]) -> None:
    """The study's own tolerance, on the configurations that really wait."""
    assert study.validation is not None
    assert study.validation.informative is not None
    archive = Archive(LAB)
    by_number = {each.number: each for each in plan}
    assert all(belongs(by_number[number], kept) for (number, _), kept in archive.records.items())

    paced = [each for each in plan if each.mode == "paced"]
    measured = archive.measured(paced, study.validation.repeats)
    found = checked(rows(measured, predict(measured, baselines=())))
    published = load(LAB / "report.csv")
    published = published[published["compute_mode"] == "paced"].reset_index(drop=True)
    others = [*(f"{name}_s" for name in BASELINES), "other_calibration_s"]
    # On another processor a sum may be rounded in another order.
    pd.testing.assert_frame_equal(
        found.drop(columns=others), published.drop(columns=others), rtol=1e-9
    )
    table = configurations(found, study.validation.informative.communication_above)
    waits = table[table["informative"]]
    error = (waits["predicted_s"] / waits["measured_s"] - 1).abs()
    exposed = (waits["predicted_exposed_s"] / waits["measured_exposed_s"] - 1).abs()
    limits = study.validation.tolerances["paced"]
    assert len(waits) >= len(paced) / 2
    assert error.median() <= limits["wall_clock"]["median"]
    assert error.quantile(0.95) <= limits["wall_clock"]["p95"]
    assert exposed.median() <= limits["exposed_communication"]["median"]


def test_kept_runs_are_found_by_the_hash_of_their_schema(plan: list[Planned]) -> None:
    """A record without a schema was hashed under schema 0; a new one says which it has."""
    (number, _), kept = next(iter(Archive(LAB).records.items()))
    each, other = plan[number], plan[(number + 1) % len(plan)]
    assert "sha256_schema" not in kept
    assert belongs(each, kept)
    assert not belongs(replace(each, case=other.case), kept)
    now = {**kept, "sha256": each.case.sha256, "sha256_schema": SCHEMA}
    assert belongs(each, now)
    assert not belongs(each, {**now, "sha256": kept["sha256"]})


def test_the_kept_report_is_what_its_table_says_to_the_byte(
    study: Study, plan: list[Planned], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(run, "rows", lambda *_: load(LAB / "report.csv"))
    monkeypatch.setattr(run, "write", lambda *arguments: given.extend(arguments[:-2]))
    archive = Archive(LAB)
    run.report(study, plan, archive, [], [], chosen(plan, archive))
    assert visible(report(findings(*given))) == (LAB / "report.md").read_text()


def test_a_report_reads_its_archive_once_and_simulates_nothing_twice(
    study: Study, plan: list[Planned], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timelines show the very simulation that the table's figures are of."""
    two = [plan[17], plan[22]]
    calibrated = "calibration-2-launch-1.toml"
    (tmp_path / calibrated).write_text((LAB / calibrated).read_text())
    lines = (LAB / "runs.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["run"] in (17, 22)]
    (tmp_path / "runs.jsonl").write_text("".join(kept))
    trace = simulate(two[0].scenario)
    path = trace_file(tmp_path, two[0])
    path.parent.mkdir()
    save(Trace(trace.rows, replace(trace.context, measured=True), trace.total_s), path)

    simulations: Counter[tuple[str, int]] = Counter()
    read: Counter[str] = Counter()

    def counted(scenario: Scenario, **options: Any) -> Trace:
        simulations[scenario.sha256, scenario.replication] += 1
        return simulate(scenario, **options)

    def read_journal(path: Path) -> Any:
        read[path.name] += 1
        return records(path)

    def read_toml(path: Path, label: str) -> Any:
        read[path.name] += 1
        return toml(path, label)

    records, toml = journal.read, archives.read_toml
    monkeypatch.setattr(replications, "simulate", counted)
    monkeypatch.setattr(journal, "read", read_journal)
    monkeypatch.setattr(archives, "read_toml", read_toml)
    monkeypatch.setattr(pictures, "save", lambda *_: None)
    assert validate(study, two, tmp_path, None, None) is not None
    assert read == Counter(["runs.jsonl", calibrated])
    assert set(simulations.values()) == {1}
    # Seven replications at least of each, and the two simpler models.
    assert len(simulations) >= 2 * (7 + 2)
    method = two[0].scenario.method.name
    assert (tmp_path / f"timeline-{method}.png").exists()
    assert len(load(tmp_path / "report.csv")) == len(kept)


@pytest.mark.parametrize(
    ("line", "instead", "says"),
    [
        ("cores = 2", "cores = 0", "calibration.cores: 0: "),
        ("cores = 2", "", "calibration.cores: missing"),
        ('device = "CPU"', "device = 3", "calibration.device: 3: "),
        ("workers = 2", "workers = " + "9" * 5000, "holds an integer of more digits"),
        ("[calibration]", "[calibrated]", "calibration"),
        ("[calibration]", "[calibration", "not valid TOML"),
    ],
)
def test_a_damaged_calibration_is_refused_with_its_key(
    line: str, instead: str, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "calibration-2-launch-1.toml"
    whole = (LAB / path.name).read_text()
    assert f"{line}\n" in whole
    path.write_text(whole.replace(f"{line}\n", f"{instead}\n", 1))
    with pytest.raises(ScenarioError, match=f"{path.name}: .*{re.escape(says)}"):
        about(path)
