"""The measured runs that the repository keeps, predicted anew: a change must not lose them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("torch")

from realrun.validation.collect import Results, rows
from realrun.validation.configurations import configurations
from realrun.validation.kept import belongs, recorded
from realrun.validation.plan import planned
from realrun.validation.rows import checked
from sim.scenario import load_study

LAB = Path(__file__).parent.parent / "validation" / "lab"


def test_paced_runs_in_the_lab_are_still_foretold() -> None:
    """As well as the report says that they were, on the configurations that really wait."""
    study = load_study(LAB / "study.toml")
    assert study.validation is not None
    assert study.validation.informative is not None
    plan = planned(study)
    kept = recorded(LAB)
    by_number = {each.number: each for each in plan}
    assert all(belongs(by_number[number], record) for (number, _), record in kept.items())

    paced = [each for each in plan if each.mode == "paced"]
    now = checked(rows(paced, Results(LAB, study.validation.repeats, baselines=())))
    reported = pd.read_csv(LAB / "report.csv")
    waits, then = (
        table[table["informative"] & (table["compute_mode"] == "paced")]
        for table in (
            configurations(each, study.validation.informative.communication_above)
            for each in (now, checked(reported))
        )
    )
    assert len(waits) == len(then) >= len(paced) / 2
    for statistic in (0.5, 0.95):
        assert wall_clock(waits).quantile(statistic) <= 1.05 * wall_clock(then).quantile(statistic)
    limits = study.validation.tolerances["paced"]
    assert wall_clock(waits).median() <= limits["wall_clock"]["median"]
    exposed = (waits["predicted_exposed_s"] / waits["measured_exposed_s"] - 1).abs()
    assert exposed.median() <= limits["exposed_communication"]["median"]


def wall_clock(table: pd.DataFrame) -> pd.Series:
    """Absolute relative errors."""
    return (table["predicted_s"] / table["measured_s"] - 1).abs()
