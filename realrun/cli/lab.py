"""``realrun lab``: one run over a scenario's network, emulated on this machine."""

from __future__ import annotations

import sys

import typer

from realrun.cli import options
from realrun.cli.outputs import Outputs
from sim.output.options import Asked, Format, Json, takes_scenario
from sim.output.tables import format_asked


@takes_scenario()
def lab(
    asked: Asked,
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
    form: Format = "table",
    as_json: Json = False,
) -> None:
    """Train as realrun train does, over the scenario's network, emulated on this machine.

    Every worker gets a network namespace of its own; a process between them limits bandwidth
    and adds latency. The network is measured first and has to be what was asked for. Needs
    Linux and root; nothing outside the namespaces is changed, and nothing is left behind.
    """
    from realrun.lab import built, not_emulated, topology
    from sim.scenario import load

    form = format_asked(form, as_json)
    outputs = Outputs(trace, losses, save, checkpoints)
    outputs.check()
    scenario = load(asked.source, asked.options, asked.settings, single=True)
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
        status = network.run(["train", *sys.argv[2:], "--backend", "gloo"])
    raise typer.Exit(status)
