"""What [study] may hold: what is asked and varied."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import PlainValidator

from sim import units
from sim.scenario import fields as f
from sim.scenario.described import key
from sim.scenario.fields import RefusedError, choice
from sim.scenario.tables import Record
from sim.scenario.validation_study import (
    BASELINES,
    Calibrate,
    Informative,
    Side,
    Tolerances,
    listed_once,
)


def _target(value: object) -> float:
    target = units.parse_fraction(value)
    if not 0 < target < 1:
        raise RefusedError("must be more than 0 % and less than 100 %")
    return target


_Targets = Annotated[tuple[float, ...], listed_once(_target)]


class Grid(Record):
    """study.grid: a range of bandwidths."""

    bandwidth: f.Text
    points: Annotated[int, PlainValidator(f.count(2, 10_000, "that would never end"))]
    spacing: Annotated[str, PlainValidator(choice("log", "linear"))] = "log"


class StudySection(Record):
    """[study]: what is asked and varied."""

    ask: Annotated[str, PlainValidator(choice("simulate", "required_bandwidth", "validate"))] = key(
        "What each case is asked: the figures of a run, the bandwidth that each target needs, or "
        "(realrun validate) the error of its prediction.",
        "simulate",
        value="simulate",
    )
    axis: dict[str, Any] | None = key(
        "What is varied: [study.axis] has an entry per axis, a list of a key's values or a table "
        "of named partial scenarios."
    )
    targets: _Targets | None = key(
        "Compute utilizations whose bandwidth is asked for.", "needed by required_bandwidth"
    )
    grid: Grid | None = key(
        "Bandwidths at which every case is simulated: a range, a number of points, and whether "
        'they are spaced by a factor ("log") or evenly ("linear").'
    )
    printing: (
        Annotated[str, PlainValidator(choice("bisect", "grid_point_below", "grid_point_reaching"))]
        | None
    ) = key(
        "Which bandwidth is printed: the exact one, or a point of the grid just below it or just "
        "reaching the target.",
        "bisect",
    )
    compare_with: f.Text | None = key("CSV file of published numbers to compare each cell with.")
    exact_cells: f.AtLeastOne | None = key(
        "Cells that must be exact for the comparison to pass.", "0"
    )
    grid_steps: Annotated[int, PlainValidator(f.count(0, 10_000, "the grid is shorter"))] = key(
        "Grid steps by which a cell may be off for the comparison to pass.", "1", value=1
    )
    remark: f.Text | None = key("Text that is printed below the comparison.")
    sample: f.AtLeastOne | None = key(
        "Configurations to draw out of the product of the axes.", "all of them"
    )
    side_by_side: Side | None = key(
        "Draw in groups of values configurations that differ in one axis alone, so that their "
        "order can be validated."
    )
    repeats: f.AtLeastOne | None = key("Runs of each configuration.", "3")
    duration: f.StepTime | None = key(
        "About how long one measured run lasts; it decides how many rounds there are.", "5 s"
    )
    order: Annotated[str, PlainValidator(choice("given", "random"))] | None = key(
        "Order in which a pass over the configurations runs them.", "random"
    )
    compute: Annotated[tuple[str, ...], listed_once(choice("paced", "real"))] | None = key(
        "Compute modes to run every configuration in.", "paced"
    )
    baselines: Annotated[tuple[str, ...], listed_once(BASELINES)] | None = key(
        "Simpler models whose error is reported next to the calibrated one.", "both"
    )
    informative: Informative | None = key(
        "Which runs say something: those that lost at least communication_above of their time to "
        "communication and waiting; share is how large a part of all they must be."
    )
    calibrate: Calibrate | None = key(
        "All that the calibration sees: bandwidth and rtt of the networks it measures; "
        "same_launch, whether it is made in the launch that is validated."
    )
    tolerance: Tolerances | None = key(
        "The largest errors allowed, as median and p95 by compute mode and quantity; beyond them "
        "realrun validate ends with 1."
    )


KEYS_OF = {
    "required_bandwidth": (
        "targets",
        "printing",
        "compare_with",
        "exact_cells",
        "grid_steps",
        "remark",
    ),
    "validate": (
        "sample",
        "side_by_side",
        "repeats",
        "duration",
        "order",
        "compute",
        "baselines",
        "informative",
        "calibrate",
        "tolerance",
    ),
}
"""What is asked -> keys that go with it alone."""
