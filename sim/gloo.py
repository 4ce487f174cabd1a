"""Collectives as gloo carries them out: message by message, each rank in its own time.

A cost formula cannot tell how several collectives hide each other's latency, nor what it helps
that some ranks are there before others. So here a collective is what gloo makes of it: every
rank runs a short program of sends and receives, written below as a generator, as methods are.

Between two ranks of a group there is one connection, on which messages leave one after the
other. Nothing is sent before it is asked for: a receiver says that it is ready, and the data
leave when that has arrived. So what follows from a message costs a whole round trip, unless
it was asked for early; and a question waits behind data that go the same way.

Source: gloo's allreduce.cc (ring, two segments under way), alltoallv.cc, allgather.cc,
broadcast.cc and transport/tcp/pair.cc, as in torch 2.13.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

import simpy
from simpy.events import URGENT

from sim.program import DTYPE_BITS, QUANTIZED

if TYPE_CHECKING:
    from sim.scenario.resolved import HostCosts

SEGMENT_BYTES = 2**20
"""The longest segment of an all-reduce: gloo's default."""
_PREAMBLE_BYTES = 48  # of every message

Script = Generator["Handle", None, None]
Way = tuple[tuple[int, ...], float]
"""Numbers of the lines between two ranks, and the latency in seconds."""


class Handle:
    """Something that will have happened: data sent, data received, time passed."""

    __slots__ = ("done", "then")

    def __init__(self) -> None:
        self.done = False
        self.then: Callable[[], None] | None = None

    def happen(self) -> None:
        """Let who waits go on."""
        self.done = True
        if self.then is not None:
            then, self.then = self.then, None
            then()


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
        self._rates = rates
        self._free = [0.0] * len(rates)
        self._way = way
        self._ways: dict[tuple[int, int], Way] = {}

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something after so many seconds, before computations of the same instant."""
        event = simpy.Event(self.env)
        event._ok, event._value = True, None
        event.callbacks = [lambda _: action()]
        self.env.schedule(event, priority=URGENT, delay=max(0.0, seconds))

    def carry(
        self, sender: int, receiver: int, size: float, earliest: float
    ) -> tuple[float, float]:
        """Put a message on its way; when its last byte leaves, and when it arrives."""
        key = (sender, receiver)
        way = self._ways.get(key)
        if way is None:
            way = self._ways[key] = self._way(*key)
        lines, latency = way
        # With so many bytes under way at most, a long line is not filled.
        window = self.host.window_bytes / (2 * latency) if latency > 0 else float("inf")
        begin = last = earliest
        for line in lines:
            begin = max(begin, self._free[line])
            self._free[line] = begin + size / self._rates[line]
            last = max(last, self._free[line], begin + size / window)
        return last, last + latency


class _Stream:
    """One direction of a connection."""

    __slots__ = ("free",)

    def __init__(self) -> None:
        self.free = 0.0


class Connections:
    """The connections of one process group: a stream for each ordered pair of ranks."""

    def __init__(self, wires: Wires, workers: int) -> None:
        self.wires = wires
        self.workers = workers
        self._streams: dict[tuple[int, int], _Stream] = {}

    def put(
        self,
        sender: int,
        receiver: int,
        size: float,
        arrived: Callable[[], None],
        left: Callable[[], None] | None = None,
    ) -> None:
        """Send a message; it leaves when those before it on its stream have left."""
        wires = self.wires
        stream = self._streams.setdefault((sender, receiver), _Stream())
        now = wires.env.now
        stream.free, arrives = wires.carry(
            sender, receiver, size + _PREAMBLE_BYTES, max(now, stream.free)
        )
        wires.at(arrives + wires.host.message_s - now, arrived)
        if left is not None:
            wires.at(stream.free - now, left)

    def run(self, script: Script, ended: Callable[[], None]) -> None:
        """Run one rank's part, and say when it has ended."""

        def advance() -> None:
            for handle in script:
                if not handle.done:
                    handle.then = advance
                    return
            ended()

        advance()


class End:
    """One rank's end of one collective: what its script calls.

    All ends of a collective are made together, before any script runs.
    """

    def __init__(self, connections: Connections, rank: int, ends: list[End]) -> None:
        self.rank = rank
        self.workers = connections.workers
        self.host = connections.wires.host
        self._connections = connections
        self._ends = ends
        self._asked: dict[int, int] = {}  # by peer: receives it has said to be ready for
        self._sends: dict[int, deque[tuple[float, Handle]]] = {}  # not asked for yet
        self._receives: dict[int, deque[Handle]] = {}

    def send(self, peer: int, size: float) -> Handle:
        """Send data to a peer, once it has asked for them."""
        handle = Handle()
        if self._asked.get(peer, 0) > 0:
            self._asked[peer] -= 1
            self._leave(peer, size, handle)
        else:
            self._sends.setdefault(peer, deque()).append((size, handle))
        return handle

    def receive(self, peer: int) -> Handle:
        """Ask a peer for data."""
        handle = Handle()
        self._receives.setdefault(peer, deque()).append(handle)
        other = self._ends[peer]
        self._connections.put(self.rank, peer, 0.0, lambda: other.asked(self.rank))
        return handle

    def pause(self, seconds: float) -> Handle:
        """Spend time on what came."""
        handle = Handle()
        if seconds > 0:
            self._connections.wires.at(seconds, handle.happen)
        else:
            handle.happen()
        return handle

    def handled(self, size: float) -> Handle:
        """Spend the time that ``size`` received bytes cost this end."""
        return self.pause(size * self.host.byte_s)

    def asked(self, peer: int) -> None:
        """A peer is ready for data."""
        waiting = self._sends.get(peer)
        if waiting:
            self._leave(peer, *waiting.popleft())
        else:
            self._asked[peer] = self._asked.get(peer, 0) + 1

    def _leave(self, peer: int, size: float, handle: Handle) -> None:
        other = self._ends[peer]
        self._connections.put(
            self.rank, peer, size, lambda: other.arrived(self.rank), handle.happen
        )

    def arrived(self, peer: int) -> None:
        """Data from a peer are there."""
        self._receives[peer].popleft().happen()


def part(end: End, operation: str, dtype: str, size: float, before_s: float = 0.0) -> Script:
    """Return what one rank does in a collective.

    Parameters
    ----------
    end
        Its own.
    operation, dtype, size
        Of the collective; bytes of a worker's buffer.
    before_s
        Seconds before anything is sent.
    """
    host = end.host
    elements = size * 8 / DTYPE_BITS[dtype]
    yield end.pause(before_s + host.call_s)
    if dtype in QUANTIZED:
        yield from _all_to_all(end, size)
        yield end.pause(elements * host.quantized_element_s)
        if operation == "all_reduce":
            yield from _all_gather(end, size)
        return
    # Half of it before the first message, to convert; half after the last, to put in place.
    yield end.pause(elements * host.element_s / 2)
    yield from _PARTS[operation](end, size)
    yield end.pause(elements * host.element_s / 2)


def alone(
    rates: Sequence[float],
    way: Callable[[int, int], Way],
    host: HostCosts,
    workers: int,
    kind: tuple[str, str, float],
) -> float:
    """Seconds of one collective that all ranks call at once and that has the network alone.

    Parameters
    ----------
    rates, way, host
        As for :class:`Wires`.
    workers
        M.
    kind
        Operation, dtype, bytes.
    """
    env = simpy.Environment()
    connections = Connections(Wires(env, rates, way, host), workers)
    ends: list[End] = []
    ends += [End(connections, rank, ends) for rank in range(workers)]
    last = [0.0]
    for end in ends:
        connections.run(part(end, *kind), lambda: last.append(env.now))
    env.run()
    return max(last)


def _two_at_a_time(end: End, to: int, by: int, sizes: Sequence[float], add: bool) -> Script:
    """Send and receive segments, two under way; ask first."""
    sent: list[Handle] = []
    received: list[Handle] = []
    for step in range(len(sizes) + 2):
        if step >= 2:
            yield received[step - 2]
            if add:
                yield end.handled(sizes[step - 2])
            yield sent[step - 2]
        if step < len(sizes):
            received.append(end.receive(by))
            sent.append(end.send(to, sizes[step]))
            yield end.pause(end.host.message_s)  # other threads have their turn


def _all_reduce(end: End, size: float) -> Script:
    workers = end.workers
    segments = -(-max(-(-int(size) // SEGMENT_BYTES), 2 * workers) // workers) * workers
    to, by = (end.rank - 1) % workers, (end.rank + 1) % workers
    sizes = [size / segments] * (segments - segments // workers)
    yield from _two_at_a_time(end, to, by, sizes, add=True)
    yield from _two_at_a_time(end, to, by, sizes, add=False)


def _all_to_all(end: End, size: float) -> Script:
    workers, rank = end.workers, end.rank
    handles = []
    for distance in range(1, workers):
        handles.append(end.send((rank + distance) % workers, size / workers))
        handles.append(end.receive((rank - distance) % workers))
    yield from handles
    yield end.handled(size * (workers - 1) / workers)


def _all_gather(end: End, size: float) -> Script:
    """A ring of halves: the next is sent when the one before the last has come."""
    workers = end.workers
    to, by = (end.rank + 1) % workers, (end.rank - 1) % workers
    half = size / workers / 2
    sent: list[Handle] = []
    received: list[Handle] = []
    for step in range(2 * (workers - 1) + 2):
        if step >= 2:
            yield sent[step - 2]
            yield received[step - 2]
        if step < 2 * (workers - 1):
            sent.append(end.send(to, half))
            received.append(end.receive(by))


def _broadcast(end: End, size: float) -> Script:
    """A binomial tree from rank 0; a rank passes on what it has wholly received."""
    workers, rank = end.workers, end.rank
    reach = 1
    while reach < workers:
        reach *= 2
    handles = []
    own = rank & -rank if rank else reach  # lowest set bit: how far down the tree from here
    if rank:
        yield end.receive(rank - own)
    distance = own // 2
    while distance:
        if rank + distance < workers:
            handles.append(end.send(rank + distance, size))
        distance //= 2
    yield from handles


_PARTS: dict[str, Callable[[End, float], Script]] = {
    "all_reduce": _all_reduce,
    "all_to_all": _all_to_all,
    "reduce_scatter": _all_to_all,
    "all_gather": _all_gather,
    "broadcast": _broadcast,
}
