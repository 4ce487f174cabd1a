"""``realrun lab``: one run over a scenario's network, played on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from realrun.cli import options
from sim.cli.options import Asked, Format, Json, takes_scenario
from sim.cli.tables import format_asked


@takes_scenario()
def lab(
    asked: Asked,
    device: Annotated[str, options.DEVICE] = "auto",
    timeout: Annotated[str, options.TIMEOUT] = "300 s",
    replay: Annotated[Path | None, options.REPLAY] = None,
    checkpoints: Annotated[Path | None, options.CHECKPOINTS] = None,
    checkpoint_every: Annotated[int, options.EVERY] = 100,
    start: Annotated[Path | None, options.START] = None,
    trace: Annotated[Path | None, options.TRACE] = None,
    losses: Annotated[Path | None, options.LOSSES] = None,
    save: Annotated[Path | None, options.SAVE] = None,
    form: Format = "table",
    as_json: Json = False,
) -> None:
    """Train as realrun train does, over the scenario's network, played on this machine.

    Every worker gets a network namespace of its own; a process between them limits bandwidth
    and adds latency. The network is measured first and has to be what was asked for. Needs
    Linux and root; nothing outside the namespaces is changed, and nothing is left behind.
    """
    from realrun.lab import built, topology
    from sim.scenario import load

    form = format_asked(form, as_json)
    found = topology(load(asked.source, asked.options, asked.settings))
    aside = form not in ("table", "markdown")  # what a program reads holds the figures only

    def tell(text: object) -> None:
        typer.echo(text, err=aside)
        sys.stdout.flush()

    tell(f"In a lab on this machine: {found.workers} namespaces, checked:")
    with built(found, lambda check: tell(f"  {check}")) as network:
        # The workers read the same options. Only gloo keeps to the network it is given.
        status = network.run(["train", *sys.argv[2:], "--backend", "gloo"])
    raise typer.Exit(status)
