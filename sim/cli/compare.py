"""``bandwise compare``: methods side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sim.output.comparison_report import COMPARED, report
from sim.output.effort import foresee
from sim.output.errors import UserError, chosen, naming_one_of
from sim.output.options import Asked, Format, Json, takes_scenario
from sim.output.show import checked_file, progress, show, tell
from sim.output.tables import format_asked

DEFAULT = ",".join(COMPARED)
_METHODS = typer.Option(
    "--methods",
    metavar="A,B,C",
    help="Methods to compare; bandwise methods lists them.",
    rich_help_panel="Method",
)

_OUT = typer.Option(
    "--out",
    metavar="FILE",
    help="Draw where the time goes and how much it is: .png, .svg or .pdf.",
    show_default=False,
    rich_help_panel="Output",
)


@takes_scenario(leaving_out=["--method"])
def compare(
    asked: Asked,
    methods: Annotated[str, _METHODS] = DEFAULT,
    out: Annotated[Path | None, _OUT] = None,
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
    if out is not None:
        checked_file("--out", out, (".png", ".svg", ".pdf"))
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

    from sim.questions.comparison import compare as run
    from sim.questions.comparison import runs_of

    foresee(list(cases.values()), runs=runs_of(next(iter(cases.values()))))
    with naming_one_of(cases), progress("compare") as step:
        result = run(cases, on_progress=step)
    about = report(result, cases)
    if out is not None:
        from sim.figures.plots import save
        from sim.output.pictures import comparison

        save(comparison(about.data["methods"]), out)
        tell(f"bandwise: wrote {out}")
    show(about, form)
