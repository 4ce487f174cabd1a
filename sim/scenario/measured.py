"""Which of a hardware file's numbers a scenario takes: one rule for every command.

``--hardware``, calibration and validation all come through :func:`sim.scenario.resolution.resolve`,
which asks here. Keys of the scenario override the file, with two exceptions that [train] makes
(docs/background/validation.md): paced computation takes nothing but packing from the file, and real
computation takes the file's times before the scenario's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sim.operations import timed
from sim.records.cold_start import cold_start_s
from sim.records.scenario import CollectiveTable, Machine
from sim.scenario.context import Context
from sim.scenario.errors import did_you_mean, listed
from sim.scenario.hardware import LinkRecord, MachineRecord, tables_of

_NOTHING = MachineRecord()


@dataclass(frozen=True)
class Measured:
    """What a hardware file says of the machine of one site."""

    #: How the output calls it; empty without a hardware file.
    name: str = ""
    #: All that was measured of it.
    record: MachineRecord = _NOTHING
    #: What computation takes from it.
    computation: MachineRecord = _NOTHING
    #: Whether that goes before what the scenario gives.
    goes_first: bool = False


def machine_of(context: Context, index: int) -> Measured:
    """Return the machine of the workers of one [[site]] block.

    It is the one that the site names, else the one of the site's name, else the file's only one.

    Raises
    ------
    ScenarioError
        If the file has several and none of them is meant, or not the one that is named.
    """
    hardware, site = context.hardware, context.sections.site[index]
    wanted, document = site.machine, context.document
    name = document.site_name(index)
    name = document.stands_for.get(name, name)
    if hardware is None:
        if wanted is not None:
            text = "there is no hardware file to look it up in; give hardware = ..."
            raise context.refuse("site", index, "machine", text=text)
        return Measured()
    found = hardware.machine(wanted, name)
    if found is None and wanted is not None:
        text = f"not in {hardware.label}{did_you_mean(wanted, hardware.machines)}"
        raise context.refuse("site", index, "machine", text=text)
    if found is None and hardware.machines:
        names = listed(hardware.machines, "and")
        text = f"missing; {hardware.label} has {names}: say which one this site uses"
        raise context.refuse("site", index, "machine", text=text)
    if found is None:
        return Measured()
    shown, record = f"{hardware.label}, machine {found[0]}", found[1]
    mode = context.sections.train.compute_mode
    if mode == "paced":
        return Measured(shown, record, _packing(record, site.speed or 1.0))
    return Measured(shown, record, record, mode == "real" and record.inner_step_s is not None)


def _packing(record: MachineRecord, speed: float) -> MachineRecord:
    """Return what paced computation takes: values are packed by a machine of speed 1."""
    packing: dict[str, Any] = {}
    for row in timed():
        seconds = getattr(record, row.measured)
        if row.scales_with == "elements" and seconds is not None:
            packing[row.measured] = seconds * speed
    return MachineRecord(parameters=record.parameters, **packing)


def real_speed(context: Context, index: int) -> float:
    """Return the speed of a worker that really computes, as realrun makes it.

    A machine is as fast as it is; with ``train.emulate_speeds`` workers are slowed down to
    their site's ``speed`` over the fastest site's.
    """
    if not context.sections.train.emulate_speeds:
        return 1.0
    speeds = [site.speed or 1.0 for site in context.sections.site]
    return speeds[index] / max(speeds)


def slowed_by_sleeping(machine: Machine) -> Machine:
    """Return a machine that sleeps after every operation to be slower: it is cold after each.

    What a micro-batch takes longer after such a sleep is part of every step; only what a longer
    pause costs beyond that remains of ``cold_start``.
    """
    if machine.speed == 1 or not machine.cold_start:
        return machine
    micro_batch_s = machine.step_seconds / machine.n_grad_accumulation
    longer = cold_start_s(machine, micro_batch_s * (1 / machine.speed - 1))
    return replace(
        machine,
        step_seconds=(micro_batch_s + longer) * machine.n_grad_accumulation,
        cold_start=tuple(
            (pause, max(0.0, seconds - longer)) for pause, seconds in machine.cold_start
        ),
    )


def tables_between(links: Iterable[LinkRecord]) -> tuple[CollectiveTable, ...]:
    """Return the measured collectives of the links between the sites.

    A collective spans all sites. Where several links have a table of the same collective it is
    the slowest link's, where ``realrun calibrate`` puts what it measured of all.
    """
    slowest_first = sorted(links, key=lambda link: link.goodput_bytes_per_s or 0.0)
    found: dict[tuple[str, str], CollectiveTable] = {}
    for link in slowest_first:
        for table in tables_of(link):
            found.setdefault((table.operation, table.dtype), table)
    return tuple(found.values())
