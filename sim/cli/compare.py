"""``bandwise compare``: methods side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sim.cli.asked_methods import METHODS_OPTION, cases_of, document_asked
from sim.cli.sensitivity import Sensitivity, Tornado, draw
from sim.cli.sensitivity import asked as sensitivity_asked
from sim.output.comparison_report import COMPARED, report
from sim.output.effort import foresee
from sim.output.errors import naming_one_of
from sim.output.html_option import Html, write_page
from sim.output.options import Asked, Format, Json, takes_scenario
from sim.output.show import checked_file, checked_folder, progress, show, tell
from sim.output.tables import format_asked

DEFAULT = ",".join(COMPARED)

_TUNED = typer.Option(
    "--tuned",
    help="Give each method its own best setting within the limits of bandwise plan.",
    rich_help_panel="Method",
)

_OUT = typer.Option(
    "--out",
    metavar="DIR|FILE",
    help="Folder for the table and the levers as CSV, the picture and comparison.json; or one "
    "picture, .png, .svg or .pdf, of where the time goes.",
    show_default=False,
    rich_help_panel="Output",
)


@takes_scenario(leaving_out=["--method"])
def compare(
    asked: Asked,
    methods: Annotated[str, METHODS_OPTION] = DEFAULT,
    tuned: Annotated[bool, _TUNED] = False,
    out: Annotated[Path | None, _OUT] = None,
    sensitivity: Sensitivity = None,
    tornado: Tornado = None,
    html: Html = None,
    form: Format = "table",
    as_json: Json = False,
) -> None:
    """Put methods side by side on equal tokens.

    All see the same random numbers. Arguments are for those methods that take them; the output
    names the others. Below come the same times with each site left out, where there are three
    or more. What to change first is said of the fastest method.
    """
    form = format_asked(form, as_json)
    picture = folder = None
    if out is not None and out.suffix and not out.is_dir():
        picture = checked_file("--out", out, (".png", ".svg", ".pdf"))
    elif out is not None:
        folder = checked_folder("--out", out)
    sensitivity = sensitivity_asked(sensitivity, tornado)
    document = document_asked(asked)
    cases = cases_of(document, methods)

    from sim.output.comparison_folder import writing
    from sim.output.html_pictures import of_methods
    from sim.output.lever_lines import with_levers_of_fastest
    from sim.questions.comparison import compare as run
    from sim.questions.comparison import runs_of

    with writing(folder, cases, tuned=tuned) as write:
        settings: dict[str, str] = {}
        if tuned:
            from sim.planning.tuning import tuned_cases

            with naming_one_of(cases), progress("tune") as step:
                cases, settings = tuned_cases(document, cases, step)
        foresee(list(cases.values()), runs=runs_of(next(iter(cases.values()))))
        with naming_one_of(cases), progress("compare") as step:
            result = run(cases, on_progress=step)
        about = report(result, cases, settings)
        about = with_levers_of_fastest(about, result, cases, sensitivity)
        if names := write(about):
            tell(f"bandwise: {', '.join(names)} are in {folder}")
    if picture is not None:
        from sim.figures.plots import save
        from sim.output.pictures import comparison

        save(comparison(about.data["methods"]), picture)
        tell(f"bandwise: wrote {picture}")
    show(about, form)
    if tornado is not None:
        draw(about, tornado)
    write_page(html, about, lambda: of_methods(about.data))
