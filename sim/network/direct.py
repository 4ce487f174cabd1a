"""A direct exchange, priced by site: each member sends a part to each other one, at once.

Where nothing limits a pair of sites but the uplink of one and the downlink of the other, a
transfer from site a to site b takes max(U_a, D_b), U and D being what a transfer takes that shares
the uplink or the downlink with all others. So the last of them leaves a at the largest of U_a and
the D of the other sites, and the last arrives at b from the site that is last with U, or with the
members that begin last and D_b: nothing has to be known of the pairs of members, or of sites.
"""

from __future__ import annotations

from math import inf
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim.network.capacity import Capacity
from sim.records.scenario import Network

Floats = NDArray[np.float64]
Numbers = NDArray[np.intp]


class SiteRoutes(Protocol):
    """Where what one worker sends to another goes, and through what site."""

    def site_of(self, ranks: Numbers) -> Numbers:
        """Return the index of each rank's site."""
        ...

    def route(self, sender: Numbers, receiver: Numbers) -> tuple[Numbers, Floats]:
        """Links by turns crossed by each transfer, [n, 3] with -1 for none; its latency [n]."""
        ...


def by_site(network: Network, *, limited: bool) -> bool:
    """Whether pairs of sites differ by their uplinks and downlinks alone.

    Parameters
    ----------
    network
        Of the scenario.
    limited
        Whether connections carry less than links.
    """
    return not limited and network.bandwidth.common == inf and network.latency.common is not None


class Direct:
    """One round in which each of some members sends an equal part of S to each other one.

    Parameters
    ----------
    links
        Between the members.
    capacity
        Of the links.
    ranks
        The members.
    """

    def __init__(self, links: SiteRoutes, capacity: Capacity, ranks: Numbers) -> None:
        count = len(ranks)
        first: Numbers
        _, first, self._of, members = np.unique(
            links.site_of(ranks), return_index=True, return_inverse=True, return_counts=True
        )
        share = 1 / count
        abroad = members * (count - members)  # transfers that leave a site; as many come
        numbers, transfers = [], []

        def seconds(link: Numbers, crossing: Numbers) -> Floats:
            """Return what a transfer takes that shares a link with all that cross it."""
            rate = capacity.of(link)
            there = (rate < inf) & (crossing > 0)
            numbers.append(link[there])
            transfers.append(crossing[there])
            # As in a round of transfers that are priced one by one, to the same bits.
            shared = np.divide(rate, crossing, out=np.full(len(rate), inf), where=there)
            return np.asarray(share / shared)

        self._latency = 0.0
        self._up: Floats = np.zeros(len(first))
        self._down: Floats = np.zeros(len(first))
        if len(first) > 1:
            here, there = ranks[first], ranks[np.roll(first, -1)]
            crossed, latency = links.route(here, there)
            self._up = seconds(crossed[:, 0], abroad)
            down = seconds(crossed[:, 2], np.roll(abroad, -1))
            self._down = np.asarray(np.roll(down, 1), dtype=np.float64)
            self._latency = float(latency[0])
        order = np.argsort(self._of, kind="stable")
        begins = np.concatenate([[0], np.cumsum(members)])
        following = np.arange(1, count + 1)
        following[begins[1:] - 1] = begins[:-1]  # the last of a site is followed by its first
        inside = members[self._of[order]] > 1
        here, there = ranks[order][inside], ranks[order[following]][inside]
        crossed, latency = links.route(here, there)
        others = members[self._of[order]][inside] - 1
        out, into = seconds(crossed[:, 0], others), seconds(crossed[:, 1], others)
        self._within = np.full(count, -inf)
        self._within_latency = np.zeros(count)
        # All links inside a site are alike.
        self._within[order[inside]] = np.maximum(out, into)
        self._within_latency[order[inside]] = latency
        self._members, self._order, self._begins = members, order, begins
        #: Bytes that each member sends, and that it sends to other sites, per byte of S.
        self.sent = np.full(count, share * (count - 1))
        self.leaving = share * (count - members[self._of])
        self.numbers: Numbers = np.concatenate(numbers)
        """The links that are crossed and limited; :attr:`carried` has the bytes on each."""
        self.carried: Floats = np.asarray(share * np.concatenate(transfers), np.float64)

    def after(self, enters: Floats, size: float, *, with_latency: bool) -> Floats:
        """Return when each member has sent and received all, from when it begins."""
        following = enters.copy()
        if len(self._members) > 1:
            latest = np.maximum.reduceat(enters[self._order], self._begins[:-1])
            up, down = self._up * size, self._down * size
            leaves = enters + np.maximum(up, _of_others(down))[self._of]
            last = np.maximum(_of_others(latest + up), down + _of_others(latest))
            arrives = last + (self._latency if with_latency else 0.0)
            following = np.maximum(leaves, arrives[self._of])
        among = self._within > -inf
        if among.any():
            within = enters + self._within * size
            following[among] = np.maximum(following, within)[among]
            latency = self._within_latency if with_latency else 0.0
            arrives = (self._latest_other(enters) + self._within * size) + latency
            following[among] = np.maximum(following, arrives)[among]
        return following

    def _latest_other(self, enters: Floats) -> Floats:
        """Return for each member when the last other member of its site begins."""
        order = np.lexsort((enters, self._of))
        last = self._begins[1:] - 1
        found: Floats = enters[order[last]][self._of]
        several = self._members > 1
        found[order[last[several]]] = enters[order[last[several] - 1]]
        return found


def _of_others(values: Floats) -> Floats:
    """Return for each the largest of the others.

    Examples
    --------
    >>> _of_others(np.array([1.0, 5.0, 3.0])).tolist()
    [5.0, 3.0, 5.0]
    """
    at = int(values.argmax())
    found: Floats = np.full_like(values, values[at])
    found[at] = np.delete(values, at).max()
    return np.asarray(found)
