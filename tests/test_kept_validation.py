"""The measured runs that the repository keeps, predicted anew: a change must not lose them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from realrun.validation.collect import Results, rows
from realrun.validation.configurations import configurations
from realrun.validation.kept import about, belongs, recorded
from realrun.validation.plan import planned
from realrun.validation.rows import checked
from sim.scenario import ScenarioError, load_study
from sim.scenario.identity import SCHEMA

LAB = Path(__file__).parent.parent / "validation" / "lab"


def test_paced_runs_in_the_lab_are_still_foretold() -> None:
    """The study's own tolerance, on the configurations that really wait."""
    study = load_study(LAB / "study.toml")
    assert study.validation is not None
    assert study.validation.informative is not None
    plan = planned(study)
    kept = recorded(LAB)
    by_number = {each.number: each for each in plan}
    assert all(belongs(by_number[number], record) for (number, _), record in kept.items())

    paced = [each for each in plan if each.mode == "paced"]
    measured = checked(rows(paced, Results(LAB, study.validation.repeats, baselines=())))
    table = configurations(measured, study.validation.informative.communication_above)
    waits = table[table["informative"]]
    error = (waits["predicted_s"] / waits["measured_s"] - 1).abs()
    exposed = (waits["predicted_exposed_s"] / waits["measured_exposed_s"] - 1).abs()
    limits = study.validation.tolerances["paced"]
    assert len(waits) >= len(paced) / 2
    assert error.median() <= limits["wall_clock"]["median"]
    assert error.quantile(0.95) <= limits["wall_clock"]["p95"]
    assert exposed.median() <= limits["exposed_communication"]["median"]


def test_kept_runs_are_found_by_the_hash_of_their_schema() -> None:
    """A record without a schema was hashed under schema 0; a new one says which it has."""
    study = load_study(LAB / "study.toml")
    plan = planned(study)
    (number, _), kept = next(iter(recorded(LAB).items()))
    each, other = plan[number], plan[(number + 1) % len(plan)]
    assert "sha256_schema" not in kept
    assert belongs(each, kept)
    assert not belongs(replace(each, case=other.case), kept)
    now = {**kept, "sha256": each.case.sha256, "sha256_schema": SCHEMA}
    assert belongs(each, now)
    assert not belongs(each, {**now, "sha256": kept["sha256"]})


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
