"""Messages between ranks that ask for what they receive, and the lines on which they take turns.

Between two ranks of a group there is one connection, on which messages leave one after the
other. Nothing is sent before it is asked for: a receiver says that it is ready, and the data
leave when that has arrived. So what follows from a message costs a whole round trip, unless
it was asked for early; and a question waits behind data that go the same way.

Source: gloo's transport/tcp/pair.cc, as in torch 2.13.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Generator, Sequence
from math import inf
from typing import TYPE_CHECKING

import simpy
from simpy.events import URGENT

if TYPE_CHECKING:
    from sim.scenario.resolved import HostCosts

PREAMBLE_BYTES = 48
"""What every message has before its data; a question is nothing else."""

Script = Generator["Moment", None, None]
"""One rank's part in a collective: what it yields has happened when it goes on."""
Way = tuple[tuple[int, ...], float]
"""Numbers of the lines between two ranks, and the latency in seconds."""


class Moment:
    """When something has happened: data sent, data received, time passed.

    ``at`` is in seconds, ``inf`` as long as it is unknown.
    """

    __slots__ = ("at", "waiter")

    def __init__(self, at: float = inf) -> None:
        self.at = at
        self.waiter: Callable[[Moment], None] | None = None

    def known(self, at: float) -> None:
        """Say when, and tell who waits."""
        self.at = at
        if self.waiter is not None:
            self.waiter(self)


class Wires:
    """The lines of a network, on which messages take turns.

    Parameters
    ----------
    env
        The clock.
    rates
        Of each line, bytes/s.
    way
        From (sender, receiver) to the lines between them.
    host
        What the ends cost.
    """

    def __init__(
        self,
        env: simpy.Environment,
        rates: Sequence[float],
        way: Callable[[int, int], Way],
        host: HostCosts,
    ) -> None:
        self.env = env
        self.host = host
        self.messages = 0  # so far
        self._rates = rates
        self._free = [0.0] * len(rates)
        self._way = way
        self._ways: dict[tuple[int, int], tuple[tuple[int, ...], float, float]] = {}

    def after(self, seconds: float, action: Callable[[simpy.Event], None]) -> None:
        """Do something after so many seconds, before computations of the same instant."""
        event = simpy.Event(self.env)
        event._ok, event._value = True, None
        event.callbacks = [action]
        self.env.schedule(event, priority=URGENT, delay=seconds)

    def carry(self, sender: int, receiver: int, size: float, begin: float) -> tuple[float, float]:
        """Put a message on its way, not before ``begin``.

        Returns
        -------
        tuple of float
            When its last byte leaves, and when that arrives; seconds.
        """
        self.messages += 1
        way = self._ways.get((sender, receiver))
        if way is None:
            way = self._ways[sender, receiver] = self._limited(sender, receiver)
        lines, latency, seconds_per_byte = way
        if size <= PREAMBLE_BYTES:
            # Connections share a line packet by packet: a question waits for no other's data.
            return begin, begin + latency
        left = begin
        for line in lines:
            # A line takes up a message when its first byte comes, so the narrowest decides.
            begin = max(begin, self._free[line])
            self._free[line] = begin + size / self._rates[line]
            left = max(left, self._free[line])
        left = max(left, begin + size * seconds_per_byte)
        return left, left + latency

    def _limited(self, sender: int, receiver: int) -> tuple[tuple[int, ...], float, float]:
        """Return the way and what its window allows: so many bytes in a round trip at most."""
        lines, latency = self._way(sender, receiver)
        round_trip = latency + self._way(receiver, sender)[1]
        return lines, latency, round_trip / self.host.window_bytes


class Connections:
    """The connections of one process group: a stream for each ordered pair of ranks."""

    def __init__(self, wires: Wires, workers: int) -> None:
        self.wires = wires
        self.workers = workers
        self._free: dict[tuple[int, int], float] = defaultdict(float)

    def put(
        self, sender: int, receiver: int, size: float, arrived: Callable[[simpy.Event], None]
    ) -> float:
        """Send a message; return when it has left, behind those before it on its stream."""
        wires, stream = self.wires, (sender, receiver)
        now = wires.env.now
        begin = max(now, self._free[stream])
        left, arrives = wires.carry(sender, receiver, size + PREAMBLE_BYTES, begin)
        self._free[stream] = left
        # The thread that reads a question answers it; data wake another one up.
        effect = wires.host.message_s * (1.0 if size > 0 else 0.5)
        wires.after(arrives + effect - now, arrived)
        return left

    def run(self, script: Script, ended: Callable[[], None]) -> None:
        """Run one rank's part, and say when it has ended."""
        wires = self.wires

        def go_on(_: object = None) -> None:
            for moment in script:
                if moment.at > wires.env.now:
                    if moment.at == inf:
                        moment.waiter = wait
                    else:
                        wait(moment)
                    return
            ended()

        def wait(moment: Moment) -> None:
            seconds = moment.at - wires.env.now
            if seconds > 0:
                wires.after(seconds, go_on)
            else:
                go_on()

        go_on()


class End:
    """One rank's end of one collective: what its script calls.

    Make the ends of a collective with :func:`ends`, all before any script runs.
    """

    def __init__(self, connections: Connections, rank: int, others: list[End]) -> None:
        self.rank = rank
        self.workers = connections.workers
        self.host = connections.wires.host
        self._connections = connections
        self._env = connections.wires.env
        self._others = others
        self._asked: dict[int, int] = defaultdict(int)  # by peer: questions not answered yet
        self._sends: dict[int, deque[tuple[float, Moment]]] = defaultdict(deque)  # not asked for
        self._receives: dict[int, deque[Moment]] = defaultdict(deque)

    def send(self, peer: int, size: float) -> Moment:
        """Send data to a peer, once it has asked for them."""
        sent = Moment()
        if self._asked[peer]:
            self._asked[peer] -= 1
            self._leave(peer, size, sent)
        else:
            self._sends[peer].append((size, sent))
        return sent

    def receive(self, peer: int) -> Moment:
        """Ask a peer for data."""
        received = Moment()
        self._receives[peer].append(received)
        other = self._others[peer]
        self._connections.put(self.rank, peer, 0.0, lambda _: other._hears(self.rank))
        return received

    def pause(self, seconds: float) -> Moment:
        """Spend time on what came."""
        return Moment(self._env.now + seconds)

    def _hears(self, peer: int) -> None:
        """A peer is ready for data."""
        waiting = self._sends[peer]
        if waiting:
            self._leave(peer, *waiting.popleft())
        else:
            self._asked[peer] += 1

    def _leave(self, peer: int, size: float, sent: Moment) -> None:
        other = self._others[peer]
        sent.known(self._connections.put(self.rank, peer, size, lambda _: other._gets(self.rank)))

    def _gets(self, peer: int) -> None:
        """Data from a peer are there."""
        self._receives[peer].popleft().known(self._env.now)


def ends(connections: Connections) -> list[End]:
    """Return the ends of a new collective, by rank."""
    found: list[End] = []
    found += [End(connections, rank, found) for rank in range(connections.workers)]
    return found
