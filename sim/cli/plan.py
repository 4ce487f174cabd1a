"""``bandwise plan``: which setting, why, and what to change next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sim.cli.asked_methods import document_asked
from sim.cli.backends import Address, EngineOfPlan, check_engine, opened
from sim.cli.sensitivity import Sensitivity, Tornado, draw
from sim.cli.sensitivity import asked as sensitivity_asked
from sim.output.effort import foresee_plan
from sim.output.errors import UserError, chosen, naming_one_of
from sim.output.html_option import Html, write_page
from sim.output.options import Asked, Format, Json, takes_scenario
from sim.output.plan_report import report
from sim.output.show import checked_folder, progress, show, tell
from sim.output.tables import format_asked
from sim.output.targets import fraction

_TARGET = typer.Option(
    "--target",
    metavar="95%",
    help="Compute utilization to reach.",
    rich_help_panel="Target",
)
_METHODS = typer.Option(
    "--methods",
    metavar="A,B,C",
    help="Search these methods, also where they learned worse in our trainings; by default "
    "ddp, acco, diloco and streaming_diloco.",
    rich_help_panel="Target",
    show_default=False,
)
_SYNC_EVERY = typer.Option(
    "--max-sync-every",
    metavar="N",
    help="Most inner steps between outer steps.",
    rich_help_panel="Limits",
    min=1,
)
_STALENESS = typer.Option(
    "--max-staleness",
    metavar="N",
    help="Most inner steps by which a result may be applied late.",
    rich_help_panel="Limits",
    min=0,
)
_TOKENS_PER_UPDATE = typer.Option(
    "--max-tokens-per-update",
    metavar="400Mi",
    help="Most tokens of all workers per update.",
    rich_help_panel="Limits",
    show_default=False,
)
_QUANTIZED = typer.Option(
    "--quantize-gradients",
    help="Search int8 and fp4 also for gradients of every step, not only for outer gradients.",
    rich_help_panel="Limits",
)
_OUT = typer.Option(
    "--out",
    metavar="DIR",
    help="Write the tables as CSV and the pictures of the front there, and plan.json.",
    rich_help_panel="Output",
    show_default=False,
)


@takes_scenario()
def plan(
    asked: Asked,
    target: Annotated[str, _TARGET] = "95%",
    methods: Annotated[str | None, _METHODS] = None,
    max_sync_every: Annotated[int, _SYNC_EVERY] = 100,
    max_staleness: Annotated[int, _STALENESS] = 1,
    max_tokens_per_update: Annotated[str | None, _TOKENS_PER_UPDATE] = None,
    quantize_gradients: Annotated[bool, _QUANTIZED] = False,
    out: Annotated[Path | None, _OUT] = None,
    backend: EngineOfPlan = None,
    address: Address = None,
    sensitivity: Sensitivity = None,
    tornado: Tornado = None,
    html: Html = None,
    form: Format = "table",
    as_json: Json = False,
) -> None:
    """Find the method and the setting to train with.

    Searched are methods, how often they synchronize, fragments, delays, overlap, the type on the
    wire and the algorithm of the collectives. What you give as an option or with --set is kept;
    what a file says of its method is where you are now, and is shown as given.
    """
    from sim.methods import METHODS
    from sim.output.html_pictures import of_plan
    from sim.output.lever_lines import with_levers_of_plan
    from sim.output.plan_folder import writing
    from sim.planning.asked import asked_of
    from sim.planning.decision import NothingAdmissibleError
    from sim.planning.decision import plan as run
    from sim.planning.limits import Limits
    from sim.planning.predictions import AT_ONCE, Predictions
    from sim.processes.cores import cores_allowed
    from sim.scenario import ScenarioError

    form = format_asked(form, as_json)
    if out is not None:
        checked_folder("--out", out)
    check_engine(backend, address)
    sensitivity = sensitivity_asked(sensitivity, tornado)
    names = None if methods is None else [name.strip() for name in methods.split(",")]
    if names and "--method" in asked.options:
        raise UserError("--methods: --method names the one method that is searched; leave one out")
    for name in names or []:
        if ":" not in name:
            chosen("--methods", name, METHODS)
    limits = Limits(
        sync_every=max_sync_every,
        staleness=max_staleness,
        tokens_per_update=_count(max_tokens_per_update),
        quantized_gradients=quantize_gradients,
    )
    document = document_asked(asked)
    try:
        search = asked_of(document, names)
    except ScenarioError as error:
        raise UserError(str(error).replace("method: ", "--methods: ", 1)) from error
    limits = limits.with_named(search.named)
    reach = fraction("--target", target)
    at_once = min(AT_ONCE, cores_allowed()) if backend == "local" else AT_ONCE
    foresee_plan(search)
    with writing(out, search, reach, limits) as write:
        with (
            opened(backend, address, "the same command begins again") as engine,
            naming_one_of(search.bases),
            progress("plan") as step,
        ):
            try:
                found = run(
                    search,
                    reach,
                    limits=limits,
                    on_progress=step,
                    predictions=Predictions(engine, at_once),
                )
            except NothingAdmissibleError as error:
                raise UserError(str(error)) from error
        about = with_levers_of_plan(report(found, search), found, sensitivity)
        if names := write(about):
            tell(f"bandwise: {', '.join(names)} are in {out}")
    show(about, form)
    if tornado is not None:
        draw(about, tornado)
    write_page(html, about, lambda: of_plan(about.data))


def _count(text: str | None) -> float | None:
    from sim.units import UnitError, parse_count

    if text is None:
        return None
    try:
        number = parse_count(text)
    except UnitError as error:
        raise UserError(f'--max-tokens-per-update: "{text}": {error}') from error
    if number < 1:
        raise UserError(f'--max-tokens-per-update: "{text}": must be at least 1')
    return float(number)
