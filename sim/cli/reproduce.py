"""``bandwise reproduce``: a published table computed again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.cli.sweep import JOBS, computed
from sim.output.errors import UserError, did_you_mean
from sim.output.options import AllowCode, Format, Json, allowed
from sim.output.show import show
from sim.output.tables import PREDICTION, Block, Column, Report, Table, format_asked

if TYPE_CHECKING:
    from sim.questions.reproduce import Reproduction
    from sim.scenario import Study

_NAME = typer.Argument(
    metavar="NAME",
    help="A study with a published table to compare with (study.compare_with).",
)
_WITHIN = typer.Option(
    "--within",
    metavar="STEPS",
    min=0,
    help="How many points of the bandwidth grid a cell may lie from the published one; by "
    "default what the study states.",
    show_default=False,
)


def reproduce(
    name: Annotated[str, _NAME] = "streaming_diloco_table4",
    within: Annotated[int | None, _WITHIN] = None,
    jobs: Annotated[int | None, JOBS] = None,
    allow_code: AllowCode = False,
    form: Format = "table",
    as_json: Json = False,
) -> None:
    """Compute a published table again, cell by cell.

    Exit status 1 outside the tolerance that the study states: how many cells print as
    published, and how far off the others may lie.
    """
    form = format_asked(form, as_json)
    result, study = _reproduced(allowed(name, allow_code) or name, jobs)
    steps = study.grid_steps if within is None else within
    outside = sum(abs(cell.grid_steps) > steps for cell in result.cells)
    passed = not outside and result.exact >= study.exact_cells
    show(_report(result, study, steps, outside, passed), form)
    if not passed:
        raise typer.Exit(1)


def _published() -> list[str]:
    from sim.scenario import bundled
    from sim.scenario.reading import from_file

    studies = {name: from_file(path).study or {} for name, path in bundled().items()}
    return [name for name, study in studies.items() if study.get("compare_with")]


def _reproduced(name: str, jobs: int | None) -> tuple[Reproduction, Study]:
    from sim.questions.reproduce import published_cells
    from sim.questions.reproduce import reproduce as compare
    from sim.scenario import ScenarioError, load_study

    try:
        study = load_study(name)
    except ScenarioError as error:
        known = _published()
        if name in known or Path(name).exists():
            raise
        listed = f"; there are {', '.join(known)}" if known else ""
        raise UserError(
            f'no published table "{name}"{did_you_mean(name, known, listed)}'
        ) from error
    if study.compare_with is None:
        raise UserError(f"{name}: study.compare_with names no published table")
    try:
        published_cells(study)
    except ValueError as error:
        raise UserError(str(error)) from error
    frame = computed(study, None, jobs, study.name or name)
    return compare(study, frame), study


def _report(result: Reproduction, study: Study, within: int, outside: int, passed: bool) -> Report:
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
