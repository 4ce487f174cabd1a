"""``bandwise reproduce``: a published table computed again."""

from __future__ import annotations

from typing import Annotated

import typer

from sim.cli.sweep import JOBS, computed
from sim.output.options import AllowCode, Format, Json, allowed
from sim.output.published import published_study
from sim.output.reproduction_report import report
from sim.output.show import show
from sim.output.tables import format_asked

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
    study = published_study(allowed(name, allow_code) or name)

    from sim.questions.reproduce import reproduce as compare

    found = report(compare(study, computed(study, None, jobs, study.name or name)), study, within)
    show(found, form)
    if not found.data["passed"]:
        raise typer.Exit(1)
