"""Levers of machines and sites: faster accelerators, a slow site, one site less or more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sim.questions.lever_candidates import MOST_NAMED, Candidate, typed
from sim.questions.levers_of_network import slowest_links
from sim.questions.variations import faster, with_another_site, with_sites
from sim.recording.vocabulary import METHOD as RECORDING
from sim.records.flops import flops_per_token
from sim.records.scenario import Scenario
from sim.units import format_flops

MFU_POINTS = 0.03
SPEED = 1.1
FASTER = 2.0
"""Times the peak of accelerators of a later kind."""
_APART = 1.005  # factor from which on a site is the slowest


def computation(scenario: Scenario) -> Iterator[Candidate]:
    """Offer three points of MFU where it is known, else faster accelerators.

    Nothing where a step was simulated: its communication gets no faster.
    """
    if _simulated_inside(scenario):
        return
    rates = [_mfu(scenario, rank) for rank in range(len(scenario.workers))]
    if not all(rate and rate + MFU_POINTS <= 1 for rate in rates):
        yield _faster(scenario, SPEED, "accelerators 10 % faster")
        return
    workers = tuple(
        replace(
            worker,
            machine=replace(
                worker.machine,
                step_seconds=worker.machine.step_seconds * rate / (rate + MFU_POINTS),
            ),
        )
        for worker, rate in zip(scenario.workers, rates, strict=True)
    )
    wanted = [rate + MFU_POINTS for rate in rates]
    setting = _of_sites(scenario, "mfu", wanted, "--mfu ")
    yield Candidate("mfu +3 points", replace(scenario, workers=workers), setting)


def later_accelerators(scenario: Scenario) -> Iterator[Candidate]:
    """Offer accelerators of twice the peak at the same MFU, or of twice the speed.

    What the steps of training without its passes take (the optimizer) stays with the peak, and
    shrinks with the speed. Nothing where a step was simulated.
    """
    if _simulated_inside(scenario):
        return
    rates = [_mfu(scenario, rank) for rank in range(len(scenario.workers))]
    if not all(rates):
        yield _faster(scenario, FASTER, "accelerators twice as fast")
        return
    workers = tuple(
        replace(
            worker,
            machine=replace(
                worker.machine,
                step_seconds=worker.machine.step_seconds / FASTER,
                peak_flops=worker.machine.peak_flops * FASTER,
            ),
        )
        for worker in scenario.workers
    )
    peaks = [typed(format_flops(worker.machine.peak_flops, 10)) for worker in workers]
    setting = _of_sites(scenario, "peak", peaks, "--set site.peak=")
    yield Candidate("accelerators of twice the peak", replace(scenario, workers=workers), setting)


def _faster(scenario: Scenario, factor: float, name: str) -> Candidate:
    changed = faster(scenario, [factor] * len(scenario.workers))
    speeds = [worker.machine.speed for worker in changed.workers]
    return Candidate(name, changed, _of_sites(scenario, "speed", speeds, "--set site.speed="))


def _of_sites(scenario: Scenario, key: str, values: Sequence[float | str], of_all: str) -> str:
    """Return how to type a value of each worker: once for all, or by a few sites' names."""
    texts = [value if isinstance(value, str) else f"{value:.10g}" for value in values]
    if len(set(texts)) == 1:
        return of_all + texts[0]
    by_site = [{texts[rank] for rank in ranks} for ranks in scenario.ranks_by_site]
    names = [site.name for site in scenario.sites]
    if len(names) > MOST_NAMED or not all(names) or any(len(each) > 1 for each in by_site):
        return ""
    return " ".join(
        f"--set site.{name}.{key}={each.pop()}" for name, each in zip(names, by_site, strict=True)
    )


def _simulated_inside(scenario: Scenario) -> bool:
    return any(worker.machine.inside is not None for worker in scenario.workers)


def _mfu(scenario: Scenario, rank: int) -> float:
    """Return the part of peak that a worker's step was computed from; 0 where it was given."""
    machine, model = scenario.workers[rank].machine, scenario.model
    most = machine.accelerators * machine.peak_flops * machine.step_seconds
    if most <= 0:
        return 0.0
    flops = flops_per_token(model.parameters, model.frozen_parameters, model.active_parameters)
    return flops * machine.batch_tokens / most


def balanced(scenario: Scenario) -> Iterator[Candidate]:
    """Offer the slowest site at the pace of the next slowest."""
    found = _slowest_site(scenario)
    if found is None:
        return
    site, ratio = found
    speeds = {scenario.workers[rank].machine.speed for rank in scenario.ranks_by_site[site]}
    factors = [ratio if worker.site == site else 1.0 for worker in scenario.workers]
    name = scenario.sites[site].name
    setting = ""
    if name and len(speeds) == 1:
        setting = f"--set site.{name}.speed={speeds.pop() * ratio:.10g}"
    title = f"{name or f'site {site + 1}'} at the pace of the others"
    yield Candidate(title, faster(scenario, factors), setting)


def without(scenario: Scenario) -> Iterator[Candidate]:
    """Offer to leave out the site of the slowest computation, or else of the slowest link."""
    names = [site.name for site in scenario.sites]
    found = _slowest_site(scenario)
    if found is not None:
        site = found[0]
    else:
        link = slowest_links(scenario)
        if link is None or link[0] not in names:
            return
        site = names.index(link[0])
    kept = [index for index in range(len(names)) if index != site]
    yield Candidate(f"without {names[site] or f'site {site + 1}'}", with_sites(scenario, kept))


def one_more(scenario: Scenario) -> Iterator[Candidate]:
    """Offer another site like the last one, where all pairs of sites have the same link."""
    network = scenario.network
    plain = not (network.link_profiles or network.collectives.tables)
    ordered = network.collectives.order in ((), tuple(range(len(scenario.sites))))
    alike = None not in (network.bandwidth.common, network.latency.common)
    by_worker = {
        name for name, value in scenario.method.arguments.items() if isinstance(value, tuple)
    }
    # Per worker as site.sync_every says it, or else in lists that would have to be longer.
    told = by_worker <= {"sync_every"} and (not by_worker or bool(scenario.site_keys))
    kept = scenario.site_keys.isdisjoint({"network.order", "site.batch_tokens"})
    if len(scenario.sites) < 2 or not (plain and ordered and alike and told and kept):
        return
    if scenario.method.name == RECORDING:  # of as many workers as were recorded
        return
    last = scenario.sites[-1].name
    setting = f"--set site.{last}.count=2" if last else ""
    title = f"one more site like {last or 'the last'}"
    yield Candidate(title, with_another_site(scenario), setting)


def _slowest_site(scenario: Scenario) -> tuple[int, float] | None:
    """Return the site whose rounds take longest, and how many times longer than another's."""
    if len(scenario.sites) < 2:
        return None
    steps = scenario.method.arguments.get("sync_every")
    paces = []
    for index, ranks in enumerate(scenario.ranks_by_site):
        times = [
            scenario.workers[rank].machine.step_seconds
            / scenario.workers[rank].machine.speed
            * (steps[rank] if isinstance(steps, tuple) else 1)
            for rank in ranks
        ]
        paces.append((max(times), index))
    next_s, (slowest_s, site) = sorted(paces)[-2][0], max(paces)
    ratio = slowest_s / next_s if next_s > 0 else 0.0
    return (site, ratio) if ratio > _APART else None
