"""``realrun record``: what a torch.distributed program sends, and computes in between."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from sim.output.errors import UserError, did_you_mean
from sim.output.show import checked_file, tell
from sim.units import format_bytes, format_count, format_seconds

_COMMAND = typer.Argument(
    metavar="-- COMMAND ...",
    help="The program and its arguments, behind two hyphens: -- python train.py --lr 1e-3",
    show_default=False,
)
_OUT = typer.Option(
    "--out", metavar="FILE", help="Where the recording goes: .parquet.", rich_help_panel="Output"
)
_STEPS = typer.Option(
    "--steps",
    metavar="N",
    help="End the program after that many steps; by default it ends by itself.",
    rich_help_panel="Run",
    show_default=False,
)
_NPROC = typer.Option(
    "--nproc",
    metavar="N",
    help="Start the command this many times on this machine, as torchrun does, one rank each; "
    "without it the command is started once, and starts its processes itself.",
    rich_help_panel="Run",
    show_default=False,
)
_JOIN = typer.Option(
    "--join",
    metavar="FOLDER",
    help="Instead of running a command, make a recording of the folders FILE.parts that its ranks "
    "have left on several machines, put into one.",
    rich_help_panel="Run",
    show_default=False,
)


def record(
    command: Annotated[list[str] | None, _COMMAND] = None,
    out: Annotated[Path, _OUT] = Path("recording.parquet"),
    steps: Annotated[int | None, _STEPS] = None,
    nproc: Annotated[int | None, _NPROC] = None,
    join: Annotated[Path | None, _JOIN] = None,
) -> None:
    """Record any torch.distributed program, to be replayed on any network.

    The program is started with a process group of ours, which notes every collective: kind, bytes,
    type, group, when it was issued and awaited. The tensors' contents are not read, and nothing
    else of the program is changed.

    bandwise simulate FILE --bandwidth 1Gbit/s --rtt 80ms replays it.
    """
    for name, number in (("--steps", steps), ("--nproc", nproc)):
        if number is not None and number < 1:
            raise UserError(f"{name}: {number}: must be at least 1")
    if join is None and not command:
        raise UserError("COMMAND: missing; give the program behind --, like -- torchrun ... x.py")
    if join is not None and command:
        raise UserError("--join: runs no command; leave one of them out")
    checked_file("--out", out, (".parquet",))
    if join is not None:
        if not join.is_dir():
            raise UserError(f"--join: there is no folder {join}")
        _write(_joined(join, steps, killed=""), out, 0)
        return
    assert command is not None
    _check_command(command[0])
    if "RANK" in os.environ:
        _record_rank(command, out, steps, nproc)
    from realrun.recording.run import record as run

    folder = _parts(out)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        recorded = run(command, nproc, folder, steps, lambda line: tell(f"realrun: {line}"))
        _write(recorded.joined, out, recorded.status)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    raise typer.Exit(recorded.status)


def _record_rank(command: list[str], out: Path, steps: int | None, nproc: int | None) -> None:
    """Record one rank that torchrun or a lab has started; the last to end joins them all."""
    from realrun.recording.run import check_disk, last_of_all, record_rank
    from sim.processes.signals import end_when_asked

    if nproc is not None:
        raise UserError("--nproc: RANK is set, so this is one rank of several; leave --nproc out")
    end_when_asked("realrun")
    folder = _parts(out)
    status = record_rank(command, folder)
    workers = int(os.environ.get("WORLD_SIZE", "1"))
    statuses = last_of_all(folder, os.environ["RANK"], workers, status)
    if statuses is not None:
        failed = [rank for rank, each in enumerate(statuses) if each]
        killed = f"rank {failed[0]} ended with status {statuses[failed[0]]}" if failed else ""
        try:
            check_disk(folder)
            _write(_joined(folder, steps, killed), out, max(map(abs, statuses)))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    raise typer.Exit(status if status >= 0 else 128 - status)


def _parts(out: Path) -> Path:
    return out.with_name(f"{out.name}.parts")


def _check_command(name: str) -> None:
    from realrun.recording.run import found

    if found(name):
        return
    folders = [Path(each) for each in os.environ.get("PATH", "").split(os.pathsep) if each]
    names = {path.name for each in folders if each.is_dir() for path in each.iterdir()}
    raise UserError(f"COMMAND: {name}: no such command{did_you_mean(name, names, '')}")


def _joined(folder: Path, steps: int | None, killed: str) -> object:
    from realrun.recording.join import join

    return join(folder, killed=killed, most=steps)


def _write(joined: object, out: Path, status: int) -> None:
    from realrun.recording.join import Joined
    from sim.recording.files import load, save
    from sim.scenario.cores import recorded

    assert isinstance(joined, Joined)
    save(joined.trace, joined.about, out)
    about, plan = joined.about, load(out).plan
    sent = sum(row.bytes for row in joined.trace.rows if row.rank == 0) / about["steps"]
    number = sum(row.bytes > 0 for row in joined.trace.rows if row.rank == 0) / about["steps"]
    if about["killed"] not in ("", "enough"):
        tell(f"realrun: warning: {about['killed']}; what was recorded until then is kept")
    for line in recorded(about, str(out)):
        tell(f"realrun: warning: {line}")
    tell(
        f"realrun: wrote {out}: {about['steps']} steps of {about['workers']} ranks, found by "
        f"{about['steps_by']}; a step computes {format_seconds(plan.step_s)} and issues "
        f"{format_count(number)} collective{'s' * (number != 1)}, {format_bytes(sent)} in all"
    )
    if status == 0:
        tell(f"replay it: bandwise simulate {out} --bandwidth 1Gbit/s --rtt 80ms")
