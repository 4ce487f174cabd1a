"""``bandwise compare``: methods side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from sim.output.comparison_report import COMPARED, report
from sim.output.effort import foresee
from sim.output.errors import UserError, chosen, naming_one_of
from sim.output.html_option import Html, write_page
from sim.output.options import Asked, Format, Json, takes_scenario
from sim.output.show import progress, show
from sim.output.tables import format_asked

DEFAULT = ",".join(COMPARED)
_METHODS = typer.Option(
    "--methods",
    metavar="A,B,C",
    help="Methods to compare; bandwise methods lists them.",
    rich_help_panel="Method",
)


@takes_scenario(leaving_out=["--method"])
def compare(
    asked: Asked,
    methods: Annotated[str, _METHODS] = DEFAULT,
    html: Html = None,
    form: Format = "table",
    as_json: Json = False,
) -> None:
    """Put methods side by side on equal tokens.

    All see the same random numbers. Arguments are for those methods that take them; the output
    names the others. Below come the same times with each site left out, where there are three
    or more.
    """
    from sim.methods import METHODS
    from sim.scenario import ScenarioError, sweep

    form = format_asked(form, as_json)
    names = list(dict.fromkeys(name.strip() for name in methods.split(",")))
    for name in names:
        if ":" not in name:
            chosen("--methods", name, METHODS)
    over = f"method.name={','.join(names)}"
    try:
        study = sweep(asked.source, asked.options, asked.settings, over=[over], single=True)
    except ScenarioError as error:
        raise UserError(str(error).replace("--over method.name", "--methods")) from error
    cases = {case.scenario.method.name: case.scenario for case in study.cases()}

    from sim.output.html_pictures import of_methods
    from sim.questions.comparison import compare as run
    from sim.questions.comparison import runs_of

    foresee(list(cases.values()), runs=runs_of(next(iter(cases.values()))))
    with naming_one_of(cases), progress("compare") as step:
        result = run(cases, on_progress=step)
    found = report(result, cases)
    show(found, form)
    write_page(html, found, lambda: of_methods(found.data))
