"""Workers of many accelerators: the scenario inside one, and a scenario with all written out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any

from sim.methods import BY_COUNTS
from sim.methods.ddp import ddp
from sim.methods.inside import fsdp
from sim.methods.islands import on_islands
from sim.program import ArgumentError, Program
from sim.records.pairs import Pairs
from sim.records.scenario import (
    Collectives,
    Inside,
    Method,
    ModelSize,
    Network,
    Run,
    Scenario,
    Site,
    Worker,
)

PROGRAMS: dict[str, tuple[Callable[..., Program], Mapping[str, Any]]] = {
    "ddp": (ddp, {}),
    "zero1": (ddp, {"zero1": True}),
    "fsdp": (fsdp, {}),
}
"""What may happen inside: a program, and arguments of it that are not to be chosen."""


def scenario_of(inside: Inside, model: ModelSize, run: Run) -> Scenario:
    """Return what the accelerators of one island do: a worker each, and a site per node."""
    program, fixed = PROGRAMS[inside.method]
    count, per_node = inside.accelerators, inside.per_node
    nodes = -(-count // per_node)
    sites = tuple(
        Site(
            f"node-{node + 1}",
            min(per_node, count - node * per_node),
            uplink=inside.between_bandwidth,
            downlink=inside.between_bandwidth,
            within_bandwidth=inside.within_bandwidth,
            within_latency=inside.within_latency,
        )
        for node in range(nodes)
    )
    return Scenario(
        run=run,
        model=model,
        method=Method(program.__name__, program, {**fixed, **dict(inside.arguments)}),
        workers=tuple(
            Worker(place, place // per_node, inside.accelerator) for place in range(count)
        ),
        sites=sites,
        network=_between(nodes, inside),
    )


def _between(nodes: int, inside: Inside) -> Network:
    away = range(nodes)
    return Network(
        Pairs.of([[inf for _ in away] for _ in away]),
        Pairs.of([[0.0 if a == b else inside.between_latency for b in away] for a in away]),
        Collectives(inside.algorithm, tuple(away)),
        per="site",
    )


def accelerators_of(scenario: Scenario) -> Scenario:
    """Return a scenario with every accelerator of every island as a worker.

    The method runs between islands, and what happens inside a step is its own program
    (:func:`sim.methods.islands.on_islands`): nothing of an island is simulated beforehand. A
    scenario without islands is returned as it is.

    Raises
    ------
    sim.program.ArgumentError
        Where islands differ in what they do or in how many accelerators they have, or where the
        method runs nothing inside them.
    """
    machines = [worker.machine for worker in scenario.workers]
    insides = [machine.inside for machine in machines if machine.inside is not None]
    if not insides:
        return scenario
    first = insides[0]
    kinds = {
        (inside.method, inside.arguments, inside.accelerators, inside.exchange)
        for inside in insides
    }
    if len(insides) < len(machines) or len(kinds) > 1:
        raise ArgumentError(
            "site.inside: islands of different kinds, or next to single accelerators, are only "
            "simulated; give all sites the same method, arguments, exchange and number of "
            "accelerators"
        )
    if scenario.method.name == "ddp" and first.method != "ddp":
        raise ArgumentError(
            f'site.inside.method: "{first.method}": ddp between islands averages gradients in '
            'every step, and nothing else happens inside; give "ddp"'
        )
    count = first.accelerators
    if scenario.method.name in BY_COUNTS:
        raise ArgumentError(
            f'method.name: "{scenario.method.name}" looks at the clock, and shares out its '
            "optimizer over all workers: between islands it is only simulated; leave "
            f"site.inside out, and give every accelerator as a worker: site.workers = {count}"
        )
    program, fixed = PROGRAMS[first.method]
    inside = partial(program, **fixed, **dict(first.arguments))
    method = scenario.method
    program_of_all = on_islands(
        method.program,
        inside,
        count,
        leader=first.exchange == "leader",
        gradient_dtype=dict(first.arguments)["comm_dtype"] if first.method == "ddp" else None,
    )
    workers = [
        Worker(worker.rank * count + place, worker.site, own.accelerator)
        for worker, own in zip(scenario.workers, insides, strict=True)
        for place in range(count)
    ]
    of_sites = [insides[ranks[0]] for ranks in scenario.ranks_by_site]
    sites = [
        replace(
            site,
            workers=site.workers * count,
            within_bandwidth=own.within_bandwidth,
            within_latency=own.within_latency,
        )
        for site, own in zip(scenario.sites, of_sites, strict=True)
    ]
    return replace(
        scenario,
        method=replace(method, program=program_of_all, island=count),
        workers=tuple(workers),
        sites=tuple(sites),
    )


def counted(scenario: Scenario) -> str:
    """Say how many workers a scenario has, and of which islands they are the accelerators."""
    count, island = len(scenario.workers), scenario.method.island
    if not island:
        return f"{count} worker{'s' * (count > 1)}"
    islands = count // island
    return f"{count} accelerators ({islands} island{'s' * (islands > 1)} of {island})"
