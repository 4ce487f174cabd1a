"""``realrun doctor``: whether this machine, or this cluster, is ready."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from realrun.cli import options
from sim.output.options import Asked, Format, Json, takes_scenario
from sim.output.show import show
from sim.output.tables import Block, Column, Report, Section, Table, format_asked

if TYPE_CHECKING:
    from realrun.doctor.cluster import Cluster, Machine
    from realrun.doctor.finding import Finding
    from realrun.doctor.look import Plan

_CHECKPOINTS = typer.Option(
    "--checkpoints", metavar="FOLDER", help="Where checkpoints are to lie: is there room?"
)
_TIMEOUT = typer.Option("--timeout", metavar="DURATION", help="How long a peer is waited for.")

_FINDINGS = (Column("check", "check"), Column("verdict", "verdict"), Column("what", "found"))
_MACHINES = (
    Column("machine", "machine"),
    Column("verdict", "verdict"),
    Column("python", "Python"),
    Column("torch", "torch"),
    Column("nccl", "NCCL"),
    Column("gpus", "GPUs"),
    Column("cores", "cores"),
    Column("memory", "memory free"),
    Column("address", "address"),
    Column("clock", "clock ahead (ms)"),
    Column("round_trip", "round trip (ms)"),
)
_ROWS = (
    Column("machine", "machine"),
    Column("part", "for"),
    *_FINDINGS,
    Column("fix", "fix"),
)
_NOT_READY = 1


@takes_scenario()
def doctor(
    asked: Asked,
    checkpoints: Annotated[Path | None, _CHECKPOINTS] = None,
    timeout: Annotated[str, _TIMEOUT] = "30 s",
    form: Format = "table",
    as_json: Json = False,
) -> None:
    """Look whether this machine is ready to train, and to emulate a network; nothing is changed.

    With a scenario, or a study to be validated, it is asked whether that one fits. Started by
    torchrun, every rank looks at its own machine and at the others, and rank 0 speaks. The status
    is 0 if training can run, and 1 if something that it needs is missing.
    """
    from realrun.doctor.cluster import alone, together
    from realrun.doctor.look import looked_for_lab

    form = format_asked(form, as_json)
    timeout_s = options.checked_run("auto", "auto", timeout)
    plan = _plan(asked, checkpoints)
    if "RANK" not in os.environ:
        found, leave = alone(plan), None
        show(_report(found, looked_for_lab(plan)), form)
    else:
        from dataclasses import replace

        cluster, leave = together(
            lambda started, here: replace(plan, started=started, here=here), timeout_s
        )
        if cluster is None:
            leave()
            return
        found = cluster
        show(_report(found, []), form)
    status = 0 if found.ready else _NOT_READY
    sys.stdout.flush()
    if status and leave is not None:
        os._exit(status)  # a thread may be in a collective that never ends
    raise typer.Exit(status)


def _plan(asked: Asked, checkpoints: Path | None) -> Plan:
    from realrun.doctor.look import Plan

    if asked.source is None and not asked.options and not asked.settings:
        return Plan(checkpoints=checkpoints)
    from realrun.validation.plan import to_be_measured

    processes = int(os.environ["WORLD_SIZE"]) if "RANK" in os.environ else None
    given = to_be_measured(asked.source, asked.options, asked.settings, processes)
    return Plan(given[0], checkpoints)


def _report(found: Cluster, lab: list[Finding]) -> Report:
    findings = [f for machine in found.machines for f in machine.findings]
    everything = [*findings, *found.between, *lab]
    can_train = found.ready
    lab_ready = not [f for f in lab if f.verdict == "missing"]
    lines = _lines(found, lab)
    blocks: list[Block] = [_answer(found, lab, can_train, lab_ready)]
    if found.machines[0].ranks:
        blocks.append(_machines(found))
    else:
        blocks.append(Table(_FINDINGS, [_record(f) for f in findings], "To train"))
        blocks.append(
            Table(_FINDINGS, [_record(f) for f in lab], "To emulate a network (realrun lab)")
        )
    if lines:
        blocks.append(Section("To do", "\n".join(f"  {line}" for line in lines)))
    data = {
        "ready": can_train,
        "missing": [f.check for f in everything if f.verdict == "missing" and f.part == "training"],
        "machines": [_data(found, machine) for machine in found.machines],
        "between": [_record(f) for f in found.between],
        "problems": lines,
    }
    if lab:
        data["lab"] = {"ready": lab_ready, "findings": [_record(f) for f in lab]}
    rows = [
        {"machine": machine.name, **_record(f)}
        for machine in found.machines
        for f in machine.findings
    ]
    rows += [{"machine": "all", **_record(f)} for f in [*found.between, *lab]]
    return Report(blocks, data, Table(_ROWS, rows))


def _answer(found: Cluster, lab: list[Finding], can_train: bool, lab_ready: bool) -> str:
    where = "here" if not found.machines[0].ranks else "on these machines"
    if can_train:
        text = f"Training can run {where}."
        text += "".join(f" {f.what.capitalize()}." for f in found.between if f.check == "trial")
    else:
        checks = [
            f.check
            for f in [*found.between, *(f for m in found.machines for f in m.findings)]
            if f.verdict == "missing"
        ]
        text = f"Training cannot run {where}: missing: {', '.join(dict.fromkeys(checks))}."
    if lab:
        text += f" A lab can{'' if lab_ready else 'not'} run here."
    return text


def _lines(found: Cluster, lab: list[Finding]) -> list[str]:
    """Name every problem in a line, with its fix."""
    several = len(found.machines) > 1
    lines = []
    for machine in found.machines:
        start = f"{machine.name}: " if several else ""
        lines += [f"{start}{f}" for f in machine.findings if f.verdict != "ready"]
    return lines + [str(f) for f in [*found.between, *lab] if f.verdict != "ready"]


def _record(finding: Finding) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(finding)


def _machines(found: Cluster) -> Table:
    """Return a row per machine; what is not as on most others is marked."""
    usual = found.differing()
    rows = []
    for machine in found.machines:
        row: dict[str, Any] = {"machine": machine.name, "verdict": machine.verdict}
        for key, value in machine.facts.items():
            row[key] = f"{value} <<" if key in usual and usual[key] != value else value
        clock, trip = _clock(found, machine)
        row["clock"] = "–" if clock is None else f"{round(clock * 1e3, 1) + 0.0:.1f}"
        row["round_trip"] = "–" if trip is None else f"{trip * 1e3:.2f}"
        rows.append(row)
    return Table(_MACHINES, rows)


def _clock(found: Cluster, machine: Machine) -> tuple[float | None, float | None]:
    """Seconds ahead of rank 0's time of day, and there and back; None where nobody measured."""
    saw = found.machines[0].seen.get(machine.ranks[0]) if machine.ranks else None
    if saw is None or saw.trouble:
        return None, None
    return saw.ahead_s, saw.round_trip_s


def _data(found: Cluster, machine: Machine) -> dict[str, Any]:
    clock, trip = _clock(found, machine)
    return {
        "host": machine.host,
        "ranks": list(machine.ranks),
        "verdict": machine.verdict,
        **machine.facts,
        "clock_ahead_s": clock,
        "round_trip_s": trip,
        "findings": [_record(finding) for finding in machine.findings],
    }
