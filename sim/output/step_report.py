"""The fewest inner steps that targets need, as a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.output.tables import BOUNDS, PREDICTION, Block, Column, Report, Table, at_most

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
            "figures_are_bounds": answer.figures.lower_bound,
        }
        for answer in answers
    ]
    shown = [
        {**row, "compute_utilization": at_most(answer.utilization, answer.figures)}
        for row, answer in zip(rows, answers, strict=True)
    ]
    table = Table(
        _COLUMNS, shown, f"Inner steps between outer steps that {scenario.method.name} needs"
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
    blocks: list[Block] = [PREDICTION, table]
    if any(not answer.figures.steady for answer in answers):
        bounds = any(answer.figures.lower_bound for answer in answers)
        blocks.append(
            "NOT steady: with that many inner steps rounds do not repeat; where messages queue on "
            f"the links, figures are at the pace of the links.{BOUNDS if bounds else ''}"
        )
    blocks += [*left_out([scenario]), *assumptions(scenario.assumed)]
    columns = (*_COLUMNS, Column("figures_are_bounds", "figures are bounds"))
    return Report(blocks, data, Table(columns, rows))
