"""What the simulator says of a study's runs before any of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from realrun.validation.plan import Planned
from realrun.validation.predict import as_calibrated, simulated
from sim.questions.replications import a_round_s
from sim.scenario.hardware import Hardware
from sim.storage.files import replacing

COLUMNS = (
    "run",
    "scenario",
    "method",
    "workers",
    "compute_mode",
    "rounds",
    "predicted_s",
    "predicted_per_step_s",
    "predicted_utilization",
    "predicted_at",
)
"""Those of a validation's report.csv have its names; the last is when it was computed."""


def write(plan: Sequence[Planned], hardware: Hardware, path: Path) -> None:
    """Predict every configuration of a plan from a calibration, and write a row for each."""
    with replacing(path) as partial, partial.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for each in plan:
            figures = simulated(as_calibrated(each, hardware)).figures
            rows.writerow(
                (
                    each.number,
                    each.name,
                    each.scenario.method.name,
                    each.workers,
                    each.mode,
                    figures.window_rounds,
                    a_round_s(figures),
                    figures.inner_step_s,
                    figures.compute_utilization,
                    datetime.now(UTC).isoformat(timespec="seconds"),
                )
            )
