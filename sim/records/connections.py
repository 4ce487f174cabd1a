"""What one TCP connection would carry between sites, where nothing is said of windows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from heapq import nlargest
from itertools import permutations
from math import inf

from sim.records.scenario import Network, Scenario
from sim.units import format_rate, format_seconds

WINDOW = 4 * 2**20
"""Bytes: the most that Linux buffers for a sender unless told otherwise (net.ipv4.tcp_wmem)."""

_KEY = "network.window"
_UNLIMITED = "unlimited"


@dataclass(frozen=True)
class Windowed:
    """The longest path between sites that carries more than one window per round trip.

    ``connections`` of :data:`WINDOW` bytes would carry ``carried`` of its ``bandwidth``, in
    bytes/s, over ``round_trip`` seconds.
    """

    connections: int
    carried: float
    bandwidth: float
    round_trip: float

    def __str__(self) -> str:
        one = self.connections == 1
        which = "one connection" if one else f"{self.connections} connections"
        return (
            f"{which} with {'a 4 MiB window' if one else '4 MiB windows'} would carry "
            f"{format_rate(self.carried)} over {format_seconds(self.round_trip)}"
        )

    @property
    def sentence(self) -> str:
        """What is printed below an answer."""
        return (
            f"{str(self)[0].upper()}{str(self)[1:]}; assumed here: windows that fill "
            f"{format_rate(self.bandwidth)} (network.window, network.streams)."
        )

    @property
    def record(self) -> dict[str, float]:
        """The same as JSON has it."""
        return {
            "connections": self.connections,
            "window_bytes": WINDOW,
            "carried_bytes_per_s": self.carried,
            "bandwidth_bytes_per_s": self.bandwidth,
            "rtt_s": self.round_trip,
        }


def limits(network: Network) -> list[str]:
    """Return the keys that limit what connections between sites carry."""
    streams = network.streams
    found = {
        _KEY: network.collectives.host.window_bytes < inf,
        "network.stream_rate": streams.rate < inf,
        "network.loss": streams.loss > 0,
    }
    return [key for key, given in found.items() if given]


def noted(scenario: Scenario) -> Scenario:
    """Return a scenario of which nobody said a window, with that among what was assumed."""
    found = _slowed(scenario)
    value = _UNLIMITED if found is None else f"{_UNLIMITED}; {found}"
    return replace(scenario, assumed=(*scenario.assumed, (_KEY, value)))


def windowed(scenario: Scenario) -> Windowed | None:
    """Return where default windows would slow down a scenario that assumes unlimited ones."""
    assumed = dict(scenario.assumed).get(_KEY, "").startswith(_UNLIMITED)
    return _slowed(scenario) if assumed else None


def _slowed(scenario: Scenario) -> Windowed | None:
    network = scenario.network
    count = scenario.connections
    if limits(network):
        return None
    found = None
    for a, b in permutations(_different(scenario), 2):
        round_trip = network.latency.between(a, b) + network.latency.between(b, a)
        rate = scenario.rate(a, b)
        if rate * round_trip <= count * WINDOW:
            continue
        if found is None or (round_trip, rate) > (found.round_trip, found.bandwidth):
            carried = count * WINDOW / round_trip
            found = Windowed(count, carried, rate, round_trip)
    return found


def _different(scenario: Scenario) -> list[int]:
    """Return the sites to look at: all, or where all pairs are equal those of the fastest lines.

    Two of each direction, because the site with the fastest uplink may have the fastest downlink.
    """
    network, sites = scenario.network, scenario.sites
    every = range(len(sites))
    if network.bandwidth.common is None or network.latency.common is None:
        return list(every)
    up = nlargest(2, every, key=lambda site: sites[site].uplink)
    down = nlargest(2, every, key=lambda site: sites[site].downlink)
    return sorted({*up, *down})
