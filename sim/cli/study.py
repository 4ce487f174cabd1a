"""``bandwise study``: a study file, its curves, its table, its results in a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.cli.backends import Address, Backend, check_backend, streamed
from sim.cli.sweep import JOBS, computed, written
from sim.output.errors import UserError
from sim.output.html_option import Html, write_page
from sim.output.options import SETTING, AllowCode, Format, Json, allowed
from sim.output.show import checked_folder, show, typed
from sim.output.tables import format_asked

if TYPE_CHECKING:
    import pandas as pd

    from sim.output.tables import Report
    from sim.scenario import Study

_FILE = typer.Argument(
    metavar="FILE",
    help="A study file, or the name of one that comes along (bandwise scenarios).",
    show_default=False,
)
_OUT = typer.Option(
    "--out",
    metavar="DIR",
    help="Folder for results and curves; made if it is not there. An interrupted study goes "
    "on when it is started again with the same folder.",
    show_default=False,
)
_REPLICATIONS = typer.Option(
    "--replications",
    metavar="N",
    help="Runs with other random numbers, of which the median counts; by default 7 to 9.",
    show_default=False,
)


def study(
    file: Annotated[str, _FILE],
    out: Annotated[Path, _OUT],
    settings: Annotated[list[str] | None, SETTING] = None,
    replications: Annotated[str | None, _REPLICATIONS] = None,
    jobs: Annotated[int | None, JOBS] = None,
    backend: Backend = None,
    address: Address = None,
    allow_code: AllowCode = False,
    html: Html = None,
    form: Format = "table",
    as_json: Json = False,
) -> None:
    """Run a study file: curves, tables and results in a folder.

    Writes results.csv and results.parquet (one row per run, SI units) and, where bandwidth is
    varied, the utilization curves as PNG and SVG.
    """
    from sim.scenario import load_study

    form = format_asked(form, as_json)
    checked_folder("--out", out)
    check_backend(backend, address, out, html)
    options = {} if replications is None else {"--replications": replications}
    source = allowed(file, allow_code) or file
    asked = load_study(source, options, settings or [])
    html = None if html is None else html.of(source, options, settings or [])
    if asked.ask == "validate":
        raise UserError(f'{file}: study.ask = "validate" needs machines: run it with realrun')

    if backend is not None:
        streamed(asked, out, backend, address, jobs, asked.name or "study")
        return

    from sim.output.html_pictures import of_study
    from sim.output.pictures import save_curves

    if asked.compare_with is not None:
        from sim.questions.reproduce import read_published

        try:  # before the runs, not after them
            read_published(asked.compare_with)
        except ValueError as error:
            raise UserError(str(error)) from error
    frame = computed(asked, out, jobs, asked.name or "study")
    written(out, save_curves(frame, out))
    report = _report(asked, frame)
    printed = report
    if form == "table":
        next_line = f"Next:\n  {_next(asked, frame, file, out)}"
        printed = replace(report, blocks=[*report.blocks, next_line])
    show(printed, form)
    write_page(html, report, lambda: of_study(frame))


def _report(asked: Study, frame: pd.DataFrame) -> Report:
    from sim.output import run_tables

    if asked.ask == "required_bandwidth":
        return run_tables.bandwidths(asked, frame)
    return run_tables.runs(asked, frame)


def _next(asked: Study, frame: pd.DataFrame, file: str, out: Path) -> str:
    """Return the line to type next."""
    if asked.compare_with is not None:
        return f"{typed()} reproduce {file}"
    kind = "breakdown" if len(frame) <= 60 else "utilization"
    return f"{typed()} plot {out / 'results.parquet'} --kind {kind} --out {kind}.png"
