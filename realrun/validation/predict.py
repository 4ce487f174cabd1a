"""What the simulator says of a configuration, from a calibration and from less."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from math import inf
from pathlib import Path

from realrun.validation.plan import Planned
from sim.compute import cold_start_s
from sim.figures import Figures, figures
from sim.runtime import simulate
from sim.scenario import Scenario
from sim.scenario.hardware import (
    Hardware,
    LinkRecord,
    MachineRecord,
    read_hardware,
    tables_of,
)
from sim.scenario.links import GLOO_THREADS
from sim.scenario.resolved import Collectives, HostCosts, Jitter, Machine, Network
from sim.scenario.samples import normalised
from sim.trace import Trace

_DRAWS = 9


def calibration(path: Path) -> Hardware:
    """Read the hardware file of a launch."""
    return read_hardware(path.resolve(), path.name)


def as_calibrated(each: Planned, hardware: Hardware) -> Scenario:
    """Return a configuration with what was measured of machine and network filled in.

    Paced computation takes the scenario's times; real computation those of the calibration.
    """
    record, network = _record(hardware), network_of(each, hardware)
    if hardware.backend == "gloo":
        collectives = replace(
            network.collectives,
            algorithm="gloo",
            concurrent=GLOO_THREADS,
            host=HostCosts(
                message_s=record.message_s or 0.0,
                byte_s=record.byte_s or 0.0,
                call_s=record.call_s or 0.0,
                element_s=record.element_s or 0.0,
                quantized_element_s=record.quantized_element_s or 0.0,
            ),
            tables=(),
        )
    else:  # one collective after the other, as long as it was measured to take
        tables = [table for link in hardware.links.values() for table in tables_of(link)]
        collectives = replace(network.collectives, concurrent=1, tables=tuple(tables))
    filled = each.scenario.on(replace(network, collectives=collectives))
    return _computing(filled, each, record)


def bandwidth_only(each: Planned, hardware: Hardware) -> Scenario:
    """Return it with nothing but bytes over bandwidth between computations."""
    network = network_of(each, hardware)
    no_latency = tuple(tuple(0.0 for _ in row) for row in network.latency)
    return _formula(each, _record(hardware), replace(network, latency=no_latency))


def alpha_beta(each: Planned, hardware: Hardware) -> Scenario:
    """Return it with the textbook's ring: one-way latencies and bytes over bandwidth."""
    return _formula(each, _record(hardware), network_of(each, hardware))


def simulated(scenario: Scenario) -> tuple[Trace, Figures]:
    """Run just the rounds that were measured; figures are of the same window.

    Where something is chance, of several draws the one of median wall-clock: a measurement is
    the median of its repeats, and a few rounds do not average out which message came first.
    """
    rounds = scenario.run.rounds
    assert rounds is not None
    found = []
    for draw in range(_DRAWS if scenario.network.collectives.by_chance else 1):
        trace = simulate(replace(scenario, draw=draw), rounds=rounds)
        found.append((trace, figures(trace, scenario)))
    found.sort(key=lambda each: each[1].wall_clock_s)
    return found[len(found) // 2]


def network_of(each: Planned, hardware: Hardware) -> Network:
    """Return the links as they were measured between a scenario's sites, else as it says.

    Where nobody plays a network, as on a cluster, what a scenario says of its links is not so.
    """
    network, names = each.scenario.network, [site.name for site in each.scenario.sites]
    pairs = list(permutations(range(len(names)), 2))
    links = {(i, j): _between(hardware, names[i], names[j]) for i, j in pairs}
    if not pairs or None in links.values():
        return network
    return network.with_links(lambda i, j: _as_measured(links[i, j]))


def _between(hardware: Hardware, a: str, b: str) -> LinkRecord | None:
    return hardware.links.get(f"{a}-{b}") or hardware.links.get(f"{b}-{a}")


def _as_measured(link: LinkRecord | None) -> tuple[float, float]:
    assert link is not None
    rate, rtt_s = link.goodput_bytes_per_s, link.rtt_s
    return inf if rate is None else rate, (rtt_s or 0.0) / 2


def _record(hardware: Hardware) -> MachineRecord:
    return next(iter(hardware.machines.values()), MachineRecord())


def _formula(each: Planned, record: MachineRecord, network: Network) -> Scenario:
    """One collective after the other by formula; computation as it was measured, undisturbed."""
    plain = Collectives(quantize_block=network.collectives.quantize_block)
    scenario = each.scenario.on(replace(network, collectives=plain))
    undisturbed = record.model_copy(
        update=dict.fromkeys(
            ("communication_s_per_byte", "transmission_slowdown", "cold_start", "quantize_s"), None
        )
    )
    return _computing(scenario, each, undisturbed)


def _computing(scenario: Scenario, each: Planned, record: MachineRecord) -> Scenario:
    fastest = max(worker.machine.speed for worker in scenario.workers)
    emulated = bool(each.sections.train.emulate_speeds)
    workers = []
    for worker in scenario.workers:
        machine = _machine(worker.machine, each.mode, record)
        if each.mode == "real":  # the machine is as fast as it is, or slowed down to a part of it
            machine = replace(machine, speed=machine.speed / fastest if emulated else 1.0)
            machine = _pausing(machine)
        workers.append(replace(worker, machine=machine))
    return replace(scenario, workers=tuple(workers))


def _machine(machine: Machine, mode: str, record: MachineRecord) -> Machine:
    packing = record.quantize_s or 0.0
    if mode == "paced":
        # Even then values are really packed, by a machine of speed 1.
        return replace(machine, quantize_seconds=packing * machine.speed)
    factors, cv = normalised(record.samples) if record.samples else ((), 0.0)
    return replace(
        machine,
        step_seconds=record.inner_step_s or machine.step_seconds,
        optimizer_seconds=record.inner_optimizer_s or 0.0,
        outer_gradient_seconds=record.outer_gradient_s or 0.0,
        outer_step_seconds=record.outer_step_s or 0.0,
        quantize_seconds=packing,
        jitter=Jitter("empirical", cv, factors) if factors else Jitter(),
        communication_s_per_byte=record.communication_s_per_byte or 0.0,
        transmission_slowdown=record.transmission_slowdown.pairs
        if record.transmission_slowdown is not None
        else (),
        cold_start=record.cold_start.pairs if record.cold_start is not None else (),
    )


def _pausing(machine: Machine) -> Machine:
    """Return a machine that sleeps after every operation to be slower: it is cold after each."""
    if machine.speed == 1 or not machine.cold_start:
        return machine
    micro_batch_s = machine.step_seconds / machine.n_grad_accumulation
    slept = micro_batch_s * (1 / machine.speed - 1)
    longer = cold_start_s(machine, slept)
    return replace(
        machine,
        step_seconds=(micro_batch_s + longer) * machine.n_grad_accumulation,
        cold_start=tuple(
            (pause, max(0.0, seconds - longer)) for pause, seconds in machine.cold_start
        ),
    )
