"""Collectives as gloo carries them out: message by message, each rank in its own time.

A cost formula cannot tell how several collectives hide each other's latency, nor what it helps
that some ranks are there before others. So here a collective is what gloo makes of it: every
rank runs a short program of sends and receives (:mod:`sim.network.messages`), written below as a
generator, as methods are.

Source: gloo's allreduce.cc (ring, two segments under way), alltoallv.cc, allgather.cc and
broadcast.cc, as in torch 2.13.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import TYPE_CHECKING

from sim.clock import Clock
from sim.members import family, root_of
from sim.network.message_links import Limits, LinkPath, MessageLinks, Rates
from sim.network.messages import End, Moment, Script, ends
from sim.program import QUANTIZED, bytes_per_element

if TYPE_CHECKING:
    from sim.records.scenario import HostCosts

SEGMENT_BYTES = 2**20
"""The longest segment of an all-reduce: gloo's default."""


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
    elements = size / bytes_per_element(dtype)
    yield end.pause(before_s + host.call_s)
    if dtype in QUANTIZED and operation in ("all_reduce", "reduce_scatter"):
        yield from _all_to_all(end, size)
        yield end.pause(elements * host.quantized_element_s)
        if operation == "all_reduce":
            yield from _all_gather(end, size)
        return
    # Half of it before the first message, to convert; half after the last, to put in place.
    yield end.pause(elements * host.element_s / 2)
    if operation == "all_reduce":
        yield from _all_reduce(end, size, bytes_per_element(dtype))
    else:
        root = root_of(operation)
        carried = _PARTS[family(operation)]
        yield from carried(end, size) if not root else _broadcast(end, size, root)
    yield end.pause(elements * host.element_s / 2)


def alone(
    rates: Rates,
    path: Callable[[int, int], LinkPath],
    host: HostCosts,
    workers: int,
    kind: tuple[str, str, float],
    limits: Callable[[int, int], Limits] | None = None,
) -> float:
    """Seconds of one collective that all ranks call at once and that has the network alone.

    Parameters
    ----------
    rates, path, host, limits
        As for :class:`sim.network.message_links.MessageLinks`.
    workers
        M.
    kind
        Operation, dtype, bytes.

    Examples
    --------
    Two workers at 1 MB/s, 10 ms apart: 0.25 MB each way, twice, and two round trips.

    >>> from sim.records.scenario import HostCosts
    >>> path = lambda sender, receiver: ((sender,), 0.01)
    >>> kind = ("all_reduce", "fp32", 0.5e6)
    >>> round(alone([1e6, 1e6], path, HostCosts(), 2, kind), 3)
    0.54
    """
    clock = Clock()
    return duration(MessageLinks(clock, rates, path, host, limits=limits), workers, kind)


def duration(
    links: MessageLinks,
    workers: int,
    kind: tuple[str, str, float],
    begin_s: float = 0.0,
    ranks: Sequence[int] | None = None,
) -> float:
    """Seconds of one collective that all ranks call at ``begin_s``, on links that nobody uses.

    Parameters
    ----------
    links
        What carries its messages, on a clock of its own.
    workers, kind
        As for :func:`alone`.
    begin_s
        When it begins.
    ranks
        Of the members, if they are not all workers.
    """
    clock = links.clock
    last = begin_s

    def ended() -> None:
        nonlocal last
        last = clock.now

    def begin() -> None:
        for end in ends(links.connections(workers, ranks)):
            end.run(part(end, *kind), ended)

    if begin_s:
        clock.after(begin_s, begin)
    else:
        begin()
    clock.run()
    return last - begin_s


def _two_at_a_time(
    end: End,
    peers: tuple[int, int],
    sends: Sequence[float],
    receives: Sequence[float],
    byte_s: float,
) -> Script:
    """Send and receive segments, two under way; ask first, and spend ``byte_s`` on what came.

    ``peers`` are to whom and from whom. An empty segment is not sent, nor asked for.
    """
    to, by = peers
    sent: list[Moment | None] = []
    received: list[Moment | None] = []
    for step in range(len(sends) + 2):
        if step >= 2:
            came, left = received[step - 2], sent[step - 2]
            if came is not None:
                yield came
                yield end.pause(receives[step - 2] * byte_s)
            if left is not None:
                yield left
        if step < len(sends):
            received.append(end.receive(by) if receives[step] > 0 else None)
            sent.append(end.send(to, sends[step]) if sends[step] > 0 else None)
            yield end.wake()  # other threads have their turn


def _all_reduce(end: End, size: float, element: float) -> Script:
    """A ring against the order of the ranks: sums go round, then results.

    Every rank has as many segments, at least two. They are whole elements long, so that of a
    very small buffer the last ranks have none.
    """
    workers, rank = end.workers, end.rank
    count = -(-max(-(-int(size) // SEGMENT_BYTES), 2 * workers) // workers) * workers
    own = count // workers
    longest = element * ceil(size / count / element)

    def sizes(first: int) -> list[float]:
        """Of the segments from that of a rank on, all but one rank's, round the ring."""
        numbers = ((first * own + step) % count for step in range(count - own))
        return [min(longest, max(0.0, size - number * longest)) for number in numbers]

    peers = ((rank - 1) % workers, (rank + 1) % workers)
    yield from _two_at_a_time(end, peers, sizes(rank + 1), sizes(rank + 2), end.host.byte_s)
    yield from _two_at_a_time(end, peers, sizes(rank), sizes(rank + 1), 0.0)


def _all_to_all(end: End, size: float) -> Script:
    """Everything at once, to each before the notification to another."""
    workers, rank = end.workers, end.rank
    moments = []
    for distance in range(1, workers):
        moments.append(end.send((rank + distance) % workers, size / workers))
        moments.append(end.receive((rank - distance) % workers))
    yield from moments
    yield end.pause(size * (workers - 1) / workers * end.host.byte_s)


def _all_gather(end: End, size: float) -> Script:
    """A ring of halves: the next is sent when the one before the last has come."""
    workers = end.workers
    to, by = (end.rank + 1) % workers, (end.rank - 1) % workers
    half = size / workers / 2
    steps = 2 * (workers - 1)
    sent: list[Moment] = []
    received: list[Moment] = []
    for step in range(steps + 2):
        if step >= 2:
            yield sent[step - 2]
            yield received[step - 2]
        if step < steps:
            sent.append(end.send(to, half))
            received.append(end.receive(by))


def _broadcast(end: End, size: float, root: int = 0) -> Script:
    """A binomial tree from the root: in every stage twice as many have it, to + 1, + 2, + 4."""
    workers, place = end.workers, (end.rank - root) % end.workers
    distance = 1
    while distance <= place:
        distance *= 2
    if place:
        yield end.receive((end.rank - distance // 2) % workers)
    sent = []
    while place + distance < workers:
        sent.append(end.send((end.rank + distance) % workers, size))
        distance *= 2
    yield from sent


_PARTS: dict[str, Callable[[End, float], Script]] = {
    "all_to_all": _all_to_all,
    "reduce_scatter": _all_to_all,
    "all_gather": _all_gather,
    "broadcast": _broadcast,
}
