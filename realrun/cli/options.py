"""Options that several commands of realrun have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sim.output.errors import UserError, chosen
from sim.processes.cores import cores_allowed


def _option(name: str, metavar: str | None, text: str, panel: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        name, metavar=metavar, help=text, rich_help_panel=panel
    )
    return option


Nproc = Annotated[
    int | None,
    _option("--nproc", "N", "Processes to start here: one per worker.", "Run"),
]
Device = Annotated[str, _option("--device", "DEVICE", "auto, cpu or cuda.", "Run")]
Backend = Annotated[
    str,
    _option(
        "--backend",
        "BACKEND",
        "auto, gloo or nccl; auto is nccl where each process has a GPU.",
        "Run",
    ),
]
Timeout = Annotated[
    str,
    _option("--timeout", "DURATION", "How long a peer is waited for, at first and later.", "Run"),
]
Replay = Annotated[
    Path | None,
    _option("--replay", "TRACE", "Repeat the observations of a trace instead of looking.", "Run"),
]
Checkpoints = Annotated[
    Path | None,
    _option(
        "--checkpoints", "FOLDER", "Write checkpoints here, and resume from the last one.", "Run"
    ),
]
Every = Annotated[
    int, _option("--checkpoint-every", "ROUNDS", "Rounds of the method between two.", "Run")
]
CheckReplicas = Annotated[
    bool,
    _option(
        "--check-replicas",
        None,
        "Compare at every round what the method keeps equal on all workers, and stop where it is "
        "not.",
        "Run",
    ),
]
EvaluateEvery = Annotated[
    int | None,
    _option(
        "--evaluate-every",
        "ROUNDS",
        "Rounds between two evaluations on text that no worker trains on; all workers wait.",
        "Run",
    ),
]
Start = Annotated[
    Path | None,
    _option("--start", "FILE", "Begin with the model that --save has written.", "Run"),
]
Trace = Annotated[
    Path | None,
    _option(
        "--trace",
        "FILE",
        "Write what happened: .parquet or .csv for plot and --replay, .json or .json.gz for "
        "Perfetto.",
        "Output",
    ),
]
Losses = Annotated[
    Path | None,
    _option(
        "--losses",
        "FILE",
        "Write every micro-batch's loss by rank: .csv. While it trains, each rank adds to a file "
        "in FILE.parts.",
        "Output",
    ),
]
Log = Annotated[
    list[str] | None,
    _option(
        "--log",
        "KIND:WHERE",
        "Log losses while it trains: tensorboard:FOLDER or wandb:PROJECT; may be repeated.",
        "Output",
    ),
]
Save = Annotated[
    Path | None, _option("--save", "FILE", "Write the trained model: .safetensors.", "Output")
]

_FEW = 16  # as many as a lab has; more only by the number of cores
_PER_CORE = 4


def checked_processes(
    workers: int, nproc: int | None = None, *, has_nproc: bool = True, said: str = ""
) -> int:
    """Return how many processes to start here: one per worker.

    ``has_nproc`` is whether the command has ``--nproc``, by which the number is confirmed; ``said``
    what the scenario has, in words.

    Raises
    ------
    UserError
        For another number than the scenario has workers, and for many more than the machine has
        cores where the number was not confirmed.
    """
    said = said or f"{workers} workers"
    if nproc is not None:
        if nproc != workers:
            raise UserError(
                f"--nproc: {nproc}: the scenario has {said}, each a process; give "
                f"--nproc {workers}, or change their number in the scenario"
            )
        return nproc
    cores = cores_allowed()
    most = max(_FEW, _PER_CORE * cores)
    if workers > most:
        raise UserError(
            f"the scenario has {said}, each a process, and this machine has {cores} "
            f"cores; up to {most} are started unasked: choose fewer (--sites, --workers)"
            + (f", use torchrun on more machines, or give --nproc {workers}" if has_nproc else "")
        )
    return workers


_DEVICES = ("auto", "cpu", "cuda")
_BACKENDS = ("auto", "gloo", "nccl")


def checked_run(device: str, backend: str, timeout: str) -> float:
    """Check --device, --backend and --timeout; return the last in seconds.

    Raises
    ------
    UserError
        One line about the first that cannot be.
    """
    from sim.units import UnitError, parse_duration

    chosen("--device", device, _DEVICES)
    chosen("--backend", backend, _BACKENDS)
    try:
        timeout_s = parse_duration(timeout)
    except UnitError as error:
        raise UserError(f'--timeout: "{timeout}": {error}') from error
    if timeout_s < 1:
        raise UserError(f"--timeout: {timeout}: must be at least 1 s")
    return timeout_s
