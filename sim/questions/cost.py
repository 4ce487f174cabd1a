"""What a run costs: accelerator-hours, money, energy and bytes that leave each site."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sim.figures.evaluation import Figures
from sim.operations import COMPUTED
from sim.records.scenario import Scenario

BUSY = (*COMPUTED, "contention")
"""Causes of the breakdown in which an accelerator draws its full power; in the others it idles.
Computation slowed down by contention is computation."""

TB = 1e12


@dataclass(frozen=True)
class SiteCost:
    """One site's part; None is what the scenario does not say.

    ``money`` is hours x price + TB x egress price, of what is priced. ``energy_kwh`` is of the
    building, PUE included.
    """

    site: str
    accelerator_hours: float | None
    egress_tb: float | None
    money: float | None
    energy_kwh: float | None


@dataclass(frozen=True)
class Cost:
    """All sites together.

    ``accelerator_hours`` is None where some site's accelerators are not known. ``money`` and
    ``energy_kwh`` are sums over the sites that say what they cost, None where no site does;
    ``money_is_lower_bound`` and ``energy_is_lower_bound`` say that some site does not, or that the
    time itself is a lower bound.
    """

    accelerator_hours: float | None
    egress_tb: float | None
    money: float | None
    currency: str
    energy_kwh: float | None
    money_is_lower_bound: bool
    energy_is_lower_bound: bool
    sites: list[SiteCost]


def cost(scenario: Scenario, figures: Figures, tokens: float | None = None) -> Cost:
    """Return what a run costs.

    Accelerator-hours are accelerators x wall-clock: who waits is paid as well. Energy is
    accelerators x (power x busy + idle power x (1 - busy)) x wall-clock x PUE, with each worker's
    share of :data:`BUSY` in the evaluated rounds.

    Parameters
    ----------
    scenario, figures
        What ran, and its figures.
    tokens
        Tokens of all workers, at the evaluated rounds' pace; None: the whole run to its horizon.
    """
    seconds, egress = figures.total_wall_clock_s, figures.total_egress_bytes_by_site
    bound = figures.total_is_lower_bound
    if tokens is not None:
        seconds, bound = figures.time_for(tokens), figures.lower_bound
        part = tokens / figures.window_tokens if figures.window_tokens > 0 else 0.0
        egress = tuple(sent * part for sent in figures.egress_bytes_by_site)
    hours = seconds / 3600
    sites = [
        _site(scenario, figures, index, hours, egress[index] / TB if egress else None)
        for index in range(len(scenario.sites))
    ]
    tariffs = [site.tariff for site in scenario.sites]
    return Cost(
        _sum(sites, lambda site: site.accelerator_hours, whole=True),
        _sum(sites, lambda site: site.egress_tb, whole=True),
        _sum(sites, lambda site: site.money),
        next((tariff.currency for tariff in tariffs if tariff.currency), ""),
        _sum(sites, lambda site: site.energy_kwh),
        bound or any(t.per_hour is None for t in tariffs) or _unknown(sites),
        bound or any(site.energy_kwh is None for site in sites),
        sites,
    )


def _site(
    scenario: Scenario, figures: Figures, index: int, hours: float, egress_tb: float | None
) -> SiteCost:
    site = scenario.sites[index]
    tariff = site.tariff
    ranks = scenario.ranks_by_site[index]
    accelerators = [scenario.workers[rank].machine.accelerators for rank in ranks]
    known = all(accelerators)
    paid = sum(accelerators) * hours if known else None
    parts = []
    if tariff.per_hour is not None and paid is not None:
        parts.append(paid * tariff.per_hour)
    if tariff.per_tb is not None and egress_tb is not None:
        parts.append(egress_tb * tariff.per_tb)
    energy = None
    if tariff.busy_w is not None and tariff.idle_w is not None and known:
        watts = 0.0
        for rank, number in zip(ranks, accelerators, strict=True):
            spent = figures.breakdown_by_worker[rank]
            busy = sum(spent[cause] for cause in BUSY)
            watts += number * (tariff.busy_w * busy + tariff.idle_w * (1 - busy))
        energy = watts * hours * tariff.pue / 1000
    name = site.name or f"site {index + 1}"
    return SiteCost(name, paid, egress_tb, sum(parts) if parts else None, energy)


def _unknown(sites: Sequence[SiteCost]) -> bool:
    return any(site.accelerator_hours is None for site in sites)


def _sum(
    sites: Sequence[SiteCost], of: Callable[[SiteCost], float | None], *, whole: bool = False
) -> float | None:
    """Sum what is known; None where nothing is, or with ``whole`` where something is not."""
    found = [value for value in map(of, sites) if value is not None]
    return sum(found) if found and (len(found) == len(sites) or not whole) else None
