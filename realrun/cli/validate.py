"""``realrun validate``: predict runs, run them, and say how far apart the two are."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from realrun.cli import options
from sim.output.errors import UserError
from sim.output.html_option import PageFile, asked_page, option, save_page
from sim.output.options import AllowCode, allowed
from sim.output.show import checked_folder
from sim.text.visible import visible

if TYPE_CHECKING:
    from realrun.validation.report import Findings

_OUT = typer.Option("--out", metavar="FOLDER", help="Where results and report go.")
_OTHER = typer.Option(
    "--other-calibration",
    metavar="FOLDER",
    help="A folder of an earlier validation, or a hardware file: its calibration is compared with "
    "this one's.",
)
_ONLY_REPORT = typer.Option(
    "--report-only", help="Run nothing; write the report of what was measured."
)


def _of_rank_0(context: typer.Context, page: PageFile | None) -> PageFile | None:
    """Check the page where it is written: other ranks may not see its folder."""
    return asked_page(context, page) if os.environ.get("RANK", "0") == "0" else None


_HTML = option(_of_rank_0)


def validate(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study with ask = validate.")],
    out: Annotated[Path, _OUT],
    other_calibration: Annotated[Path | None, _OTHER] = None,
    report_only: Annotated[bool, _ONLY_REPORT] = False,
    html: Annotated[PageFile | None, _HTML] = None,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    timeout: options.Timeout = "300 s",
    allow_code: AllowCode = False,
) -> None:
    """Calibrate, predict a study's runs, run them, and publish the error.

    On one machine every network of the study is emulated in a lab (Linux, root). Under torchrun
    the network is what it is. What was run is not run again: a validation that was broken off
    resumes. Ends with 1 if an error is beyond the study's tolerance.
    """
    from realrun.validation.handing_over import received
    from realrun.validation.labs import LaunchFailedError
    from realrun.validation.page import as_page
    from realrun.validation.plan import planned
    from realrun.validation.run import How
    from realrun.validation.run import validate as validated
    from sim.scenario import load_study

    if os.environ.get("RANK", "0") == "0":
        checked_folder("--out", out)
        if other_calibration is not None and not other_calibration.exists():
            raise UserError(f"--other-calibration: {other_calibration}: no such folder or file")
    timeout_s = options.checked_run(device, backend, timeout)
    handed = received()
    if handed is None:
        source = allowed(study, allow_code) or study
        loaded = load_study(source)
        plan = planned(loaded)
        html = None if html is None else html.of(source, {}, [])
    else:
        loaded, plan = handed

    def tell(text: str) -> None:
        typer.echo(f"realrun: {text}", err=True)
        sys.stderr.flush()

    def found(findings: Findings) -> None:
        if html is not None:
            save_page(html, as_page(findings, html), "realrun")

    how = None if report_only else How(sys.argv[1:], device, backend, timeout_s, tell)
    try:
        held = validated(loaded, plan, out, how, other_calibration, found)
    except LaunchFailedError as failed:
        raise typer.Exit(failed.status) from None
    if held is not None:
        _conclude(held, out)


def _conclude(held: bool, out: Path) -> None:
    """Print what the report says first; end with 1 where a tolerance does not hold."""
    typer.echo(visible((out / "report.md").read_text().split("\n## ")[0].strip()))
    typer.echo(f"\nThe report: {out / 'report.md'}")
    if not held:
        raise typer.Exit(1)
