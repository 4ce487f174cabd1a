"""``bandwise``: its commands, and what it says without one."""

from __future__ import annotations

from typing import Annotated, ClassVar, NoReturn

import typer

from sim.output.program import SETTINGS, Group
from sim.processes.signals import end_when_asked

COMMANDS = {
    "simulate": "Predict one run: time, utilization, where the time goes.",
    "compare": "Put methods side by side on equal tokens.",
    "plan": "Find the method and the setting to train with.",
    "required": "Find the bandwidth, or another quantity, that a target utilization needs.",
    "memory": "Count the bytes that each method needs on an accelerator.",
    "sweep": "Vary keys of a scenario: one run per combination.",
    "study": "Run a study file: curves, tables and results in a folder.",
    "plot": "Draw results or a trace.",
    "reproduce": "Compute a published table again, cell by cell.",
    "methods": "List the training methods and their papers.",
    "scenarios": "List the scenarios that come with bandwise.",
    "serve": "Open a what-if page in the browser.",
    "init": "Write a scenario file to start from.",
}
"""Command -> its summary; each is a function of that name in the module of that name."""

_PANELS = {
    "Ask": ("simulate", "compare", "plan", "required", "memory", "serve"),
    "Many runs": ("sweep", "study", "plot", "reproduce"),
    "Look up": ("methods", "scenarios", "init"),
}
_PANEL_OF = {name: panel for panel, names in _PANELS.items() for name in names}

WELCOME = """\
bandwise: how long will this training run take, and how busy will the accelerators be,
with this method on this network?

How long do two sites, 1 Gbit/s apart, take for 10000 steps?
  bandwise simulate --model 10B --sites 2 --bandwidth 1Gbit/s --steps 10000

Which method keeps three sites busiest, and is the third worth having?
  bandwise compare --model 10B --sites 3 --bandwidth 1Gbit/s --rtt 100ms

How much bandwidth do we have to rent?
  bandwise required --model 10B --sites 2 --target 50%,95%

bandwise -h lists all commands, bandwise COMMAND -h the options of one."""


class Bandwise(Group):
    """The commands of bandwise."""

    program: ClassVar[str] = "bandwise"
    package: ClassVar[str] = "sim.cli"
    summaries: ClassVar[dict[str, str]] = COMMANDS
    panel_of: ClassVar[dict[str, str]] = _PANEL_OF


app = typer.Typer(
    cls=Bandwise,
    invoke_without_command=True,
    context_settings=SETTINGS,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def _bandwise(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Predict distributed training over slow networks: how long, how busy, which method."""
    if version:
        from sim.version import __version__

        typer.echo(f"bandwise {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(WELCOME)


def main() -> NoReturn:
    """Run ``bandwise`` with the arguments of the command line."""
    end_when_asked("bandwise")
    app()
    raise AssertionError("Group.main exits")
