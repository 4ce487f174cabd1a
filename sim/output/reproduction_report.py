"""A published table next to ours, cell by cell, as a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.output.tables import PREDICTION, Block, Column, Report, Table

if TYPE_CHECKING:
    from sim.questions.reproduce import Reproduction
    from sim.scenario import Study


def report(result: Reproduction, study: Study, steps: int | None = None) -> Report:
    """Return the table, and whether it is as the study expects.

    Parameters
    ----------
    steps
        How many points of the bandwidth grid a cell may lie next to the published one; by default
        what the study states.
    """
    within = study.grid_steps if steps is None else steps
    outside = sum(abs(cell.grid_steps) > within for cell in result.cells)
    passed = not outside and result.exact >= study.exact_cells
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    flat = []
    for cell in result.cells:
        row = rows.setdefault(tuple(cell.labels.values()), dict(cell.labels))
        mark = "!" if abs(cell.grid_steps) > within else "~" if cell.grid_steps else ""
        row[f"{cell.target:g}"] = f"{mark}{cell.ours} ({cell.published})"
        flat.append(
            {
                "study": result.name,
                **cell.labels,
                "target_fraction": cell.target,
                "ours_Gbit_per_s": cell.ours,
                "published_Gbit_per_s": cell.published,
                "grid_steps": cell.grid_steps,
                "grid_steps_without_printing_rule": cell.natural_steps,
                "within_tolerance": abs(cell.grid_steps) <= within,
            }
        )
    axes = [Column(name, name) for name in result.cells[0].labels]
    targets = [Column(f"{target:g}", f"{100 * target:g} %", "number") for target in study.targets]
    total = len(result.cells)
    worst = max(abs(cell.grid_steps) for cell in result.cells)
    others = f"; the others (~) lie at most {_points(worst)} away from it" if worst else ""
    blocks: list[Block] = [
        PREDICTION,
        Table(
            [*axes, *targets],
            list(rows.values()),
            f"{result.name}: Gbit/s that reach a utilization, in brackets as published",
        ),
        f"{result.exact} of {total} cells print as published{others}. By the plain rule, the "
        f"first grid point that reaches the target, {result.within(1)} of {total} lie within one "
        "grid point.",
        f"{'As the study expects' if passed else 'FAILED'}: {outside} of {total} cells lie more "
        f"than {_points(within)} from the published one{' (!)' if outside else ''}"
        + (f", and at least {study.exact_cells} must print alike." if study.exact_cells else "."),
        *([study.remark] if study.remark else []),
    ]
    data = {
        "name": result.name,
        "passed": passed,
        "remark": study.remark or None,
        "tolerance_grid_steps": within,
        "cells": total,
        "exact": result.exact,
        "within_one_grid_step_without_printing_rule": result.within(1),
        "table": flat,
    }
    columns = [Column(key, key) for key in flat[0]]
    return Report(blocks, data, Table(columns, flat))


def _points(number: int) -> str:
    return f"{number} grid point{'s' * (number != 1)}"
