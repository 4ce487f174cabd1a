"""One collective alone on any network, as the longest path through its rounds of transfers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from sim.program import QUANTIZED
from sim.records.scenario import Scenario
from sim.theory.closed_forms import connection_rate

Round = dict[tuple[int, int], float]
"""Bytes of every transfer (from, to) that proceeds at the same time."""

Link = tuple[str, int, int]
"""("pair", a, b), ("uplink", a, a), ("downlink", b, b), ("send", i, i), ("receive", j, j) or
("connection", i, j), which a group has to itself."""


@dataclass(frozen=True)
class Duration:
    """Seconds of a collective that has the network to itself.

    ``total_s`` is D; ``transmission_s`` is D0, the same with all latencies zero; ``share`` holds
    u(l) = bytes on link l / (D0 capacity(l)) <= 1, the part of each link that it occupies.
    """

    total_s: float
    transmission_s: float
    share: dict[Link, float]


def longest_path(
    scenario: Scenario,
    operation: str,
    size: float,
    dtype: str = "bf16",
    ranks: Sequence[int] = (),
) -> Duration:
    """Duration of a collective over workers of the scenario.

    A worker enters round k when all it sent in earlier rounds has left and all that was sent to
    it in earlier rounds has arrived: s(i, k) = max of those times. A transfer i -> j of b bytes
    leaves at s(i, k) + b / rate and arrives latency(i, j) later; rate is the least, over its
    links, of capacity / (number of the round's transfers on that link). The connection i -> j is
    one of these links where something limits it; where that is a window or losses, what it sends
    arrives at s(i, k) + max(b / rate, b / (rate without it) + latency(i, j)), since a sender that
    waits for acknowledgements has waited for the latency. D is the last arrival, but no link
    carries its bytes faster than its capacity: D0 >= max over l of bytes(l) / capacity(l), and
    D >= D0.

    Parameters
    ----------
    operation
        all_reduce, reduce_scatter, all_gather, all_to_all or broadcast.
    size
        Bytes of the whole buffer on the wire, scales included (:func:`sim.program.wire_bytes`).
    dtype
        int8 and fp4 take the quantized forms of all_reduce and reduce_scatter.
    ranks
        Its members, ascending; by default all workers.

    Notes
    -----
    docs/background/network.md, "One collective alone". Who shares a link is counted per round, not
    per moment: in a tree, and with surplus workers in halving and doubling, some workers are a
    round ahead of others, and without the bound both rounds would count a link as theirs.

    Raises
    ------
    ValueError
        For an unknown operation or algorithm.
    """
    sequence = rounds(scenario, operation, size, dtype, ranks)
    carried: dict[Link, float] = {}
    for transfers in sequence:
        for (i, j), amount in transfers.items():
            for link in _links(scenario, i, j):
                carried[link] = carried.get(link, 0.0) + amount
    alone = {link: amount / _capacity(scenario, link) for link, amount in carried.items()}
    path = _last_arrival(scenario, sequence, latencies=False)
    transmission = max(path, *alone.values()) if alone else path
    share = {link: busy / transmission if transmission else 0.0 for link, busy in alone.items()}
    total = max(_last_arrival(scenario, sequence, latencies=True), transmission)
    return Duration(total, transmission, share)


def rounds(
    scenario: Scenario,
    operation: str,
    size: float,
    dtype: str = "bf16",
    ranks: Sequence[int] = (),
) -> list[Round]:
    """List a collective's rounds, first to last (arguments as :func:`longest_path`)."""
    algorithm = scenario.network.collectives.algorithm
    requantized = algorithm == "requantized_ring"
    if requantized:
        algorithm = "ring"
    if algorithm not in ("ring", "tree", "halving_doubling", "direct", "hierarchical"):
        raise ValueError(f"algorithm {algorithm!r} is not known here")
    ranks = list(ranks) or [worker.rank for worker in scenario.workers]
    sites = _sites(scenario, ranks)
    ring = [rank for members in sites for rank in members]

    if operation == "all_to_all":
        return [_everybody_to_everybody(ranks, size)]
    name, _, root = operation.partition("_from_")
    if name == "broadcast":  # from a member by its place, by default the first
        ranks = [*ranks[int(root or 0) :], *ranks[: int(root or 0)]]
        if algorithm == "direct":
            return [{(ranks[0], rank): size for rank in ranks[1:]}]
        return _tree_broadcast(ranks, size)
    if operation not in ("all_reduce", "reduce_scatter", "all_gather"):
        raise ValueError(f"operation {operation!r} is not known here")

    if dtype in QUANTIZED and operation != "all_gather" and not requantized:
        exchange = [_everybody_to_everybody(ranks, size)]
        if operation == "reduce_scatter":
            return exchange
        return exchange + rounds(scenario, "all_gather", size, ranks=ranks)

    one_pass: list[Round]
    if algorithm == "hierarchical" and operation == "all_reduce":
        return _hierarchical(sites, size)
    if algorithm == "tree" and operation == "all_reduce":
        down = _tree_broadcast(ranks, size)
        return [_reversed(transfers) for transfers in reversed(down)] + down
    if algorithm == "halving_doubling":
        return _halving_doubling(operation, ranks, size)
    if algorithm == "direct":
        one_pass = [_everybody_to_everybody(ranks, size)]
    else:
        one_pass = _ring_pass(ring, size)
    return 2 * one_pass if operation == "all_reduce" else one_pass


def _ring_pass(ring: list[int], size: float) -> list[Round]:
    """List the M-1 rounds of a ring reduce-scatter, which are those of an all-gather too."""
    count = len(ring)
    following = [*ring[1:], *ring[:1]]
    step = dict.fromkeys(zip(ring, following, strict=True), size / count)
    return [step] * (count - 1)


def _everybody_to_everybody(ranks: list[int], size: float) -> Round:
    return {(i, j): size / len(ranks) for i in ranks for j in ranks if i != j}


def _tree_broadcast(ranks: list[int], size: float) -> list[Round]:
    """Binomial tree from the first: places whose lowest set bit is 2^k receive in round -k."""
    bits = range((len(ranks) - 1).bit_length())
    return [
        {
            (ranks[place - (1 << k)], ranks[place]): size
            for place in range(1, len(ranks))
            if place & -place == 1 << k
        }
        for k in reversed(bits)
    ]


def _halving_doubling(operation: str, ranks: list[int], size: float) -> list[Round]:
    power = 1 << (len(ranks).bit_length() - 1)
    halving: list[Round] = []
    distance, part = power // 2, size / 2
    while distance >= 1:
        halving.append({(ranks[i], ranks[i ^ distance]): part for i in range(power)})
        distance, part = distance // 2, part / 2
    doubling = halving[::-1]
    before: list[Round] = [dict.fromkeys(zip(ranks[power:], ranks, strict=False), size)]
    after = [_reversed(before[0])]
    core = {
        "all_reduce": halving + doubling,
        "reduce_scatter": halving,
        "all_gather": doubling,
    }
    return before + core[operation] + after if len(ranks) > power else core[operation]


def _hierarchical(sites: list[list[int]], size: float) -> list[Round]:
    per_site = len(sites[0])
    if all(len(members) == per_site for members in sites):
        inside = _together(_ring_pass(members, size) for members in sites)
        slices = zip(*sites, strict=True)
        between = _together(2 * _ring_pass(list(k_th), size / per_site) for k_th in slices)
        return inside + between + inside
    down = _together(_tree_broadcast(members, size) for members in sites)
    # A site of fewer workers joins the first rounds only; its rounds touch no other site's
    # links, so the place where they stand in the sequence does not matter.
    up = _together(
        [_reversed(transfers) for transfers in reversed(_tree_broadcast(members, size))]
        for members in sites
    )
    return up + 2 * _ring_pass([members[0] for members in sites], size) + down


def _together(parts: Iterable[list[Round]]) -> list[Round]:
    """Merge what disjoint groups of workers do side by side into one sequence of rounds."""
    merged: list[Round] = []
    for part in parts:
        for number, transfers in enumerate(part):
            if number == len(merged):
                merged.append({})
            merged[number].update(transfers)
    return merged


def _reversed(transfers: Round) -> Round:
    return {(j, i): amount for (i, j), amount in transfers.items()}


def _sites(scenario: Scenario, ranks: list[int]) -> list[list[int]]:
    """Group ranks by site, sites in the ring's order, sites without workers left out."""
    order = scenario.network.collectives.order or range(len(scenario.sites))
    grouped = [[i for i in ranks if scenario.workers[i].site == site] for site in order]
    return [members for members in grouped if members]


def _links(scenario: Scenario, i: int, j: int) -> list[Link]:
    a, b = scenario.workers[i].site, scenario.workers[j].site
    if a == b:
        return [("send", i, i), ("receive", j, j)]
    return [("pair", a, b), ("uplink", a, a), ("downlink", b, b), ("connection", i, j)]


def _capacity(scenario: Scenario, link: Link) -> float:
    kind, a, b = link
    if kind == "connection":
        return min(_streams_rate(scenario), _acknowledged_rate(scenario, a, b))
    if kind == "pair":
        return scenario.network.bandwidth.between(a, b)
    if kind == "uplink":
        return scenario.sites[a].uplink
    if kind == "downlink":
        return scenario.sites[b].downlink
    return scenario.sites[scenario.workers[a].site].within_bandwidth


def _streams_rate(scenario: Scenario) -> float:
    return scenario.network.streams.count * scenario.network.streams.rate


def _acknowledged_rate(scenario: Scenario, i: int, j: int) -> float:
    """Bytes/s that the window and the losses of the connections i -> j leave."""
    network = scenario.network
    round_trip = _latency(scenario, i, j) + _latency(scenario, j, i)
    one = connection_rate(
        round_trip,
        window=network.collectives.host.window_bytes,
        loss=network.streams.loss,
        segment=network.streams.segment_bytes,
    )
    return network.streams.count * one


def _latency(scenario: Scenario, i: int, j: int) -> float:
    a, b = scenario.workers[i].site, scenario.workers[j].site
    if a == b:
        return scenario.sites[a].within_latency
    return scenario.network.latency.between(a, b)


def round_trip(scenario: Scenario, i: int, j: int) -> float:
    """Seconds from worker i to worker j and back."""
    return _latency(scenario, i, j) + _latency(scenario, j, i)


def _last_arrival(scenario: Scenario, sequence: list[Round], *, latencies: bool) -> float:
    enters = {worker.rank: 0.0 for worker in scenario.workers}
    last = 0.0
    for transfers in sequence:
        crossing = Counter(link for i, j in transfers for link in _links(scenario, i, j))
        free = dict(enters)
        for (i, j), amount in transfers.items():
            rate = unhindered = inf
            for link in _links(scenario, i, j):
                rate = min(rate, _capacity(scenario, link) / crossing[link])
                if link[0] != "connection":
                    unhindered = min(unhindered, _capacity(scenario, link) / crossing[link])
            if scenario.workers[i].site != scenario.workers[j].site:
                unhindered = min(unhindered, _streams_rate(scenario))
            leaves = enters[i] + amount / rate
            latency = _latency(scenario, i, j) if latencies else 0.0
            arrives = max(leaves, enters[i] + amount / unhindered + latency)
            free[i] = max(free[i], leaves)
            free[j] = max(free[j], arrives)
            last = max(last, arrives)
        enters = free
    return last
