"""``realrun calibrate``: measure a machine and its network for the simulator."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from realrun.cli import options
from sim.output.errors import UserError
from sim.output.options import Asked, takes_scenario
from sim.output.show import checked_file
from sim.scenario.errors import did_you_mean
from sim.storage.files import clear_partial

if TYPE_CHECKING:
    from sim.scenario import Loaded

_PARTS = ("network", "compute")
_OUT = typer.Option("--out", metavar="FILE", help="The hardware file to write: .toml.")
_ONLY = typer.Option(
    "--only",
    metavar="PARTS",
    help="network, compute, or both with a comma. The network needs "
    "no GPU and no model's dimensions.",
)
_LAB = typer.Option("--lab", help="Over the scenario's network, emulated on this machine.")


@takes_scenario()
def calibrate(
    asked: Asked,
    out: Annotated[Path, _OUT],
    only: Annotated[str, _ONLY] = "network,compute",
    lab: Annotated[bool, _LAB] = False,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    timeout: options.Timeout = "300 s",
) -> None:
    """Measure a machine and its network, and write a hardware file for the simulator.

    The scenario says how many workers, how large the model, how much one step computes; a study
    to be validated says it for all its cases. Links are measured as they are, not as it asks for,
    unless --lab emulates them. Under torchrun every process is a worker. What is sent is zeros,
    and a model that is thrown away.
    """
    from realrun.validation.plan import to_be_measured

    parts = [part.strip() for part in only.split(",")]
    for part in parts:
        if part not in _PARTS:
            raise UserError(
                f"--only: {part}: must be network, compute or both{did_you_mean(part, _PARTS, '')}"
            )
    timeout_s = options.checked_run(device, backend, timeout)
    if os.environ.get("RANK", "0") == "0":
        checked_file("--out", out, (".toml",))
    processes = int(os.environ["WORLD_SIZE"]) if "RANK" in os.environ else None
    cases = to_be_measured(asked.source, asked.options, asked.settings, processes)
    given = cases[0]
    dtypes = sorted({case.scenario.comm_dtype for case in cases})
    scenario = given.scenario
    if parts == ["network"] and len(scenario.sites) < 2:
        raise UserError("--only: network: the scenario has one site, so there is no link; give two")
    if "RANK" in os.environ:
        _measure(given, dtypes, out, parts, device, backend, timeout_s)
        return
    options.checked_processes(len(scenario.workers), has_nproc=False)
    try:
        if lab:
            from realrun.lab import built, not_emulated, topology

            found = topology(scenario)
            typer.echo(f"realrun: in a lab with {found.workers} workers", err=True)
            if remark := not_emulated(scenario):
                typer.echo(remark, err=True)
            with built(found) as network:
                raise typer.Exit(network.run([*sys.argv[1:], "--backend", "gloo"]))
        from realrun.processes.launch import launch

        raise typer.Exit(launch(sys.argv[1:], len(scenario.workers)))
    finally:
        clear_partial(out.parent)  # a worker that was ended may have been writing


def _measure(
    given: Loaded,
    dtypes: list[str],
    out: Path,
    parts: list[str],
    device: str,
    backend: str,
    timeout_s: float,
) -> None:
    """Measure as one worker of those that take part; rank 0 writes and tells."""
    from realrun.calibration.launch import Calibration
    from realrun.calibration.records import write
    from realrun.processes.placement import meet
    from realrun.processes.rendezvous import rank_and_workers
    from realrun.runnable import check_runnable, check_workers
    from realrun.training import Asked as Training
    from realrun.training import opened

    file = given.sections
    train = file.train.model_copy(update={"compute_mode": "real", "emulate_speeds": False})
    file = file.model_copy(update={"train": train})
    # Nothing is trained to an end, so a scenario need not have one.
    run = replace(given.scenario.run, tokens=None, steps=None, rounds=1)
    scenario = replace(given.scenario, run=run)
    rank, workers = rank_and_workers()
    check_workers(scenario, workers)
    if "compute" in parts:
        check_runnable(scenario, file, workers)

    def tell(text: str) -> None:
        if rank == 0:
            typer.echo(f"realrun: {text}", err=True)

    with meet(device, backend, timeout_s) as place:
        calibration = Calibration(place, scenario, dtypes, timeout_s, tell)
        if "network" in parts:
            calibration.own_network()
        if "compute" in parts:
            training = Training(timeout_s=timeout_s)
            trained = opened(place, training, replace(given, scenario=scenario, sections=file))
            calibration.operations(trained)
            if "network" in parts:
                calibration.during_traffic(trained)
            calibration.operations(trained)
            trained.shared.close()
        contents = calibration.contents()
        if contents is not None:
            write(contents, out)
            tell(f"wrote {out}; use it with bandwise simulate --hardware {out}")
