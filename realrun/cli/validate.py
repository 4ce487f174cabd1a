"""``realrun validate``: predict runs, run them, and say how far apart the two are."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from realrun.cli import options
from sim.cli.errors import UserError
from sim.cli.options import AllowCode, allowed
from sim.cli.output import checked_folder
from sim.locks import locked
from sim.visible import visible

_OUT = typer.Option("--out", metavar="FOLDER", help="Where results and report go.")
_OTHER = typer.Option(
    "--other-calibration",
    metavar="FOLDER",
    help="A folder of an earlier validation: its calibration is compared with this one's.",
)
_ONLY_REPORT = typer.Option(
    "--report-only", help="Run nothing; write the report of what was measured."
)


def validate(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study with ask = validate.")],
    out: Annotated[Path, _OUT],
    other_calibration: Annotated[Path | None, _OTHER] = None,
    report_only: Annotated[bool, _ONLY_REPORT] = False,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    timeout: options.Timeout = "300 s",
    allow_code: AllowCode = False,
) -> None:
    """Calibrate, predict a study's runs, run them, and publish the error.

    On one machine every network of the study is played in a lab (Linux, root). Under torchrun
    the network is what it is. What was run is not run again: a validation that was broken off
    goes on. Ends with 1 if an error is beyond the study's tolerance.
    """
    from realrun.lab.control import in_a_lab
    from realrun.validation.handing_over import received
    from realrun.validation.kept import seal, tidy
    from realrun.validation.plan import check_workers, planned
    from realrun.validation.run import check_folder, in_labs, reported
    from sim.scenario import load_study

    rank = os.environ.get("RANK", "0")
    if rank == "0":
        checked_folder("--out", out)
    timeout_s = options.checked_run(device, backend, timeout)
    if other_calibration is not None and not other_calibration.is_dir():
        raise UserError(f"--other-calibration: {other_calibration}: no such folder")
    handed = received()
    if handed is None:
        loaded = load_study(allowed(study, allow_code) or study)
        plan = planned(loaded)
    else:
        loaded, plan = handed

    def tell(text: str) -> None:
        typer.echo(f"realrun: {text}", err=True)
        sys.stderr.flush()

    with ExitStack() as held:

        def prepared() -> None:
            """See that nobody else writes there, and that it holds this study or nothing."""
            out.mkdir(parents=True, exist_ok=True)
            if not in_a_lab():  # else whoever built the lab holds it
                held.enter_context(locked(out))
                tidy(out)
                held.callback(tidy, out)
            check_folder(plan, out)
            seal(out)

        if "RANK" in os.environ and not report_only:
            from realrun.placement import meet
            from realrun.validation.measure import Measuring

            with meet(device, backend, timeout_s) as place:
                world = place.world
                check_workers(plan, world.workers)
                world.agreed(prepared if world.rank == 0 else lambda: None)
                said = tell if world.rank == 0 else lambda text: None
                Measuring(loaded, plan, out, place, timeout_s, said).all()
            if world.rank or in_a_lab():  # then whoever built the lab reports
                return
        elif rank != "0":
            return
        else:
            if out.is_dir() or not report_only:
                prepared()
            status = 0 if report_only else in_labs(loaded, plan, out, sys.argv[1:], tell)
            if status:
                raise typer.Exit(status)
        _conclude(reported(loaded, plan, out, other_calibration), out)


def _conclude(held: bool, out: Path) -> None:
    """Print what the report says first; end with 1 where a tolerance does not hold."""
    typer.echo(visible((out / "report.md").read_text().split("\n## ")[0].strip()))
    typer.echo(f"\nThe report: {out / 'report.md'}")
    if not held:
        raise typer.Exit(1)
