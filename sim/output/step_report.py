"""The fewest inner steps that targets need, as a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.output.tables import PREDICTION, Column, Report, Table

if TYPE_CHECKING:
    from sim.questions.step_search import FewestSteps
    from sim.scenario.records import Scenario

_COLUMNS = (
    Column("target_fraction", "target", "percent"),
    Column("outcome", "outcome"),
    Column("sync_every", "sync_every", "count"),
    Column("compute_utilization", "utilization there", "percent"),
    Column("utilization_before", "with one step less", "percent"),
)


def report(scenario: Scenario, answers: list[FewestSteps]) -> Report:
    """Return the fewest inner steps for each target."""
    from sim.output import intervals
    from sim.output.tables import assumptions, left_out
    from sim.version import __version__

    rows = [
        {
            "target_fraction": answer.target,
            "outcome": answer.outcome,
            "sync_every": answer.sync_every,
            "compute_utilization": answer.utilization,
            "utilization_before": answer.utilization_before,
        }
        for answer in answers
    ]
    table = Table(
        _COLUMNS, rows, f"Inner steps between outer steps that {scenario.method.name} needs"
    )
    data = {
        "schema": 2,
        "prediction": "simulated; nothing was trained",
        "method": scenario.method.name,
        "scenario_sha256": scenario.sha256,
        "version": __version__,
        "required": [
            {**row, **intervals.fields(answer.interval)}
            for row, answer in zip(rows, answers, strict=True)
        ],
        "assumed": dict(scenario.assumed),
        "left_out": list(scenario.left_out),
    }
    blocks = [PREDICTION, table, *left_out([scenario]), *assumptions(scenario.assumed)]
    return Report(blocks, data, Table(_COLUMNS, rows))
