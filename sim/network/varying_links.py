"""Links whose rate varies over time, at the level of messages.

What has come of a message is no longer linear in time, so a link hands a curve to the next one:
instants and the bytes that have passed until then, linear between them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, cast

from sim.clock import Action, Clock
from sim.network.message_links import (
    PREAMBLE_BYTES,
    Connections,
    FifoLink,
    Limits,
    LinkPath,
    MessageLinks,
    Rates,
)
from sim.records.profiles import UNVARIED, Profile

if TYPE_CHECKING:
    from sim.records.scenario import HostCosts

Curve = Sequence[tuple[float, float]]
"""Instants in seconds and bytes until then, both ascending: from none to the whole message."""


class VaryingLink(FifoLink):
    """A link on which messages leave in the order in which they came, at a rate that varies.

    Parameters
    ----------
    rate
        Bytes/s at factor 1.
    profile
        The factor over time.
    """

    __slots__ = ("_profile", "_rate", "_served")

    def __init__(self, rate: float, profile: Profile) -> None:
        super().__init__(rate)
        self._rate = rate
        self._profile = profile
        self._served: list[tuple[Curve, Curve]] = []  # how a message came, how its turn passed

    def carry(self, comes: Curve) -> Curve:
        """Let a message with data through.

        Its turn begins when its first byte has come and the link is free, and lasts as long as
        its bytes take at the full rate. It leaves as fast as the link lets it, and no byte before
        it has come.
        """
        size = comes[-1][1]
        begin = max(comes[0][0], self._free)
        if begin > self._free:
            self._served.clear()
        work = size / self._rate
        turn = self._served_bytes(begin, work)
        self._free = turn[-1][0]
        self._served.append((comes, turn))
        last = comes[-1][0]
        if last > begin:  # the link may wait for bytes, and then needs longer
            turn = self._served_bytes(begin, work + self._profile.done(begin, last))
        return through(comes, turn)

    def behind(self, at: float) -> float:
        """Return when a packet leaves that comes ``at``: behind those that came before.

        A link that is down then keeps it until it is up again.
        """
        self._served = [message for message in self._served if message[1][-1][0] > at]
        leaves = self._profile.up_from(at)
        for comes, turn in self._served:
            if comes[0][0] <= at:
                leaves = max(leaves, _instant(turn, _bytes(comes, at)))
        return leaves

    def _served_bytes(self, begin: float, work: float) -> Curve:
        rate = self._rate
        return [(instant, done * rate) for instant, done in self._profile.changes(begin, work)]


def through(comes: Curve, serves: Curve) -> Curve:
    """Return how a message leaves a server that serves it like ``serves`` as long as it is there.

    With A bytes having come and S served, D(t) = S(t) - max(0, max over s <= t of S(s) - A(s)).

    Parameters
    ----------
    comes
        How it comes: A.
    serves
        S, from the begin of its turn on, long enough for it to end.

    Examples
    --------
    Of 8 bytes half come at once, the rest until instant 4; 4 bytes/s are served.

    >>> through([(0.0, 0.0), (0.0, 4.0), (4.0, 8.0)], [(0.0, 0.0), (6.0, 24.0)])
    [(0.0, 0.0), (1.3333333333333333, 5.333333333333333), (4.0, 8.0)]
    """
    size, begin = comes[-1][1], serves[0][0]
    instants = sorted({at for at, _ in comes if at > begin} | {at for at, _ in serves})
    leaves, unused = [(begin, 0.0)], 0.0
    came = [_bytes(comes, at) for at in instants]
    served = [_bytes(serves, at) for at in instants]
    for number, (before, at) in enumerate(pairwise(instants)):
        lead = served[number] - came[number]
        more = served[number + 1] - came[number + 1]
        if more <= unused:  # something waits all the time
            leaves.append((at, served[number + 1] - unused))
            continue
        if lead < unused:  # all that had come is served on the way, then it leaves as it comes
            part = (unused - lead) / (more - lead)
            there = came[number] + part * (came[number + 1] - came[number])
            leaves.append((before + part * (at - before), there))
        if leaves[-1][1] >= size:
            break
        leaves.append((at, came[number + 1]))
        unused = more
    while len(leaves) > 2 and leaves[1][1] <= 0:  # nothing has left yet
        leaves.pop(0)
    while len(leaves) > 2 and leaves[-2][1] >= size:
        leaves.pop()
    return [*leaves[:-1], (leaves[-1][0], size)]


def _bytes(curve: Curve, at: float) -> float:
    """Return how much has passed at an instant, all of what passes at that very instant."""
    if at < curve[0][0]:
        return 0.0
    for (begin, before), (end, after) in pairwise(curve):
        if at < end:
            return before + (at - begin) / (end - begin) * (after - before)
    return curve[-1][1]


def _instant(curve: Curve, size: float) -> float:
    """Return the first instant at which that much has passed."""
    place = bisect_left(curve, size, key=lambda point: point[1])
    if place == 0:
        return curve[0][0]
    if place == len(curve):
        return curve[-1][0]
    (begin, before), (end, after) = curve[place - 1], curve[place]
    return begin + (size - before) / (after - before) * (end - begin)


class VaryingConnections(Connections):
    """The connections of one process group, over links that vary."""

    def _pass(
        self,
        path: Sequence[FifoLink],
        passed: int,
        size: float,
        comes: tuple[float, float],
        latency: float,
        arrived: Action,
    ) -> None:
        first, last = comes
        links = cast("Sequence[VaryingLink]", path)
        self._carry(links, passed, [(first, 0.0), (last, size)], latency, arrived)

    def _carry(
        self,
        path: Sequence[VaryingLink],
        passed: int,
        comes: Curve,
        latency: float,
        arrived: Action,
    ) -> None:
        """Let a message through all links but those it has passed, each as its first byte comes."""
        links = self.links
        clock = links.clock
        now, size = clock.now, comes[-1][1]
        data = size > PREAMBLE_BYTES
        for number in range(passed, len(path)):
            first = comes[0][0]
            if first > now:
                go_on = partial(self._carry, path, number, comes, latency, arrived)
                clock.after(first - now, go_on, first=True)
                return
            if data:
                comes = path[number].carry(comes)
            else:
                leaves = path[number].behind(first)
                comes = [(leaves, 0.0), (leaves, size)]
        # The thread that reads a notification answers it; data wake another one up.
        effect = links.waking_s() * (1.0 if data else 0.5)
        clock.after(comes[-1][0] + latency + effect - now, arrived, first=True)


class VaryingMessageLinks(MessageLinks):
    """What carries the messages of all groups, where links vary.

    Parameters are those of :class:`sim.network.message_links.MessageLinks`, ``rates`` at factor 1,
    and ``profile``, from a link's number to how it varies.
    """

    def __init__(
        self,
        clock: Clock,
        rates: Rates,
        path: Callable[[int, int], LinkPath],
        host: HostCosts,
        chance: Random | None,
        limits: Callable[[int, int], Limits] | None,
        profile: Callable[[int], Profile],
    ) -> None:
        super().__init__(clock, rates, path, host, chance, limits)
        self._profile = profile

    def new_link(self, rate: float, number: int | None = None) -> FifoLink:
        """Return a link of that rate, and of that number unless it is of one connection."""
        return VaryingLink(rate, UNVARIED if number is None else self._profile(number))

    def connections(self, workers: int, ranks: Sequence[int] | None = None) -> Connections:
        """Return the connections of a new process group."""
        return VaryingConnections(self, workers, ranks)
