"""Levers of the network: bandwidth of all links or of the slowest, and round trips."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from sim.questions.lever_candidates import Candidate, rate_text, typed
from sim.questions.variations import links, scaled, with_latency_of
from sim.records.scenario import Scenario
from sim.units import format_seconds

_APART = 1.005  # factor from which on a link is the slowest
_MOST_PAIRS = 100  # sites up to which links of pairs are looked at one by one


def bandwidth(scenario: Scenario) -> Iterator[Candidate]:
    """Offer twice the bandwidth of all links."""
    if len(scenario.sites) > 1 and _limited(scenario):
        changed = scaled(scenario, 2.0)
        yield Candidate("bandwidth x2", changed, bandwidth_setting(scenario, changed))


def slowest_link(scenario: Scenario) -> Iterator[Candidate]:
    """Offer the links of one site, or of one pair of sites, where no others are as slow."""
    named = slowest_links(scenario)
    if named is None:
        return
    title, names = named
    changed = scenario
    for name in names:
        changed = scaled(changed, 2.0, name)
    yield Candidate(f"bandwidth of {title} x2", changed, bandwidth_setting(scenario, changed))


def rtt(scenario: Scenario) -> Iterator[Candidate]:
    """Offer half of every round trip."""
    latency = scenario.network.latency
    if len(scenario.sites) < 2 or latency.common == 0:
        return
    setting = ""
    if latency.common is not None:
        setting = f"--rtt {typed(format_seconds(latency.common, 10))}"  # half of twice one way
    yield Candidate("rtt halved", with_latency_of(scenario, 0.5), setting)


def _limited(scenario: Scenario) -> bool:
    pairs = scenario.network.bandwidth
    own = any(min(site.uplink, site.downlink) < inf for site in scenario.sites)
    return own or pairs.common != inf


def slowest_links(scenario: Scenario) -> tuple[str, list[str]] | None:
    """Return the site or pair whose links alone are the slowest, and the names of these links."""
    pairs = scenario.network.bandwidth
    if len(scenario.sites) < 2 or (pairs.common is None and len(scenario.sites) > _MOST_PAIRS):
        return None
    found: dict[str, dict[str, float]] = {}
    if pairs.common in (None, inf):  # otherwise no pair is slower than another
        rates = links(scenario)
        names = [site.name for site in scenario.sites]
        for a, one in enumerate(names):
            found[one] = {
                key: rates[key] for key in (f"{one}.uplink", f"{one}.downlink") if key in rates
            }
            for other in names[:a] if pairs.common is None else ():
                both = (f"{one}-{other}", f"{other}-{one}")
                found[f"{other}-{one}"] = {key: rates[key] for key in both if key in rates}
    slowest = sorted((min(of.values()), name) for name, of in found.items() if of)
    if not slowest or (len(slowest) > 1 and slowest[1][0] < _APART * slowest[0][0]):
        return None
    if len(slowest) == 1 and len(found) == 1:
        return None
    name = slowest[0][1]
    return name, list(found[name])


def bandwidth_setting(before: Scenario, after: Scenario) -> str:
    """Return how to type other bandwidths, "" where a matrix would have to be written."""
    if "network.goodput" not in dict(before.assumed):
        return ""  # bandwidths are given before it, and held after it
    parts: dict[str, None] = {}
    pairs, was = after.network.bandwidth, before.network.bandwidth
    if pairs != was:
        if pairs.common is None:
            return ""
        parts[f"--bandwidth {rate_text(pairs.common)}"] = None
    alike = all(
        old.uplink != new.uplink or old.downlink != new.downlink
        for old, new in zip(before.sites, after.sites, strict=True)
    )
    for old, new in zip(before.sites, after.sites, strict=True):
        for line in ("uplink", "downlink"):
            rate = getattr(new, line)
            if rate == getattr(old, line):
                continue
            if alike and line in new.from_network:
                parts[f"--bandwidth {rate_text(rate)}"] = None
            elif new.name:
                parts[f"--set site.{new.name}.{line}={rate_text(rate)}"] = None
            else:
                return ""
    return " ".join(parts)
