"""From [network] to bandwidth and latency per pair of sites, and how collectives run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from math import inf

from sim.recording.vocabulary import METHOD as RECORDING
from sim.records.pairs import Pairs
from sim.records.scenario import Collectives, CollectiveTable, HostCosts, Network, Streams
from sim.scenario.context import Context
from sim.scenario.errors import ScenarioError, did_you_mean, listed
from sim.scenario.fields import Matrix
from sim.scenario.hardware import Hardware, LinkRecord, MachineRecord
from sim.scenario.measured import tables_between
from sim.scenario.rings import best_order
from sim.scenario.varying import link_profiles, network_profile
from sim.units import format_rate, format_seconds

DEFAULT_BANDWIDTH = 125e6
DEFAULT_RTT = 0.030
DEFAULT_WITHIN_BANDWIDTH = 50e9
DEFAULT_WITHIN_RTT = 20e-6
DEFAULT_BLOCK = 256
DEFAULT_MSS = 1460.0
DEFAULT_PER = "site"
GLOO_THREADS = 2  # torch's, per process group

# Scenario key, hardware key.
_HOST_COSTS = (
    ("message_time", "message_s"),
    ("byte_time", "byte_s"),
    ("call_time", "call_s"),
    ("element_time", "element_s"),
    ("quantized_element_time", "quantized_element_s"),
)

_LINKS = ("bandwidth", "rtt", "latency", "goodput")


def per_site(context: Context) -> bool:
    """Whether one number for network.bandwidth means every site's link, not every pair's link."""
    section = context.sections.network
    if section.per is not None:
        return section.per == "site"
    if isinstance(section.bandwidth, Matrix) or _measured(context) is not None:
        return False
    return DEFAULT_PER == "site"


def _measured(context: Context) -> Hardware | None:
    """Return the hardware file if it is what says how fast links are."""
    hardware = context.hardware
    if hardware is None or context.sections.network.bandwidth is not None:
        return None
    measured = (link.goodput_bytes_per_s is not None for link in hardware.links.values())
    return hardware if any(measured) else None


@dataclass
class NetworkReader:
    """Resolves [network] for sites with these names.

    ``quantized``: whether anything travels in a type with scales; ``groups``: whether a site
    has several workers. What does not matter is not listed as assumed. ``machines``: what the
    hardware file says of the machines that take part. ``line`` is then the bytes/s of the sites'
    uplinks and downlinks where bandwidth is per site, goodput not applied.
    """

    context: Context
    names: Sequence[str]
    quantized: bool
    groups: bool
    machines: Sequence[MachineRecord] = ()
    line: float = inf

    def network(self) -> Network:
        """Return the network between the sites."""
        section = self.context.sections.network
        has = self.context.document.has
        rows_order = self._rows_order()
        used = self._links()
        goodput = section.goodput if section.goodput is not None else 1.0
        if section.goodput is None:
            self.context.assume("network.goodput", "100 %")
        factor = 1.0 if per_site(self.context) else goodput  # a site's own links have it, too
        bandwidth = self._pairs(
            "bandwidth", section.bandwidth, rows_order, used, DEFAULT_BANDWIDTH, inf, factor
        )
        per = self._per()
        if per == "site" and len(bandwidth) > 1:
            self.line = bandwidth.between(0, 1)
            bandwidth = Pairs.alike(len(bandwidth), inf, inf)
        if section.latency is not None:
            latency = self._pairs("latency", section.latency, rows_order, {}, 0.0, 0.0, 1.0)
        else:
            latency = self._pairs("rtt", section.rtt, rows_order, used, DEFAULT_RTT, 0.0, 0.5)
        overridden = any(has("network", key) for key in _LINKS) or has(
            "network", "collective", "algorithm"
        )
        overridden = overridden or self._limited()
        tables = () if overridden else tables_between(used.values())
        collectives = self._collectives(bandwidth, latency, used, tables)
        streams = self._streams(collectives.algorithm)
        profile = network_profile(self.context)
        own = link_profiles(self.context, self.names)
        return Network(bandwidth, latency, collectives, per, streams, profile, own)

    def _per(self) -> str:
        """Return what one number for all bandwidths means."""
        per = "site" if per_site(self.context) else "pair"
        if per == "site" and isinstance(self.context.sections.network.bandwidth, Matrix):
            text = "a matrix is per pair of sites; leave it out"
            raise self.context.refuse("network", "per", text=text)
        measured = _measured(self.context)
        if per == "site" and measured is not None:
            text = f"{measured.label} has a link per pair of sites; leave it out"
            raise self.context.refuse("network", "per", text=text)
        if len(self.names) > 1 and per == "site":
            self._note_lines()
        return per

    def _note_lines(self) -> None:
        """Say which lines are network.bandwidth: all that no site gives of its own."""
        lines = ("uplink", "downlink")
        own = [
            getattr(site, key) is not None for site in self.context.sections.site for key in lines
        ]
        if all(own) and self.context.document.has("network", "bandwidth"):
            note = "not used (every site has its own uplink and downlink)"
            self.context.assume("network.bandwidth", note)
        if self.context.sections.network.per is None:
            which = "every site's uplink and downlink"
            which += " where it gives none of its own" if any(own) else ""
            self.context.assume("network.per", f"site ({which})")

    def within(self) -> tuple[float, float]:
        """Return bytes/s and one-way seconds between workers of one site."""
        within = self.context.sections.network.within
        bandwidth, latency = within.bandwidth, within.latency
        if latency is None and within.rtt is not None:
            latency = within.rtt / 2
        if bandwidth is None:
            bandwidth = DEFAULT_WITHIN_BANDWIDTH
            if self.groups:
                self.context.assume("network.within.bandwidth", format_rate(bandwidth))
        if latency is None:
            latency = DEFAULT_WITHIN_RTT / 2
            if self.groups:
                self.context.assume("network.within.rtt", format_seconds(DEFAULT_WITHIN_RTT))
        return bandwidth, latency

    def _rows_order(self) -> list[str]:
        """Return whose row is whose in the matrices, sites that were not chosen included."""
        order = self.context.sections.network.order
        if order is None:
            section = self.context.sections.network
            if any(
                isinstance(m, Matrix) for m in (section.bandwidth, section.rtt, section.latency)
            ):
                self.context.assume("network.order", f"{', '.join(self.names)} (as listed)")
            return list(self.names)
        self._check_names(order, "network", "order", others=self.context.document.left_out)
        return order

    def _check_names(
        self, order: Sequence[str], *path: str, others: frozenset[str] = frozenset()
    ) -> None:
        names, earlier = frozenset(self.names), set[str]()
        for name in order:
            if name not in names and name not in others:
                raise self.context.refuse(
                    *path, text=f'there is no site "{name}"{did_you_mean(name, self.names)}'
                )
            if name in earlier:
                raise self.context.refuse(*path, text=f'names "{name}" twice')
            earlier.add(name)
        missing = [name for name in self.names if name not in earlier]
        if missing:
            raise self.context.refuse(
                *path, text=f"must name every site once; {listed(missing, 'and')} is missing"
            )

    def _pairs(
        self,
        key: str,
        value: float | Matrix | None,
        order: list[str],
        used: dict[str, LinkRecord],
        default: float,
        diagonal: float,
        factor: float,
    ) -> Pairs:
        """Return what is given, measured or assumed for each pair of sites, times ``factor``."""
        size = len(self.names)
        show = format_rate if key == "bandwidth" else format_seconds
        if isinstance(value, Matrix):
            if len(value.rows) != len(order):
                raise self._wrong_size(key, len(value.rows), len(order))
            place = {name: number for number, name in enumerate(order)}
            at = [place[name] for name in self.names]
            return Pairs.of(
                [
                    [diagonal if i == j else value.rows[a][b] * factor for j, b in enumerate(at)]
                    for i, a in enumerate(at)
                ]
            )
        hardware = self.context.hardware
        field = "goodput_bytes_per_s" if key == "bandwidth" else "rtt_s"
        if (
            value is None
            and hardware is not None
            and any(getattr(link, field) is not None for link in used.values())
        ):
            for name, link in used.items():
                number = getattr(link, field)
                if number is None:
                    raise self.context.refuse(
                        "network", key, text=f"missing; {hardware.label} has none for link {name}"
                    )
                self.context.assume(
                    f"network.{key}", f"{show(number)} ({hardware.label}, link {name})"
                )
            if len(used) == 1:
                return Pairs.alike(size, number * factor, diagonal)
            return Pairs.of(
                [
                    [
                        diagonal if i == j else getattr(self._link(a, b)[1], field) * factor
                        for j, b in enumerate(self.names)
                    ]
                    for i, a in enumerate(self.names)
                ]
            )
        if value is None:
            value = default
            if size > 1:
                self.context.assume(f"network.{key}", show(value))
        return Pairs.alike(size, value * factor, diagonal)

    def _wrong_size(self, key: str, rows: int, sites: int) -> ScenarioError:
        names = f" ({', '.join(self.names)})" if sites <= 8 and sites == len(self.names) else ""
        return self.context.refuse(
            "network", key, text=f"the matrix has {rows} rows, but there are {sites} sites{names}"
        )

    def _links(self) -> dict[str, LinkRecord]:
        """Return the hardware file's links that join these sites."""
        hardware = self.context.hardware
        section = self.context.sections.network
        if hardware is None or not hardware.links:
            return {}
        needed = section.bandwidth is None or (section.rtt is None and section.latency is None)
        # The only link joins all sites, as any two of them show.
        look_at = 1 if len(hardware.links) == 1 else None
        return {
            name: link
            for a, b in islice(combinations(self.names, 2), look_at)
            if needed or hardware.link(a, b) is not None
            for name, link in [self._link(a, b)]
        }

    def _link(self, a: str, b: str) -> tuple[str, LinkRecord]:
        hardware = self.context.hardware
        found = hardware.link(a, b) if hardware else None
        if hardware is None or found is None:
            known = listed(hardware.links if hardware else (), "and")
            raise self.context.refuse(
                "hardware", text=f"has no link {a}-{b}; its links are {known}"
            )
        return found

    def _collectives(
        self,
        bandwidth: Pairs,
        latency: Pairs,
        used: dict[str, LinkRecord],
        tables: tuple[CollectiveTable, ...],
    ) -> Collectives:
        section = self.context.sections.network
        given, assume = section.collective, self.context.assume
        label = self.context.hardware.label if self.context.hardware else ""
        algorithm = given.algorithm
        if algorithm is None:
            algorithm, note = self._algorithm()
            assume("network.collective.algorithm", f"{algorithm}{note}")
        if algorithm == "gloo" and len(self.names) > 2:
            assume("network.collective.order", "that of the sites (gloo's own)")
            order = tuple(range(len(self.names)))
        elif isinstance(given.order, list):
            names = [n for n in given.order if n not in self.context.document.left_out]
            self._check_names(names, "network", "collective", "order")
            number = {name: site for site, name in enumerate(self.names)}
            order = tuple(number[name] for name in names)
        elif given.order == "best":
            order = tuple(range(len(self.names)))
            if bandwidth.common is None or latency.common is None:
                order = best_order(tuple(bandwidth), tuple(latency))
            if len(order) > 2:
                ring = ", ".join(self.names[site] for site in order)
                assume("network.collective.order", f"{ring} (the best)")
        else:
            order = tuple(range(len(self.names)))
        if given.order is None and len(self.names) > 2 and algorithm != "gloo":
            assume("network.collective.order", "given (the order of the sites)")
        measured = [link.concurrent for link in used.values() if link.concurrent is not None]
        concurrent = given.concurrent
        if concurrent is None:
            concurrent = min(measured, default=GLOO_THREADS if algorithm == "gloo" else 1)
            note = f" ({label})" if measured else ""
            assume("network.collective.concurrent", f"{concurrent}{note}")
        block = given.quantize_block
        if block is None:
            block = DEFAULT_BLOCK
            if self.quantized:
                assume("network.collective.quantize_block", f"{block}")
        first = section.first_collective_time
        if first is None:
            costs = [
                link.first_collective_s
                for link in used.values()
                if link.first_collective_s is not None
            ]
            first = max(costs, default=0.0)
            note = f" ({label})" if costs else ""
            assume("network.first_collective_time", f"{format_seconds(first)}{note}")
        host = self._host(algorithm)
        tables = () if algorithm == "gloo" else tables
        if tables:
            found = listed((f"{t.operation} {t.dtype}" for t in tables), "and")
            assume("network.collective", f"measured times of {found} ({label})")
        return Collectives(algorithm, order, concurrent, block, first, tables, host)

    def _algorithm(self) -> tuple[str, str]:
        """Return how collectives are carried out where nobody says, and why.

        What was measured or recorded had its backend's own: gloo's messages, or a ring.
        """
        hardware = self.context.hardware
        if hardware is not None and hardware.backend is not None:
            # Without host overhead tables say more than messages.
            overhead = any(machine.message_s is not None for machine in self.machines)
            by_messages = hardware.backend == "gloo" and overhead
            return ("gloo", f" ({hardware.label})") if by_messages else ("ring", "")
        recorded = self.context.sections.method.name == RECORDING
        if self.groups and len(self.names) > 1 and not recorded:
            return "hierarchical", " (sites have several workers)"
        return "ring", ""

    def _host(self, algorithm: str) -> HostCosts:
        """Return the host overhead; of the machines that take part the slowest decides."""
        if algorithm != "gloo":
            for key in dict(_HOST_COSTS):
                if self.context.document.has("network", "collective", key):
                    self.context.assume(f"network.collective.{key}", f"not used by {algorithm}")
            return HostCosts(window_bytes=self._window())
        given, hardware = self.context.sections.network.collective, self.context.hardware
        found: dict[str, float] = {}
        for key, name in _HOST_COSTS:
            value: float | None = getattr(given, key)
            if value is None:
                measured = [
                    seconds
                    for machine in self.machines
                    if (seconds := getattr(machine, name)) is not None
                ]
                value = max(measured, default=0.0)
                note = f" ({hardware.label})" if hardware and measured else ""
                self.context.assume(f"network.collective.{key}", f"{format_seconds(value)}{note}")
            found[name] = value
        return HostCosts(**found, window_bytes=self._window())

    def assumes_window(self, algorithm: str) -> bool:
        """Whether nobody said how much a connection may have in flight, nor measured it."""
        unknown = _measured(self.context) is None or algorithm == "gloo"
        return len(self.names) > 1 and self._window() == inf and unknown

    def _window(self) -> float:
        section = self.context.sections.network
        window = section.collective.window if section.window is None else section.window
        return inf if window is None else window

    def _limited(self) -> bool:
        section = self.context.sections.network
        return section.stream_rate is not None or bool(section.loss) or self._window() < inf

    def _streams(self, algorithm: str) -> Streams:
        """Return the connections between two workers at different sites."""
        section, assume = self.context.sections.network, self.context.assume
        if algorithm == "gloo" and section.streams not in (None, 1):
            text = "gloo has one connection per pair of workers; leave it out"
            raise self.context.refuse("network", "streams", text=text)
        limited = self._limited()
        if len(self.names) > 1:
            if section.streams is None and limited:
                assume("network.streams", "1")
            elif section.streams is not None and not limited:
                assume("network.streams", "not used (nothing limits a connection)")
            if section.loss and section.mss is None:
                assume("network.mss", f"{DEFAULT_MSS:.0f} B")
            elif section.mss is not None and not section.loss:
                assume("network.mss", "not used (network.loss is 0)")
        return Streams(
            count=section.streams or 1,
            rate=inf if section.stream_rate is None else section.stream_rate,
            loss=section.loss or 0.0,
            segment_bytes=DEFAULT_MSS if section.mss is None else section.mss,
        )
