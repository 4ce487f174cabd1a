"""``realrun train``: one run, measured."""

from __future__ import annotations

import os
import sys

import typer

from realrun.cli import options
from sim.cli.errors import UserError
from sim.cli.options import Asked, Format, Json, takes_scenario
from sim.cli.output import checked_file, checked_folder
from sim.cli.simulate import TRACES, logged
from sim.cli.tables import format_asked


@takes_scenario()
def train(
    asked: Asked,
    nproc: options.Nproc = None,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    timeout: options.Timeout = "300 s",
    replay: options.Replay = None,
    checkpoints: options.Checkpoints = None,
    checkpoint_every: options.Every = 100,
    start: options.Start = None,
    check_replicas: options.CheckReplicas = False,
    trace: options.Trace = None,
    losses: options.Losses = None,
    save: options.Save = None,
    form: Format = "table",
    as_json: Json = False,
) -> None:
    """Train a scenario's model with its method, and measure.

    The workers are processes on this machine, one each. Under torchrun each process that it
    started is a worker, and rank 0 speaks for all.
    """
    from sim.scenario import load

    form = format_asked(form, as_json)
    timeout_s = options.checked_run(device, backend, timeout)
    for name, number in (("--nproc", nproc), ("--checkpoint-every", checkpoint_every)):
        if number is not None and number < 1:
            raise UserError(f"{name}: {number}: must be at least 1")
    if checkpoints is not None:
        checked_folder("--checkpoints", checkpoints)
    for name, path, suffixes in (
        ("--trace", trace, TRACES),
        ("--losses", losses, (".csv",)),
        ("--save", save, (".safetensors",)),
    ):
        if path is not None:
            checked_file(name, path, suffixes)
    happened = None if replay is None else logged(replay)

    if "RANK" not in os.environ:
        from realrun.launch import launch

        workers = len(load(asked.source, asked.options, asked.settings, single=True).workers)
        raise typer.Exit(launch(sys.argv[1:], options.checked_processes(workers, nproc)))

    from realrun.report import check_held_out, progress, show, write_losses
    from realrun.training import Asked as Training
    from realrun.training import run_worker

    training = Training(
        asked.source,
        asked.options,
        asked.settings,
        replay=happened,
        checkpoints=checkpoints,
        checkpoint_every=checkpoint_every,
        device=device,
        backend=backend,
        timeout_s=timeout_s,
        save=save,
        start=start,
        check_replicas=check_replicas,
    )
    scenario = load(asked.source, asked.options, asked.settings, single=True)
    with progress(scenario.horizon_tokens) as step:
        outcome = run_worker(training, step)
    if outcome is None:
        return
    if trace is not None:
        from sim.trace_files import save as save_trace

        save_trace(outcome.trace, trace)
    if losses is not None:
        write_losses(outcome.losses, losses)
    show(outcome, scenario, form)
    check_held_out(outcome)
