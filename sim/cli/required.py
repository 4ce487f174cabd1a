"""``bandwise required``: the bandwidth, or the fewest inner steps, that a target needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sim.output.effort import foresee
from sim.output.errors import UserError, chosen, naming
from sim.output.html_option import Html, write_page
from sim.output.options import Asked, Format, Json, takes_scenario
from sim.output.requirement_report import check_link, report
from sim.output.show import show
from sim.output.tables import format_asked

if TYPE_CHECKING:
    from sim.output.tables import Report
    from sim.scenario.records import Scenario

_TARGET = typer.Option(
    "--target",
    metavar="50%,95%",
    help="Compute utilizations to reach.",
    rich_help_panel="Target",
)
_LINK = typer.Option(
    "--link",
    metavar="NAME",
    help="Size this link alone, like paris-osaka or osaka.uplink; else all in proportion.",
    rich_help_panel="Target",
    show_default=False,
)

_OF = typer.Option(
    "--of",
    metavar="NAME",
    help="What to find: bandwidth, or sync_every (the fewest inner steps).",
    rich_help_panel="Target",
)


@takes_scenario()
def required(
    asked: Asked,
    target: Annotated[str, _TARGET] = "50%,90%,95%",
    link: Annotated[str | None, _LINK] = None,
    html: Html = None,
    of: Annotated[str, _OF] = "bandwidth",
    form: Format = "table",
    as_json: Json = False,
) -> None:
    """Find the bandwidth, or the fewest inner steps, that a target utilization needs.

    All links between sites (each site's uplink and downlink, or the pairs' links) are scaled
    together, or one by name. For acco, dpu and wp, which are busy at any bandwidth, the question
    is when a round's communication fits into its computation.

    With --of sync_every the links stay as they are, and the answer is the least sync_every that
    reaches each target.
    """
    from sim.scenario import load

    form = format_asked(form, as_json)
    targets = _targets(target)
    scenario = load(asked.source, asked.options, asked.settings, single=True)

    from sim.output.html_pictures import of_targets

    if chosen("--of", of, ("bandwidth", "sync_every")) == "sync_every":
        if link is not None:
            raise UserError("--link sizes a bandwidth: leave it out with --of sync_every")
        about = _steps(scenario, targets)
        show(about, form)
        write_page(html, about)
        return

    from sim.questions.target_search import SEARCHED
    from sim.questions.target_search import required as run

    check_link(scenario, link, "--link")
    foresee([scenario], runs=SEARCHED * len(targets))
    with naming(scenario.method.name):
        answers = run(scenario, targets, link)
    found = report(scenario, answers, link)
    show(found, form)
    write_page(html, found, lambda: of_targets(found.data))


def _steps(scenario: Scenario, targets: list[float]) -> Report:
    from sim.output.step_report import report as steps_report
    from sim.questions.step_search import SEARCHED, fewest_steps

    foresee([scenario], runs=SEARCHED * len(targets))
    with naming(scenario.method.name):
        answers = [fewest_steps(scenario, target) for target in targets]
    return steps_report(scenario, answers)


def _targets(text: str) -> list[float]:
    from sim.output.targets import fraction

    return [fraction("--target", word) for word in text.split(",")]
