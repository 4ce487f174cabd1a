"""``realrun train``: one run, measured."""

from __future__ import annotations

import os
import sys
from functools import partial

import typer

from realrun.cli import options
from realrun.cli.log_option import logs
from realrun.cli.outputs import Outputs
from sim.output.errors import UserError
from sim.output.options import Asked, Format, Json, takes_scenario
from sim.output.tables import format_asked
from sim.output.traces import logged


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
    evaluate_every: options.EvaluateEvery = None,
    trace: options.Trace = None,
    losses: options.Losses = None,
    log: options.Log = None,
    save: options.Save = None,
    form: Format = "table",
    as_json: Json = False,
) -> None:
    """Train a scenario's model with its method, and measure.

    The workers are processes on this machine, one each. Under torchrun each process that it
    started is a worker, and rank 0 speaks for all.
    """
    from sim.scenario import load, loaded

    form = format_asked(form, as_json)
    timeout_s = options.checked_run(device, backend, timeout)
    for name, number in (
        ("--nproc", nproc),
        ("--checkpoint-every", checkpoint_every),
        ("--evaluate-every", evaluate_every),
    ):
        if number is not None and number < 1:
            raise UserError(f"{name}: {number}: must be at least 1")
    outputs = Outputs(trace, losses, save, checkpoints)
    outputs.check()
    logged_to = logs(log or ())
    happened = None if replay is None else logged(replay)

    if "RANK" not in os.environ:
        from realrun.islands import by_accelerator, with_island
        from realrun.processes.launch import launch
        from sim.records.islands import counted
        from sim.records.varying import key_of_links

        asked_for = by_accelerator(load(asked.source, asked.options, asked.settings, single=True))
        workers = options.checked_processes(len(asked_for.workers), nproc, said=counted(asked_for))
        if key := key_of_links(asked_for):
            text = f"{key}: not emulated; training uses the links between the machines as they are"
            typer.echo(f"realrun: warning: {text}", err=True)
        with outputs.of_workers(workers):
            explained = partial(with_island, scenario=asked_for)
            raise typer.Exit(launch(sys.argv[1:], workers, explained=explained))

    from realrun.report import check_held_out, progress, show
    from realrun.training import Asked as Training
    from realrun.training import run_worker

    training = Training(
        replay=happened,
        checkpoints=checkpoints,
        checkpoint_every=checkpoint_every,
        device=device,
        backend=backend,
        timeout_s=timeout_s,
        save=save,
        losses=losses,
        start=start,
        check_replicas=check_replicas,
        evaluate_every=evaluate_every,
        log=logged_to,
    )
    from realrun.islands import to_be_run
    from realrun.runnable import not_clipped

    given = to_be_run(loaded(asked.source, asked.options, asked.settings, single=True))
    if os.environ["RANK"] == "0" and (remark := not_clipped(given)):
        typer.echo(f"realrun: warning: {remark}", err=True)
    with progress(given.scenario.horizon_tokens) as step:
        outcome = run_worker(given, training, step)
    if outcome is None:
        return
    unread = None
    try:
        show(outcome, given.scenario, form)
        sys.stdout.flush()
    except BrokenPipeError as error:  # files are written all the same
        unread = error
    for line in outcome.not_logged:
        typer.echo(f"realrun: warning: {line}", err=True)
    outputs.write(outcome)
    if unread is not None:
        raise unread
    check_held_out(outcome)
