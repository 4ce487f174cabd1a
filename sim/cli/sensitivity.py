"""What commands share that end with levers: their options, and the tornado plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.output.errors import UserError
from sim.output.show import checked_file, tell

if TYPE_CHECKING:
    from sim.output.tables import Report

PICTURES = (".png", ".svg", ".pdf")

_SENSITIVITY = typer.Option(
    "--sensitivity/--no-sensitivity",
    help="Say what each change of network, machines or method does to the time (levers); by "
    "default where all of them are foreseen to take less than a second.",
    rich_help_panel="Output",
    show_default=False,
)
_TORNADO = typer.Option(
    "--tornado",
    metavar="FILE",
    help="Draw the levers as bars: .png, .svg or .pdf. Implies --sensitivity.",
    rich_help_panel="Output",
    show_default=False,
)
Sensitivity = Annotated[bool | None, _SENSITIVITY]
Tornado = Annotated[Path | None, _TORNADO]


def asked(sensitivity: bool | None, tornado: Path | None) -> bool | None:
    """Settle the two options, before anything is computed.

    Raises
    ------
    UserError
        If they contradict each other, or the picture cannot be written.
    """
    if tornado is None:
        return sensitivity
    if sensitivity is False:
        raise UserError("--tornado: draws what --no-sensitivity leaves out; leave out one of them")
    checked_file("--tornado", tornado, PICTURES)
    return True


def draw(about: Report, path: Path) -> None:
    """Draw the levers of a report.

    Raises
    ------
    UserError
        If none applies.
    """
    from sim.figures.plots import save
    from sim.figures.tornado import picture
    from sim.output.lever_lines import frame

    try:
        save(picture(frame(about.data), about.data["levers_of"]), path)
    except ValueError as error:
        raise UserError(f"--tornado: {error}") from error
    tell(f"bandwise: wrote {path}")
