"""The links of a network at the level of messages: FIFO transmission, cut-through forwarding.

A message enters its first link as fast as the connection's window lets it, and the next one
while its first bytes leave the one before. Of two messages with data on a link the first to come
passes first, as a whole; a message without data is one packet, and waits for those packets that
came before it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from random import Random
from typing import TYPE_CHECKING, Protocol

from sim.clock import Action, Clock

if TYPE_CHECKING:
    from sim.records.scenario import HostCosts

PREAMBLE_BYTES = 48
"""What every message has before its data; a recv-ready notification is nothing else."""

LinkPath = tuple[tuple[int, ...], float]
"""Numbers of the links between two ranks, and the latency in seconds."""
Limits = tuple[float, float]
"""Bytes that a connection between two ranks may have in flight, and its bytes/s."""


class Rates(Protocol):
    """Bytes/s of links."""

    def __getitem__(self, number: int, /) -> float:
        """Return that of one link."""


class TooManyMessages(RuntimeError):  # noqa: N818
    """More messages than a run may come to."""


class FifoLink:
    """A link, on which packets leave in the order in which they came."""

    __slots__ = ("_free", "_seconds_per_byte", "_under_way")

    def __init__(self, rate: float) -> None:
        self._seconds_per_byte = 1 / rate
        self._free = 0.0
        self._under_way: list[tuple[float, float, float, float]] = []

    def pass_on(self, first: float, last: float, size: float) -> tuple[float, float]:
        """Let a message with data through.

        Parameters
        ----------
        first, last
            When its first and its last byte come.

        Returns
        -------
        tuple of float
            When they leave.
        """
        begin = max(first, self._free)
        if begin > self._free:
            self._under_way.clear()
        self._free = begin + size * self._seconds_per_byte
        self._under_way.append((first, last, begin, self._free))
        return begin, max(last, self._free)

    def behind(self, at: float) -> float:
        """Return when a packet leaves that comes ``at``: behind those that came before."""
        self._under_way = [message for message in self._under_way if message[-1] > at]
        leaves = at
        for first, last, begin, free in self._under_way:
            if first <= at:
                came = 1.0 if last <= at else (at - first) / (last - first)
                leaves = max(leaves, begin + came * (free - begin))
        return leaves


class MessageLinks:
    """What carries the messages of all groups.

    Parameters
    ----------
    clock
        Virtual time.
    rates
        From a link's number to its bytes/s.
    path
        From (sender, receiver) to the links between them.
    host
        Host overhead of the endpoints.
    chance
        For how long a thread takes to wake up; without it always as long.
    limits
        From (sender, receiver) to the limits of a connection between them; without it the
        window that ``host`` has.
    """

    def __init__(
        self,
        clock: Clock,
        rates: Rates,
        path: Callable[[int, int], LinkPath],
        host: HostCosts,
        chance: Random | None = None,
        limits: Callable[[int, int], Limits] | None = None,
    ) -> None:
        self.clock = clock
        self.host = host
        self.messages = 0  # so far
        self.most = inf  # that may be
        self._chance = chance
        self._rates = rates
        self._links: dict[int, FifoLink] = {}  # those that carried something
        self._path = path
        self._limits = limits or (lambda sender, receiver: (host.window_bytes, inf))
        self._paths: dict[tuple[int, int], tuple[list[FifoLink], float, float, float, float]] = {}

    def waking_s(self) -> float:
        """Wake-up latency of another thread, in seconds: random, up to twice ``message_s``.

        Without it all ranks would keep in step. Where two messages come to a link at nearly
        the same time, the first to come decides, often over a whole round trip.
        """
        if self._chance is None:
            return self.host.message_s
        return 2 * self._chance.random() * self.host.message_s

    def between(
        self, sender: int, receiver: int
    ) -> tuple[list[FifoLink], float, float, float, float]:
        """Return the links, the latency, and what limits a connection.

        That is the round trip, its share for a byte of the window, and a connection's bytes/s.
        """
        found = self._paths.get((sender, receiver))
        if found is None:
            numbers, latency = self._path(sender, receiver)
            round_trip = latency + self._path(receiver, sender)[1]
            links = [self._link(number) for number in numbers]
            window, rate = self._limits(sender, receiver)
            found = links, latency, round_trip, round_trip / window, rate
            self._paths[sender, receiver] = found
        return found

    def _link(self, number: int) -> FifoLink:
        if number not in self._links:
            self._links[number] = self.new_link(self._rates[number], number)
        return self._links[number]

    def new_link(self, rate: float, number: int | None = None) -> FifoLink:
        """Return a link of that rate, and of that number unless it is of one connection."""
        return FifoLink(rate)

    def connections(self, workers: int, ranks: Sequence[int] | None = None) -> Connections:
        """Return the connections of a new process group."""
        return Connections(self, workers, ranks)


class Connections:
    """The connections of one process group: a stream for each ordered pair of its members.

    Parameters
    ----------
    links
        What carries the messages.
    workers
        How many members the group has; they are known here by their places, from 0.
    ranks
        Theirs, if they are not all workers.
    """

    def __init__(
        self, links: MessageLinks, workers: int, ranks: Sequence[int] | None = None
    ) -> None:
        self.links = links
        self.workers = workers
        self._ranks = ranks
        # When a window as it is would have been acknowledged in full.
        self._full: dict[tuple[int, int], float] = defaultdict(float)
        self._paced: dict[tuple[int, int], FifoLink] = {}

    def put(self, sender: int, receiver: int, size: float, arrived: Action) -> float:
        """Send a message.

        Returns
        -------
        float
            When the window has let all of it out, behind what is on its stream.
        """
        links = self.links
        links.messages += 1
        if links.messages > links.most:
            raise TooManyMessages
        ends = (sender, receiver)
        if self._ranks is not None:
            ends = self._ranks[sender], self._ranks[receiver]
        path, latency, round_trip, per_byte, rate = links.between(*ends)
        first = last = now = links.clock.now
        size += PREAMBLE_BYTES
        if per_byte > 0:
            full = max(now, self._full[sender, receiver])
            first = max(now, full - round_trip)
            full += size * per_byte
            last = max(first, full - round_trip)
            self._full[sender, receiver] = full
        if rate < inf:
            paced = self._paced.setdefault((sender, receiver), links.new_link(rate))
            path = [paced, *path]
        self._pass(path, 0, size, (first, last), latency, arrived)
        return last

    def _pass(
        self,
        path: Sequence[FifoLink],
        passed: int,
        size: float,
        comes: tuple[float, float],
        latency: float,
        arrived: Action,
    ) -> None:
        """Let a message through all links but those it has passed, each as its first byte comes."""
        links, (first, last) = self.links, comes
        clock = links.clock
        now = clock.now
        data = size > PREAMBLE_BYTES
        for number in range(passed, len(path)):
            if first > now:
                go_on = partial(self._pass, path, number, size, (first, last), latency, arrived)
                clock.after(first - now, go_on, first=True)
                return
            if data:
                first, last = path[number].pass_on(first, last, size)
            else:
                first = last = path[number].behind(first)
        # The thread that reads a notification answers it; data wake another one up.
        effect = links.waking_s() * (1.0 if data else 0.5)
        clock.after(last + latency + effect - now, arrived, first=True)
