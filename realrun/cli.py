"""``realrun``: train for real what ``bandwise simulate`` predicts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def about() -> None:
    """Measure: the programs that bandwise simulates, run on torch.distributed."""


@app.command()
def train(
    scenario: Annotated[str, typer.Argument(help="A scenario file, or the name of a bundled one.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set any key.")
    ] = None,
    nproc: Annotated[
        int | None, typer.Option(help="Processes; by default one per worker of the scenario.")
    ] = None,
) -> None:
    """Train a scenario's model with its method; one process per worker.

    Under torchrun each process trains its replica. Otherwise the workers are started here, on
    this machine.
    """
    from sim.scenario import ScenarioError, load

    try:
        if "RANK" in os.environ:
            _replica(scenario, settings or [])
            return
        workers = nproc or len(load(scenario, {}, settings or []).workers)
    except ScenarioError as error:
        typer.echo(f"realrun: error: {error}", err=True)
        raise typer.Exit(2) from error
    raise typer.Exit(_launch(workers))


def _launch(workers: int) -> int:
    """Start this very command once per worker; the first to fail ends the others."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "realrun", *sys.argv[1:]]
    processes = [
        subprocess.Popen(command, env={**common, "RANK": str(rank), "WORLD_SIZE": str(workers)})
        for rank in range(workers)
    ]
    try:
        waiting = list(processes)
        while waiting:
            for process in list(waiting):
                try:
                    code = process.wait(timeout=0.2)
                except subprocess.TimeoutExpired:
                    continue
                waiting.remove(process)
                if code:
                    return code
        return 0
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            process.wait()


def _replica(source: str, settings: list[str]) -> None:
    from realrun.report import progress, show
    from realrun.training import Asked, run_worker

    with progress() as step:
        outcome = run_worker(Asked(source, {}, settings), step)
    if outcome is not None:
        show(outcome, source, settings)


def main() -> None:
    """Entry point."""
    if find_spec("torch") is None:
        sys.exit('realrun: error: torch is not installed; pip install "bandwise[realrun]"')
    app()
