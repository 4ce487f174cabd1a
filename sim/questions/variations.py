"""The same scenario with other sites or other bandwidth: what what-if questions vary."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from sim.methods import METHODS
from sim.network.links import Links
from sim.records.pairs import Pairs
from sim.records.profiles import UNVARIED
from sim.records.scenario import CollectiveTable, Machine, Method, Scenario
from sim.records.varying import place_of

_NO_TIME = 1e-12  # seconds


def with_sites(scenario: Scenario, kept: Collection[int]) -> Scenario:
    """Keep some sites only; ranks are renumbered, per-worker arguments follow their worker.

    Parameters
    ----------
    kept
        Indices into ``scenario.sites``.
    """
    sites = sorted(kept)
    number = {site: index for index, site in enumerate(sites)}
    staying = [worker for worker in scenario.workers if worker.site in number]

    def argument(value: Any) -> Any:
        if isinstance(value, tuple) and len(value) == len(scenario.workers):
            return tuple(value[worker.rank] for worker in staying)
        return value

    method = scenario.method
    network = scenario.network
    order = tuple(number[site] for site in network.collectives.order if site in number)
    names = {scenario.sites[site].name: site for site in sites}
    return _with_tables_of(
        scenario,
        replace(
            scenario,
            method=replace(method, arguments={k: argument(v) for k, v in method.arguments.items()}),
            workers=tuple(
                replace(worker, rank=rank, site=number[worker.site], stream=worker.random_stream)
                for rank, worker in enumerate(staying)
            ),
            sites=tuple(scenario.sites[site] for site in sites),
            network=replace(
                network,
                bandwidth=network.bandwidth.among(sites),
                latency=network.latency.among(sites),
                collectives=replace(network.collectives, order=order),
                link_profiles=tuple(
                    each for each in network.link_profiles if place_of(each[0], names) is not None
                ),
            ),
        ),
    )


def with_another_site(scenario: Scenario) -> Scenario:
    """Add a site like the last one, with as many workers; per-worker arguments follow.

    All pairs of sites must have the same bandwidth and the same latency.
    """
    network, last = scenario.network, len(scenario.sites) - 1
    ranks = scenario.ranks_by_site[last]
    workers = len(scenario.workers)

    def argument(value: Any) -> Any:
        if isinstance(value, tuple) and len(value) == workers:
            return (*value, *(value[rank] for rank in ranks))
        return value

    def longer(pairs: Pairs) -> Pairs:
        assert pairs.common is not None
        return Pairs.alike(last + 2, pairs.common, pairs.diagonal)

    site = scenario.sites[last]
    new = (
        replace(scenario.workers[rank], rank=workers + number, site=last + 1, stream=None)
        for number, rank in enumerate(ranks)
    )
    order = network.collectives.order
    method = scenario.method
    return replace(
        scenario,
        method=replace(method, arguments={k: argument(v) for k, v in method.arguments.items()}),
        workers=(*scenario.workers, *new),
        sites=(*scenario.sites, replace(site, name=f"{site.name}-2" if site.name else "")),
        network=replace(
            network,
            bandwidth=longer(network.bandwidth),
            latency=longer(network.latency),
            collectives=replace(network.collectives, order=(*order, last + 1) if order else ()),
        ),
    )


def single_site(scenario: Scenario, site: int) -> Scenario:
    """What one site would do on its own: plain data parallel training over its fast links."""
    alone = with_sites(scenario, [site])
    # One worker sends nothing, so how its gradients would be cut makes no difference but work.
    arguments = {"overlap": "none"} if len(alone.workers) == 1 else {}
    return replace(alone, method=Method("ddp", METHODS["ddp"], arguments))


def links(scenario: Scenario) -> dict[str, float]:
    """Bandwidth in bytes/s of every link between sites, by the name that ``--link`` takes.

    "paris-dallas" is the pair link from paris to dallas, "osaka.uplink" and "osaka.downlink"
    are shared by all that leaves or enters osaka. What is unlimited is not listed.
    """
    names = [site.name for site in scenario.sites]
    pairs = scenario.network.bandwidth
    found = {
        f"{names[a]}-{names[b]}": rate
        for a, row in enumerate(pairs if pairs.common != inf else ())
        for b, rate in enumerate(row)
        if a != b and rate != inf
    }
    for site in scenario.sites:
        for name, rate in (("uplink", site.uplink), ("downlink", site.downlink)):
            if rate != inf:
                found[f"{site.name}.{name}"] = rate
    return found


def own_lines(scenario: Scenario) -> list[str]:
    """Return the uplinks and downlinks that sites give where others have network.bandwidth."""
    if scenario.network.per != "site":
        return []
    return [
        f"{site.name}.{name}"
        for site in scenario.sites
        for name in ("uplink", "downlink")
        if name not in site.from_network
    ]


def scaled(scenario: Scenario, factor: float, link: str | None = None) -> Scenario:
    """Multiply the bandwidth of all links between sites, or of one by name, by a factor."""
    names, pairs = [site.name for site in scenario.sites], scenario.network.bandwidth

    def by(name: str) -> float:
        return factor if link is None or name == link else 1.0

    if link is None:
        pairs = pairs.times(factor)
    elif pairs.common != inf:
        pairs = Pairs.of(
            [
                [rate * by(f"{names[a]}-{names[b]}") for b, rate in enumerate(row)]
                for a, row in enumerate(pairs)
            ]
        )
    return _with_tables_of(
        scenario,
        replace(
            scenario,
            sites=tuple(
                replace(
                    site,
                    uplink=site.uplink * by(f"{site.name}.uplink"),
                    downlink=site.downlink * by(f"{site.name}.downlink"),
                )
                for site in scenario.sites
            ),
            network=replace(scenario.network, bandwidth=pairs),
        ),
    )


def with_latency_of(scenario: Scenario, factor: float) -> Scenario:
    """Multiply the latency between all sites by a factor."""
    network = replace(scenario.network, latency=scenario.network.latency.times(factor))
    return _with_tables_of(scenario, replace(scenario, network=network))


def round_trip(scenario: Scenario) -> float:
    """Return the seconds of the longest round trip between two sites; 0 where there is one site."""
    latency = scenario.network.latency
    if latency.common is not None:
        return 2 * latency.common if len(latency) > 1 else 0.0
    rows = latency.rows
    return max(rows[a][b] + rows[b][a] for a in range(len(rows)) for b in range(a))


def with_round_trip(scenario: Scenario, seconds: float) -> Scenario:
    """Return it with another longest round trip; the others keep their proportion to it.

    Where no path takes time (less than a picosecond) they are all as long.
    """
    longest, sites = round_trip(scenario), len(scenario.sites)
    if longest > _NO_TIME:
        return with_latency_of(scenario, seconds / longest)
    network = replace(scenario.network, latency=Pairs.alike(sites, seconds / 2, 0.0))
    return _with_tables_of(scenario, replace(scenario, network=network))


def with_batches_times(scenario: Scenario, factor: float) -> Scenario:
    """Multiply the tokens of all workers' inner steps; their computation takes that much longer."""

    def larger(machine: Machine) -> Machine:
        return replace(
            machine,
            batch_tokens=machine.batch_tokens * factor,
            step_seconds=machine.step_seconds * factor,
        )

    workers = tuple(replace(w, machine=larger(w.machine)) for w in scenario.workers)
    return replace(scenario, workers=workers)


def faster(scenario: Scenario, factors: Sequence[float]) -> Scenario:
    """Multiply each worker's speed by its factor."""
    workers = tuple(
        replace(worker, machine=replace(worker.machine, speed=worker.machine.speed * factor))
        for worker, factor in zip(scenario.workers, factors, strict=True)
    )
    return replace(scenario, workers=workers)


def with_bandwidth(scenario: Scenario, rate: float) -> Scenario:
    """Return it with another network.bandwidth, in bytes/s.

    That is every pair link between sites, or every uplink and downlink that no site gives of its
    own.
    """
    network, sites = scenario.network, scenario.sites
    if network.per == "site":
        sites = tuple(site.with_bandwidth(rate) for site in sites)
    else:
        network = replace(network, bandwidth=Pairs.alike(len(sites), rate, rate))
    return _with_tables_of(scenario, replace(scenario, sites=sites, network=network))


def _with_tables_of(measured: Scenario, changed: Scenario) -> Scenario:
    """Carry measured collective times over to other links: in proportion to the computed ones.

    A table was measured on the links as they were; on others each of its times is multiplied
    by what the algorithm takes there over what it takes here. How links vary is left out of both.
    """
    tables = measured.network.collectives.tables
    if not tables:
        return changed
    here, there = (
        Links(
            replace(
                scenario,
                sites=tuple(replace(site, profile=UNVARIED) for site in scenario.sites),
                network=replace(
                    scenario.network,
                    collectives=replace(scenario.network.collectives, tables=()),
                    profile=UNVARIED,
                    link_profiles=(),
                ),
            )
        )
        for scenario in (measured, changed)
    )

    def moved(table: CollectiveTable) -> CollectiveTable:
        seconds = []
        for size, second in zip(table.bytes, table.seconds, strict=True):
            before = here.cost(table.operation, table.dtype, size).seconds
            after = there.cost(table.operation, table.dtype, size).seconds
            seconds.append(second * after / before if before > 0 else second)
        return replace(table, seconds=tuple(seconds))

    collectives = replace(changed.network.collectives, tables=tuple(map(moved, tables)))
    return replace(changed, network=replace(changed.network, collectives=collectives))
