"""Messages between ranks: receiver-initiated rendezvous.

A receiver sends a recv-ready notification, and the data leave when that has arrived. So what
follows from a message costs a whole round trip, unless the receiver was ready early; and a
notification waits behind data that go the same way (:mod:`sim.network.message_links`).

Source: gloo's transport/tcp/pair.cc, as in torch 2.13.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Generator
from math import inf

from sim.network.message_links import Connections

Script = Generator["Moment", None, None]
"""One rank's part in a collective: what it yields has happened when it resumes."""


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


class End:
    """One rank's end of one collective: what its script calls.

    Make the ends of a collective with :func:`ends`, all before any script runs.
    """

    def __init__(self, connections: Connections, rank: int, others: list[End]) -> None:
        self.rank = rank
        self.workers = connections.workers
        self.host = connections.links.host
        self._connections = connections
        self._links = connections.links
        self._clock = connections.links.clock
        self._others = others
        self._asked: dict[int, int] = defaultdict(int)  # by peer: notifications not answered
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
        self._connections.put(self.rank, peer, 0.0, lambda: other._hears(self.rank))
        return received

    def pause(self, seconds: float) -> Moment:
        """Spend time on what came."""
        return Moment(self._clock.now + seconds)

    def wake(self) -> Moment:
        """Let another thread have its turn."""
        return self.pause(self._links.waking_s())

    def run(self, script: Script, ended: Callable[[], None]) -> None:
        """Run this rank's part, and say when it has ended."""
        clock = self._clock

        def go_on() -> None:
            for moment in script:
                if moment.at > clock.now:
                    if moment.at == inf:
                        moment.waiter = wait
                    else:
                        wait(moment)
                    return
            ended()

        def wait(moment: Moment) -> None:
            seconds = moment.at - clock.now
            if seconds > 0:
                clock.after(seconds, go_on, first=True)
            else:
                go_on()

        go_on()

    def _hears(self, peer: int) -> None:
        """A peer is ready for data."""
        waiting = self._sends[peer]
        if waiting:
            self._leave(peer, *waiting.popleft())
        else:
            self._asked[peer] += 1

    def _leave(self, peer: int, size: float, sent: Moment) -> None:
        other = self._others[peer]
        sent.known(self._connections.put(self.rank, peer, size, lambda: other._gets(self.rank)))

    def _gets(self, peer: int) -> None:
        """Data from a peer are there."""
        self._receives[peer].popleft().known(self._clock.now)


def ends(connections: Connections) -> list[End]:
    """Return the ends of a new collective, by rank."""
    found: list[End] = []
    found += [End(connections, rank, found) for rank in range(connections.workers)]
    return found
