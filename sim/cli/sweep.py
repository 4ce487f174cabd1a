"""``bandwise sweep``: keys of a scenario varied from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.cli.backends import Address, Backend, check_backend, streamed
from sim.output.effort import foresee
from sim.output.errors import Interrupted
from sim.output.html_option import Html, write_page
from sim.output.options import Asked, Format, Json, takes_scenario
from sim.output.show import checked_folder, progress, show, tell
from sim.output.tables import format_asked

if TYPE_CHECKING:
    import pandas as pd

    from sim.scenario import Study

_OVER = typer.Option(
    "--over",
    metavar="KEY=VALUES",
    help="What to vary: bandwidth=0.1..1000Gbit/s:50 (50 points, spaced by a factor) or "
    "sync_every=10,100. Several --over multiply.",
    rich_help_panel="Sweep",
    show_default=False,
)
JOBS = typer.Option(
    "--jobs",
    metavar="N",
    min=1,
    help="Processes; by default one per processor, or one for what takes a few seconds.",
    rich_help_panel="Output",
    show_default=False,
)
_OUT = typer.Option(
    "--out",
    metavar="DIR",
    help="Write results.csv, results.parquet and curves there.",
    rich_help_panel="Output",
    show_default=False,
)


@takes_scenario()
def sweep(
    asked: Asked,
    over: Annotated[list[str] | None, _OVER] = None,
    out: Annotated[Path | None, _OUT] = None,
    jobs: Annotated[int | None, JOBS] = None,
    backend: Backend = None,
    address: Address = None,
    html: Html = None,
    form: Format = "table",
    as_json: Json = False,
) -> None:
    """Vary keys of a scenario: one run per combination."""
    from sim.scenario import sweep as vary
    from sim.scenario.given import GivenValue

    form = format_asked(form, as_json)
    if out is not None:
        checked_folder("--out", out)
    check_backend(backend, address, out, html)
    study = vary(
        asked.source,
        asked.options,
        asked.settings,
        over or [],
        single=True,
        generated=backend is not None,
    )
    if backend is not None and out is not None:
        streamed(study, out, backend, address, jobs, "sweep")
        return

    if html is not None:
        pairs = (text.partition("=") for text in over or [])
        varied = [GivenValue(key.strip(), values.strip(), "--over") for key, _, values in pairs]
        html = replace(html, given=[*html.given, *varied])

    from sim.output import run_tables
    from sim.output.html_pictures import of_study
    from sim.output.pictures import save_curves

    frame = computed(study, out, jobs, "sweep")
    if out is not None:
        written(out, save_curves(frame, out))
    about = run_tables.runs(study, frame)
    show(about, form)
    write_page(html, about, lambda: of_study(frame))


def computed(study: Study, folder: Path | None, jobs: int | None, what: str) -> pd.DataFrame:
    """Run a study with a progress bar.

    Raises
    ------
    Interrupted
        After Ctrl-C.
    """
    from sim.questions.study import run

    again = "" if folder is None else "; the same command continues from here"
    jobs = foresee(
        [case.scenario for case in study.cases()], runs=len(study.grid or (1,)), jobs=jobs
    )
    try:
        with progress(what) as step:
            return run(study, folder, jobs, step, _note)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted{again}") from None
    except SystemExit:  # asked to end by a signal, which has been said
        if again:
            _note("the same command continues from here")
        raise


def _note(line: str) -> None:
    tell(f"bandwise: {line}")


def written(folder: Path, drawn: Sequence[Path]) -> None:
    """Say which files the folder holds now."""
    names = ["results.csv", "results.parquet", *(path.name for path in drawn)]
    tell(f"bandwise: {', '.join(names)} are in {folder}")
