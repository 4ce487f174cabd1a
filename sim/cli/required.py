"""``bandwise required``: the bandwidth, or another quantity, that a target needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sim.output.errors import UserError, chosen
from sim.output.html_option import Html, write_page
from sim.output.html_pictures import of_targets
from sim.output.options import Asked, Format, Json, takes_scenario
from sim.output.required_answer import answer
from sim.output.show import show
from sim.output.tables import format_asked

if TYPE_CHECKING:
    from sim.questions.quantities import Quantity

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
    help="What to find: bandwidth; rtt, the longest; sync_every, the fewest inner steps; delay, "
    "the shortest; comm_dtype, the widest; batch_tokens, the smallest batch per worker.",
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
    """Find the bandwidth, or another quantity, that a target utilization needs.

    All links between sites (each site's uplink and downlink, or the pairs' links) are scaled
    together, or one by name. For acco, dpu and wp, which are busy at any bandwidth, the question
    is when a round's communication fits into its computation.

    With --of the links stay as they are, and the answer is the best value of another quantity that
    reaches each target: the longest rtt, the least sync_every, the shortest outer_sync_delay or
    fragment_sync_delay, the widest comm_dtype or the fewest batch_tokens.
    """
    from sim.questions.quantities import OF, QUANTITIES
    from sim.scenario import load

    form = format_asked(form, as_json)
    targets = _targets(target)
    row = QUANTITIES.get(chosen("--of", of, OF))
    if row is not None:
        check_free(asked, row)
        if link is not None:
            raise UserError(f"--link sizes a bandwidth: leave it out with --of {of}")
    scenario = load(asked.source, asked.options, asked.settings, single=True)
    found = answer(scenario, targets, row, link, "--link")
    show(found, form)
    write_page(html, found, lambda: of_targets(found.data))


def _targets(text: str) -> list[float]:
    from sim.output.targets import fraction

    return [fraction("--target", word) for word in text.split(",")]


def check_free(asked: Asked, row: Quantity) -> None:
    """Refuse a value on the command line of what is to be found; a file's is replaced.

    Raises
    ------
    UserError
        With the option.
    """
    from sim.scenario import OPTIONS

    typed = [(option, OPTIONS[option].key) for option in asked.options]
    for setting in asked.settings:
        key = setting.partition("=")[0].strip()
        typed.append((f"--set {key}", key))
    for option, key in typed:
        if key in row.replaces:
            raise UserError(
                f"{option}: --of {row.name} finds its value; leave one of the two options out"
            )
