"""What workers compute: a table with one row per operation.

A row says on what the time is spent, what it grows with and which key of a scenario gives it. The
seconds that the simulator charges (:mod:`sim.runtime.computation`), the keys of [[site]] and of
hardware files, what ``realrun calibrate`` measures, and where figures and pictures put the time all
follow from the rows, so an operation is added here alone. What it does to state is the model's
business. A program declares one of its own with :func:`sim.program.operation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Cause = Literal["compute", "optimizer", "quantize"]
COMPUTED: tuple[Cause, ...] = ("compute", "optimizer", "quantize")
"""Causes of the time that a worker computes; the first of :data:`sim.figures.breakdown.CAUSES`."""

RENAMED_CAUSES: dict[str, Cause] = {"quantise": "quantize"}
"""Names of causes in files of earlier versions."""

Growth = Literal["micro-batches", "layers", "workers", "elements", "nothing"]
"""What an operation's time grows with.

"micro-batches": a part of an inner step, and jitter applies (formulas: docs/background/time.md).
"layers": k layers of L take k / L of the time of the whole model. "workers": each of M workers
takes 1 / M. "elements": a buffer takes its share of the model's parameters. "nothing": every run
takes all of it.
"""


@dataclass(frozen=True)
class Operation:
    """One row of the table."""

    #: What programs, traces and hardware files call it.
    name: str
    #: On what its time is spent.
    cause: Cause
    scales_with: Growth
    #: Key of [[site]] that gives its seconds, of the whole model.
    key: str = ""
    #: What it is given after the layers when it is measured.
    measured_with: tuple[Any, ...] = ()
    #: Its seconds of the whole model at speed 1, where no key gives them.
    seconds: float = 0.0
    #: What the key means, on its first row.
    meaning: str = ""

    @property
    def field(self) -> str:
        """Attribute of :class:`sim.records.scenario.Machine` that holds what the key gives."""
        return self.key.removesuffix("_time") + "_seconds"

    @property
    def measured(self) -> str:
        """Key of a hardware file's machine that holds what was measured."""
        return f"{self.name}_s"


OPERATIONS: dict[str, Operation] = {
    row.name: row
    for row in (
        Operation("inner_step", "compute", "micro-batches", "step_time"),
        Operation("accumulate", "compute", "micro-batches", "step_time"),
        Operation("forward", "compute", "micro-batches", "step_time"),
        Operation("backward", "compute", "micro-batches", "step_time"),
        Operation(
            "inner_optimizer",
            "optimizer",
            "layers",
            "optimizer_time",
            meaning="Time of the inner optimizer over the whole model.",
        ),
        Operation("optimizer_shard", "optimizer", "workers", "optimizer_time"),
        Operation(
            "outer_gradient",
            "optimizer",
            "layers",
            "outer_gradient_time",
            meaning="Time to form the outer gradient of the whole model, which is sent.",
        ),
        Operation(
            "outer_step",
            "optimizer",
            "layers",
            "outer_step_time",
            (0, 0.7, 0.9, True, 0.0),
            meaning="Time of the outer optimizer, or of averaging, over the whole model.",
        ),
        Operation("eager_outer_step", "optimizer", "layers", "outer_step_time"),
        Operation("average_parameters", "optimizer", "layers", "outer_step_time"),
        Operation(
            "quantize",
            "quantize",
            "elements",
            "quantize_time",
            meaning="Time to pack the whole model before an int8 or fp4 collective.",
        ),
        Operation("hand_over", "optimizer", "nothing"),
        Operation("publish", "optimizer", "nothing"),
    )
}


def timed() -> list[Operation]:
    """Return the operations that are measured, one for each key: the first that has it.

    Without the inner step, whose time a site may also give by what it computes on.

    Examples
    --------
    >>> row = timed()[0]
    >>> row.key, row.field, row.measured
    ('optimizer_time', 'optimizer_seconds', 'inner_optimizer_s')
    """
    first: dict[str, Operation] = {}
    for row in OPERATIONS.values():
        if row.key and row.scales_with != "micro-batches":
            first.setdefault(row.key, row)
    return list(first.values())
