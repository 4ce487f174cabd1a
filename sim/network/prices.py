"""What a collective costs alone: its schedule laid over the links, or a measured table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim.members import Members
from sim.network.capacity import Capacity
from sim.network.direct import Direct, by_site
from sim.network.ring import around
from sim.network.schedules import Schedule, ToEachOther, Transfers
from sim.network.states import State
from sim.records.scenario import CollectiveTable, Scenario


@dataclass(frozen=True)
class Cost:
    """One collective alone on the network.

    ``latency_s`` is shared with nobody, ``transmit_s`` stretches when links are shared.
    ``links`` are those that it crosses and that are not unlimited, by number, in order, and
    ``use`` is the fraction of each one's capacity taken meanwhile.
    ``pairs`` are the pairs of workers whose connections limit it, by number, and ``pair_use`` the
    fraction taken of what their connections carry.
    """

    latency_s: float
    transmit_s: float
    links: NDArray[np.intp]
    use: NDArray[np.float64]
    pairs: NDArray[np.intp]
    pair_use: NDArray[np.float64]
    #: Where links vary, the cost in another state of them; None where a link is down.
    at: Callable[[State], Cost | None] | None = None

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.latency_s + self.transmit_s


class Routes(Protocol):
    """Where what one worker sends to another goes; :class:`sim.network.links.Links` says it."""

    scenario: Scenario
    #: Whether connections carry less than links.
    limited: bool

    def site_of(self, ranks: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the index of each rank's site."""
        ...

    def route(
        self, sender: NDArray[np.intp], receiver: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Links by turns crossed by each transfer, [n, 3] with -1 for none; its latency [n]."""
        ...

    def connections(
        self, sender: NDArray[np.intp], receiver: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Bytes/s that the connections of each pair carry by their rate, and by what is in flight.

        Unlimited inside a site.
        """
        ...


def interpolate(table: CollectiveTable, size: float) -> float:
    """Seconds from a measured table: linear between points, the end segments prolonged.

    Below the first point the time is that of the first point (a smaller buffer is not
    negative time away from it), above the last the last segment's slope continues.
    """
    sizes, seconds = np.array(table.bytes), np.array(table.seconds)
    if size <= sizes[-1] or len(sizes) == 1:
        return float(np.interp(size, sizes, seconds))
    slope = (seconds[-1] - seconds[-2]) / (sizes[-1] - sizes[-2])
    return float(seconds[-1] + slope * (size - sizes[-1]))


def _distinct(numbers: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the different numbers in order, and where among them each one is.

    As ``np.unique`` does, which sorts; numbers that lie close together need no sorting.
    """
    least = numbers.min() if numbers.size else 0
    if numbers.max(initial=0) - least > 4 * numbers.size:
        distinct, place = np.unique(numbers, return_inverse=True)
        return distinct, place
    there = np.bincount(numbers - least) > 0
    return np.flatnonzero(there) + least, (np.cumsum(there) - 1)[numbers - least]


def _count(numbers: NDArray[np.intp]) -> int:
    """How many different ones there are."""
    return len(set(numbers.tolist()))


def _equal(values: NDArray[np.float64]) -> bool:
    """Whether they are all the same."""
    return bool((values == values[0]).all())


_Times = tuple[
    Transfers | ToEachOther, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], bool
]
"""A round, its seconds per byte, those without acknowledgements, its latency, whether all alike."""


class Priced:
    """A schedule laid over the links: everything about it that does not depend on the size.

    The schedule is between places among the members, the links are between their ranks.
    """

    def __init__(
        self, links: Routes, rounds: Schedule, members: Members, capacity: Capacity
    ) -> None:
        workers = len(links.scenario.workers)
        self._capacity = capacity
        self.sent = np.zeros(len(members))
        self._ranks = np.array(members.ranks, dtype=np.intp)
        self._site = links.site_of(self._ranks)
        self._rounds: list[_Times | Direct] = []
        crossed, crossing = np.zeros(0, dtype=np.intp), np.zeros(0)
        pairs, busy = [np.zeros(0, dtype=np.intp)], [np.zeros(0)]
        direct = by_site(links.scenario.network, limited=links.limited)
        laid: Transfers | ToEachOther | None = None
        for transfers in rounds:
            if direct and isinstance(transfers, ToEachOther):
                if transfers is not laid:
                    exchange = Direct(links, capacity, self._ranks)
                laid = transfers
                self._rounds.append(exchange)
                self.sent += exchange.sent
                more = np.concatenate([crossing, exchange.carried])
                crossed, at = _distinct(np.concatenate([crossed, exchange.numbers]))
                crossing = np.zeros(len(crossed))
                np.add.at(crossing, at, more)
                continue
            if transfers is not laid:  # one that is repeated is laid over the links once
                laid = transfers
                used, numbers, place, times = self._laid(links, transfers)
                before, so_far = len(crossed), crossing
                crossed, at = _distinct(np.concatenate([crossed, numbers]))
                crossing, here = np.zeros(len(crossed)), at[before:]
                crossing[at[:before]] = so_far
            self._rounds.append(times)
            carried = transfers.share * transfers.repeat
            np.add.at(self.sent, transfers.sender, carried)
            more = crossing[here]
            np.add.at(more, place, np.repeat(carried, used.sum(axis=1)))
            crossing[here] = more
            if links.limited:
                sender, receiver = self._ranks[transfers.sender], self._ranks[transfers.receiver]
                connection = np.minimum(*links.connections(sender, receiver))
                used_pairs = connection < inf
                pairs.append((sender * workers + receiver)[used_pairs])
                busy.append((carried / connection)[used_pairs])
        # Who shares a link is counted per round, and workers that are a round ahead of others
        # use links at the same time as these: no link carries its bytes faster than it can.
        rates = capacity.of(crossed)
        self._links = crossed
        self._use = np.divide(crossing, rates, out=np.zeros_like(crossing), where=crossing > 0)
        self._transmit_per_byte = max(
            self._longest_path(1.0, with_latency=False), float(self._use.max(initial=0.0))
        )
        self._pairs, self._pair_use = pairs[0], busy[0]
        if links.limited:
            self._pairs, place = np.unique(np.concatenate(pairs), return_inverse=True)
            self._pair_use = np.zeros(len(self._pairs))
            np.add.at(self._pair_use, place, np.concatenate(busy))
        if self._transmit_per_byte > 0:
            self._use /= self._transmit_per_byte
            self._pair_use /= self._transmit_per_byte

    def _laid(
        self, links: Routes, transfers: Transfers | ToEachOther
    ) -> tuple[NDArray[np.bool_], NDArray[np.intp], NDArray[np.intp], _Times]:
        """Lay a round over the links.

        Returns
        -------
        used
            Which links on its route have a limited capacity, for each of n transfers; [n, 3].
        numbers, place
            The numbers of these links, in order; and where among them each use of a link is.
        times
            What the round takes.
        """
        sender, receiver = self._ranks[transfers.sender], self._ranks[transfers.receiver]
        route, latency = links.route(sender, receiver)
        rate = self._capacity.of(route)
        used = (route >= 0) & (rate < inf)
        numbers, place = _distinct(route[used])
        rate[~used] = inf
        rate[used] /= np.bincount(place)[place]  # all that cross a link in a round share it
        sent = rate.min(axis=1)
        if links.limited:
            paced, acknowledged = links.connections(sender, receiver)
            sent = np.minimum(sent, paced)
        unhindered = seconds_per_byte = transfers.share / sent
        if links.limited:
            seconds_per_byte = transfers.share / np.minimum(sent, acknowledged)
        # All send and receive alike: then all workers stay abreast of each other.
        alike = (
            _count(sender) == _count(receiver) == len(self._ranks)
            and _equal(seconds_per_byte)
            and _equal(unhindered)
            and _equal(latency)
        )
        times = transfers, seconds_per_byte, unhindered, latency, bool(alike)
        return used, numbers, place, times

    @property
    def transmit_per_byte(self) -> float:
        """Seconds per byte of the buffer, without latencies."""
        return self._transmit_per_byte

    @property
    def leaving(self) -> NDArray[np.float64]:
        """Bytes that each member sends to other sites, per byte of the buffer; shape [members]."""
        leaving = np.zeros(len(self._ranks))
        for laid in self._rounds:
            if isinstance(laid, Direct):
                leaving += laid.leaving
                continue
            transfers = laid[0]
            abroad = self._site[transfers.sender] != self._site[transfers.receiver]
            carried = transfers.share * transfers.repeat
            np.add.at(leaving, transfers.sender[abroad], carried[abroad])
        return leaving

    def waits(self, capacity: Capacity) -> bool:
        """Whether a link that it sends over carries nothing."""
        return not capacity.of(self._links[self._use > 0]).all()

    def cost(self, size: float) -> Cost:
        """Return what a collective of ``size`` bytes per member costs alone."""
        transmit = self._transmit_per_byte * size
        total = self._longest_path(size, with_latency=True)
        latency = max(0.0, total - transmit)
        return Cost(latency, transmit, self._links, self._use, self._pairs, self._pair_use)

    def _longest_path(self, size: float, *, with_latency: bool) -> float:
        """Last arrival when all members enter round 0 at time 0."""
        enters = np.zeros(len(self._ranks))
        for laid in self._rounds:
            if isinstance(laid, Direct):
                enters = laid.after(enters, size, with_latency=with_latency)
                continue
            transfers, seconds_per_byte, unhindered, latency, alike = laid
            waiting = unhindered is not seconds_per_byte
            occupied, sent = seconds_per_byte * size, unhindered * size
            delay = latency if with_latency else np.zeros_like(latency)
            if alike and _equal(enters):
                enters += max(occupied[0], sent[0] + delay[0]) * transfers.repeat
                continue
            sender, receiver = transfers.sender, transfers.receiver
            # Each worker sends and receives at most once: no need to collect maxima.
            once = _count(sender) == sender.size == _count(receiver)
            if once and sender.size == len(enters) and (receiver == np.roll(sender, -1)).all():
                by_place = enters[sender]
                around(by_place, occupied, sent if waiting else None, delay, transfers.repeat)
                enters[sender] = by_place
                continue
            for _ in range(transfers.repeat):
                leaves = enters[sender] + occupied
                arrives = leaves + delay
                if waiting:  # who waits for acknowledgements has waited for the latency
                    arrives = np.maximum(leaves, enters[sender] + sent + delay)
                following = enters.copy()
                if once:
                    following[sender] = np.maximum(following[sender], leaves)
                    following[receiver] = np.maximum(following[receiver], arrives)
                else:
                    np.maximum.at(following, sender, leaves)
                    np.maximum.at(following, receiver, arrives)
                enters = following
        return float(enters.max())
