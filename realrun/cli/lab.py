"""``realrun lab``: a run, or any command, over a scenario's network, emulated on this machine."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from realrun.cli import options
from realrun.cli.outputs import Outputs
from sim.output.errors import UserError
from sim.output.options import Asked, Format, Json, takes_scenario
from sim.output.tables import format_asked

_COMMAND = typer.Argument(
    metavar="[-- COMMAND ...]",
    help="A program and its arguments, run once per worker instead of training. {rank} and "
    "{address} in the arguments are filled in.",
    show_default=False,
)
_PANEL = "With a command"
_OUT = typer.Option(
    "--out",
    metavar="FILE",
    help="Write how the command ended and what was sent in every second: .json or .csv.",
    rich_help_panel=_PANEL,
    show_default=False,
)
_PICTURE = typer.Option(
    "--picture",
    metavar="FILE",
    help="Draw what was sent between workers, over time: .png, .svg or .pdf.",
    rich_help_panel=_PANEL,
    show_default=False,
)
_PLAIN = typer.Option(
    "--plain",
    help="Print the command's lines as they are, without the rank.",
    rich_help_panel=_PANEL,
)


@takes_scenario()
def lab(
    asked: Asked,
    command: Annotated[list[str] | None, _COMMAND] = None,
    device: options.Device = "auto",
    timeout: options.Timeout = "300 s",
    replay: options.Replay = None,
    checkpoints: options.Checkpoints = None,
    checkpoint_every: options.Every = 100,
    start: options.Start = None,
    check_replicas: options.CheckReplicas = False,
    evaluate_every: options.EvaluateEvery = None,
    trace: options.Trace = None,
    losses: options.Losses = None,
    save: options.Save = None,
    out: Annotated[Path | None, _OUT] = None,
    picture: Annotated[Path | None, _PICTURE] = None,
    plain: Annotated[bool, _PLAIN] = False,
    form: Format = "table",
    as_json: Json = False,
) -> None:
    """Run over the scenario's network, emulated on this machine: training, or any command.

    Every worker gets a network namespace of its own; a process between them limits bandwidth
    and adds latency. The network is measured first and has to be what was asked for. Needs
    Linux and root; nothing outside the namespaces is changed, and nothing is left behind.

    Without a command it trains as realrun train does. A command is told by RANK, WORLD_SIZE,
    MASTER_ADDR and MASTER_PORT who it is; its output has the rank in front.
    """
    from realrun.lab import built, not_emulated, topology
    from sim.scenario import load

    form = format_asked(form, as_json)
    given = {"--out": out is not None, "--picture": picture is not None, "--plain": plain}
    if command is not None:
        given = {
            "--device": device != "auto",
            "--timeout": timeout != "300 s",
            "--replay": replay is not None,
            "--checkpoints": checkpoints is not None,
            "--checkpoint-every": checkpoint_every != 100,
            "--start": start is not None,
            "--check-replicas": check_replicas,
            "--evaluate-every": evaluate_every is not None,
            "--trace": trace is not None,
            "--losses": losses is not None,
            "--save": save is not None,
        }
    for option in (option for option, is_given in given.items() if is_given):
        if command is None:
            raise UserError(f"{option}: goes with a command after --; without one realrun trains")
        raise UserError(f"{option}: is of realrun's own training, not of a command after --")
    if command is not None:
        from realrun.cli.command_in_lab import run

        raise typer.Exit(run(asked, command, out, picture, form, plain=plain))

    outputs = Outputs(trace, losses, save, checkpoints)
    outputs.check()
    from realrun.islands import by_accelerator, with_island

    scenario = by_accelerator(load(asked.source, asked.options, asked.settings, single=True))
    found, remark = topology(scenario), not_emulated(scenario)
    aside = form not in ("table", "markdown")  # what a program reads holds the figures only

    def tell(text: object) -> None:
        typer.echo(text, err=aside)
        sys.stdout.flush()

    tell(f"In a lab on this machine: {found.workers} namespaces, checked:")
    if remark:
        tell(remark)
    with (
        outputs.of_workers(found.workers),
        built(found, lambda check: tell(f"  {check}")) as network,
    ):
        # The workers read the same options. Only gloo keeps to the network it is given.
        arguments = ["train", *sys.argv[2:], "--backend", "gloo"]
        status = network.run(arguments, explained=partial(with_island, scenario=scenario))
    raise typer.Exit(status)
