"""From a scenario to the links of a lab: which packets share what, how fast, how late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from math import isfinite

from realrun.errors import RunError
from sim.records.connections import limits
from sim.records.profiles import UNVARIED, Profile
from sim.records.varying import Place, key_of_links, of_links
from sim.scenario import Scenario
from sim.units import format_rate, format_seconds

MOST_WORKERS = 16
FASTEST = 2e9 / 8  # bytes/s
SLOWEST = 1e6 / 8
LONGEST_RTT_S = 2.0
_LATE_S = 0.01
_LEAST_WINDOW = 1 << 17


@dataclass(frozen=True)
class Link:
    """What packets take turns on: a name, as messages say it, and bytes/s of payload."""

    name: str
    rate: float


@dataclass(frozen=True)
class Topology:
    """Every link, and the path from each worker to each other.

    ``names`` are the workers' by rank; ``paths[i, j]`` the numbers of the links from i to j;
    ``latency_s[i, j]`` in one direction. ``profiles`` are factors on the rates of links that
    vary while something runs, by their number.
    """

    names: tuple[str, ...]
    links: tuple[Link, ...]
    paths: dict[tuple[int, int], tuple[int, ...]]
    latency_s: dict[tuple[int, int], float]
    profiles: tuple[tuple[int, Profile], ...] = ()

    @property
    def workers(self) -> int:
        """Number of workers."""
        return len(self.names)

    @property
    def at_most(self) -> Topology:
        """Every link at the largest of its factors, which connections are to fill as well."""
        most = {number: profile.most for number, profile in self.profiles}
        links = (
            replace(link, rate=link.rate * max(1.0, most.get(number, 1.0)))
            for number, link in enumerate(self.links)
        )
        return replace(self, links=tuple(links), profiles=())

    def rate(self, sender: int, receiver: int) -> float:
        """Bytes/s from one worker to another, when nobody else sends."""
        return min(self.links[link].rate for link in self.paths[sender, receiver])

    def rtt_s(self, sender: int, receiver: int) -> float:
        """Seconds there and back."""
        return self.latency_s[sender, receiver] + self.latency_s[receiver, sender]

    def fastest_from(self, sender: int) -> float:
        """Bytes/s of the fastest path from a worker."""
        return max(self.rate(i, j) for i, j in self.paths if i == sender)

    def window(self, sender: int, receiver: int) -> int:
        """Bytes that a connection may have under way, as the kernel counts them.

        That is twice their number, and they must fill the link while an end is late.
        """
        covered_s = self.rtt_s(sender, receiver) + _LATE_S
        return max(_LEAST_WINDOW, int(4 * self.rate(sender, receiver) * covered_s))

    def alike(self) -> list[tuple[int, int]]:
        """Return one ordered pair of every kind: same rates on its path, same latencies."""
        kinds: dict[tuple[object, ...], tuple[int, int]] = {}
        for (i, j), path in self.paths.items():
            rates = tuple(self.links[link].rate for link in path)
            kinds.setdefault((rates, self.latency_s[i, j], self.latency_s[j, i]), (i, j))
        return list(kinds.values())

    def together(self, pairs: Sequence[tuple[int, int]]) -> dict[tuple[int, int], float]:
        """Bytes/s of transfers that all run at once and share links max-min fairly."""
        left = [link.rate for link in self.links]
        rates: dict[tuple[int, int], float] = {}
        open_pairs = list(pairs)
        while open_pairs:
            users = [
                sum(link in self.paths[pair] for pair in open_pairs) for link in range(len(left))
            ]
            share, full = min(
                (left[link] / users[link], link) for link in range(len(left)) if users[link]
            )
            for pair in [pair for pair in open_pairs if full in self.paths[pair]]:
                rates[pair] = share
                open_pairs.remove(pair)
                for link in self.paths[pair]:
                    left[link] -= share
        return rates


def not_emulated(scenario: Scenario) -> str:
    """Name the keys of a scenario that a lab leaves out; empty where there are none."""
    keys = limits(scenario.network)
    return f"Not emulated: {', '.join(keys)}; connections here fill their links." if keys else ""


def topology(scenario: Scenario, *, varying: bool = False) -> Topology:
    """Return the links that a scenario asks for.

    Parameters
    ----------
    varying
        Whether links may vary while something runs; what shares them always (background) is then
        taken off their rates.

    Raises
    ------
    RunError
        If a lab cannot emulate it; the message names the key, its value and what is allowed.
    """
    workers, sites = scenario.workers, scenario.sites
    if not 2 <= len(workers) <= MOST_WORKERS:
        raise RunError(
            f"site.count: {len(workers)} workers: a lab on one machine has 2 to {MOST_WORKERS}"
        )
    if not varying and (key := key_of_links(scenario)):
        raise RunError(
            f"{key}: links of a lab do not vary where realrun trains, and nobody shares them; "
            "leave it out, or give a command after --"
        )
    own, of_pairs = of_links(scenario)
    links: dict[str, Link] = {}
    profiles: dict[str, Profile] = {}

    def link(key: str, name: str, rate: float, place: Place | None = None) -> list[str]:
        if not isfinite(rate):
            return []
        profile = UNVARIED if place is None else own.get(place, of_pairs)
        links[key] = Link(name, rate * profile.factors[0] if profile.constant else rate)
        if not profile.constant:
            profiles[key] = profile
        return [key]

    network, keys = scenario.network, {}
    latency: dict[tuple[int, int], float] = {}
    for i, j in permutations(range(len(workers)), 2):
        a, b = workers[i].site, workers[j].site
        if a == b:
            rate, name = sites[a].within_bandwidth, f"within {sites[a].name}"
            keys[i, j] = link(f"out {i}", name, rate) + link(f"in {j}", name, rate)
            latency[i, j] = sites[a].within_latency
        else:
            names = f"{sites[a].name} to {sites[b].name}"
            keys[i, j] = (
                link(f"up {a}", f"uplink of {sites[a].name}", sites[a].uplink, ("uplink", a, a))
                + link(f"pair {a} {b}", names, network.bandwidth.between(a, b), ("pair", a, b))
                + link(
                    f"down {b}",
                    f"downlink of {sites[b].name}",
                    sites[b].downlink,
                    ("downlink", b, b),
                )
            )
            latency[i, j] = network.latency.between(a, b)
    number = {key: place for place, key in enumerate(links)}
    found = Topology(
        _names(scenario),
        tuple(links.values()),
        {pair: tuple(number[key] for key in path) for pair, path in keys.items()},
        latency,
        tuple((number[key], profile) for key, profile in profiles.items()),
    )
    for each in (found, found.at_most):
        for i, j in each.alike():
            _check(scenario, each, i, j)
    return found


def _names(scenario: Scenario) -> tuple[str, ...]:
    """Name workers by their site, with a number where it has several."""
    seen = [0] * len(scenario.sites)
    names = []
    for worker in scenario.workers:
        site = scenario.sites[worker.site]
        names.append(f"{site.name}.{seen[worker.site]}" if site.workers > 1 else site.name)
        seen[worker.site] += 1
    return tuple(names)


def _check(scenario: Scenario, found: Topology, i: int, j: int) -> None:
    within = scenario.workers[i].site == scenario.workers[j].site
    section = "network.within" if within else "network"
    pair = f"{found.names[i]} to {found.names[j]}"
    rate = found.rate(i, j) if found.paths[i, j] else float("inf")
    if not SLOWEST <= rate <= FASTEST:
        raise RunError(
            f"{section}.bandwidth: {pair}: {format_rate(rate)}: a lab on one machine emulates "
            f"{format_rate(SLOWEST)} to {format_rate(FASTEST)}"
        )
    if found.rtt_s(i, j) > LONGEST_RTT_S:
        raise RunError(
            f"{section}.rtt: {pair}: {format_seconds(found.rtt_s(i, j))}: a lab emulates up to "
            f"{format_seconds(LONGEST_RTT_S)}"
        )
