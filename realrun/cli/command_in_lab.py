"""``realrun lab SCENARIO -- COMMAND``: any command, once per worker."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from signal import Signals

import typer

from realrun.errors import RunError
from sim.output.options import Asked
from sim.output.show import checked_file, show, tell
from sim.output.tables import Report, as_csv, as_json
from sim.storage.files import replacing

_RECORDS = (".json", ".csv")
_PICTURES = (".png", ".svg", ".pdf")


def run(
    asked: Asked,
    command: Sequence[str],
    out: Path | None,
    picture: Path | None,
    form: str,
    *,
    plain: bool,
) -> int:
    """Run a command in a scenario's lab, report, and return the status of the rank that failed.

    Raises
    ------
    UserError, RunError
        One line: what cannot be, or how a rank was ended.
    """
    from realrun.doctor.machine import usable_cores
    from realrun.lab import built, commands, not_emulated, topology
    from realrun.lab.command_report import report
    from realrun.lab.told import checked
    from sim.scenario import load

    remark = checked(command)
    if out is not None:
        checked_file("--out", out, _RECORDS)
    if picture is not None:
        checked_file("--picture", picture, _PICTURES)
    scenario = load(asked.source, asked.options, asked.settings, single=True)
    found, cores = topology(scenario, varying=True), usable_cores()
    tell(f"In a lab on this machine: {found.workers} namespaces, checked:")
    for line in (not_emulated(scenario), remark and f"realrun: warning: {remark}"):
        if line:
            tell(line)
    with built(found, lambda check: tell(f"  {check}")) as network:
        sys.stdout.flush()
        ran = commands.run(network, command, cores, plain=plain, aside=form in ("json", "csv"))
    made = report(ran, found, list(command), cores)
    try:
        show(made, form)
        sys.stdout.flush()
    finally:  # files are written all the same
        failures = [*_written(made, out), *_drawn(made, picture)]
    for line in failures:
        typer.echo(f"realrun: error: {line}", err=True)
    failed = ran.first_failed
    if ran.trouble:
        raise RunError(ran.trouble)
    if failed is None:
        return 2 if failures else 0
    if failed.status < 0:
        name = Signals(-failed.status).name
        others = [end for end in ran.ends if end.by_lab]
        rest = "; the other workers were ended" if others else ""
        raise RunError(f"rank {failed.rank} was killed by {name}{rest}")
    typer.echo(f"realrun: rank {failed.rank} ended with status {failed.status}", err=True)
    return failed.status


def _written(made: Report, out: Path | None) -> list[str]:
    """Write the record; return in a line why that was not possible."""
    if out is None:
        return []
    text = as_json(made.data) if out.suffix == ".json" else as_csv(made.rows)
    try:
        with replacing(out) as partial:
            partial.write_text(text + "\n")
    except OSError as error:
        return [f"--out: {out}: could not be written: {error.strerror}"]
    tell(f"realrun: wrote {out}")
    return []


def _drawn(made: Report, picture: Path | None) -> list[str]:
    """Draw the traffic; return in a line why that was not possible."""
    if picture is None:
        return []
    from matplotlib.figure import Figure

    from sim.figures.pictures.saving import save
    from sim.figures.pictures.traffic import traffic
    from sim.output.drawn_columns import legend_below

    figure = Figure(figsize=(8, 5), layout="constrained")
    ax = traffic(made.data["traffic"], figure.subplots(), made.data["seconds"])
    legend_below(figure, [ax])
    try:
        save(figure, picture)
    except (OSError, ValueError) as error:
        return [f"--picture: {picture}: could not be written: {error}"]
    tell(f"realrun: wrote {picture}")
    return []
