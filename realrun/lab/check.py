"""Whether a lab's network is what was asked for: measured with TCP, before anything uses it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from threading import Thread
from time import monotonic

from realrun.errors import RunError
from realrun.lab.devices import address
from realrun.lab.namespaces import Namespace
from realrun.lab.topology import Topology
from sim.units import format_rate, format_seconds

RATE_TOLERANCE = 0.05
RTT_TOLERANCE, RTT_TOLERANCE_S = 0.05, 2e-3
_TRIES = 3  # on a busy machine one may be disturbed
_MEASURED_S = 1.0
_PINGS = 15
_PATIENCE_S = 20.0
_CHUNK = 1 << 18
_SNDBUFFORCE = 32  # asm-generic/socket.h; the kernel doubles it, and the host sets no limit

Pair = tuple[int, int]


@dataclass(frozen=True)
class Checked:
    """What was asked for and what was measured: bytes/s, and seconds there and back.

    Several pairs were measured at once, and the rate is their sum; the round trip is then None.
    """

    what: str
    asked: float
    measured: float
    asked_rtt_s: float | None = None
    measured_rtt_s: float | None = None

    def __str__(self) -> str:
        text = f"{self.what}: {format_rate(self.measured, 3)} (asked {format_rate(self.asked)})"
        if self.asked_rtt_s is None or self.measured_rtt_s is None:
            return text
        return (
            f"{text}, {format_seconds(self.measured_rtt_s)} "
            f"(asked {format_seconds(self.asked_rtt_s)})"
        )

    @property
    def right(self) -> bool:
        """Whether both are within the tolerances."""
        if abs(self.measured / self.asked - 1) > RATE_TOLERANCE:
            return False
        if self.asked_rtt_s is None or self.measured_rtt_s is None:
            return True
        allowed = max(RTT_TOLERANCE_S, RTT_TOLERANCE * self.asked_rtt_s)
        return abs(self.measured_rtt_s - self.asked_rtt_s) <= allowed


def checked(found: Topology, namespaces: Sequence[Namespace]) -> Iterator[Checked]:
    """Measure every kind of pair alone, then what shares lines, then all workers at once.

    Raises
    ------
    RunError
        At the first that is not as asked for, with both.
    """
    for i, j in found.alike():
        yield _right(lambda i=i, j=j: _one(found, namespaces, i, j))  # type: ignore[misc]
    for what, pairs in _at_once(found):
        yield _right(lambda what=what, pairs=pairs: _many(found, namespaces, what, pairs))  # type: ignore[misc]


def _right(measure: Callable[[], Checked]) -> Checked:
    for _ in range(_TRIES):
        result = measure()
        if result.right:
            return result
    raise RunError(
        f"this machine cannot play the network now: {result}; "
        "end other programs, or ask for less bandwidth or fewer workers"
    )


def _at_once(found: Topology) -> Iterator[tuple[str, list[Pair]]]:
    """Name what has to hold when several pairs transfer at once."""
    seen = set()
    for place, line in enumerate(found.lines):
        pairs = [pair for pair, way in found.ways.items() if place in way]
        alike = (line.rate, *sorted((found.rate(*pair), found.rtt_s(*pair)) for pair in pairs))
        if sum(found.rate(*pair) for pair in pairs) > line.rate and alike not in seen:
            seen.add(alike)
            yield f"{line.name}, {len(pairs)} transfers at once", pairs
    ring = [(rank, (rank + 1) % found.workers) for rank in range(found.workers)]
    yield "around the ring at once, in all", ring


def _one(found: Topology, namespaces: Sequence[Namespace], i: int, j: int) -> Checked:
    with _connected(namespaces, (i, j)) as (sender, receiver):
        rtt_s = _round_trip(sender, receiver)
    rate = _rate(found, namespaces, [(i, j)])
    what = f"{found.names[i]} to {found.names[j]}"
    return Checked(what, found.rate(i, j), rate, found.rtt_s(i, j), rtt_s)


def _many(
    found: Topology, namespaces: Sequence[Namespace], what: str, pairs: Sequence[Pair]
) -> Checked:
    return Checked(what, sum(found.together(pairs).values()), _rate(found, namespaces, pairs))


@contextmanager
def _connected(
    namespaces: Sequence[Namespace], pair: Pair
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Connect two workers' namespaces; the sockets stay in them."""
    with (
        namespaces[pair[0]].call(socket.socket) as sender,
        namespaces[pair[1]].call(socket.socket) as listener,
    ):
        for end in (sender, listener):
            end.settimeout(_PATIENCE_S)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((address(pair[1]), 0))
        listener.listen()
        sender.connect(listener.getsockname())
        receiver, _ = listener.accept()
        with receiver:
            receiver.settimeout(_PATIENCE_S)
            try:
                yield sender, receiver
            finally:
                for end in (sender, receiver):  # ends whoever waits on them
                    with _already_ended():
                        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def _already_ended() -> Iterator[None]:
    try:
        yield
    except OSError:
        return


def _round_trip(sender: socket.socket, receiver: socket.socket) -> float:
    """Return the median seconds of a byte there and back."""

    def answer() -> None:
        for _ in range(_PINGS):
            receiver.send(receiver.recv(1))

    thread = Thread(target=answer, daemon=True)
    thread.start()
    seconds = []
    for _ in range(_PINGS):
        begun = monotonic()
        sender.send(b"?")
        sender.recv(1)
        seconds.append(monotonic() - begun)
    thread.join()
    return median(seconds)


def _rate(found: Topology, namespaces: Sequence[Namespace], pairs: Sequence[Pair]) -> float:
    """Return the bytes/s of transfers that run at once, in all, once they are under way."""
    rtt_s = max(found.rtt_s(*pair) for pair in pairs)
    with ThreadPoolExecutor(2 * len(pairs)) as threads, ExitStack() as open_sockets:
        ends = [open_sockets.enter_context(_connected(namespaces, pair)) for pair in pairs]
        for pair, (sender, _) in zip(pairs, ends, strict=True):
            # Enough to fill its line, and soon gone from it afterwards.
            sender.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, found.window(*pair) // 2)
        first = monotonic() + 0.2 + 12 * rtt_s  # doubling from ten segments takes ten round trips
        last = first + _MEASURED_S
        received = [threads.submit(_receive, receiver, first, last) for _, receiver in ends]
        sent = [threads.submit(_send, sender, last) for sender, _ in ends]
        for each in sent:
            each.result()
        return _between(sorted(arrival for each in received for arrival in each.result()))


def _send(sender: socket.socket, last: float) -> None:
    chunk = bytes(_CHUNK)
    while monotonic() < last:
        sender.sendall(chunk)
    sender.shutdown(socket.SHUT_WR)


def _receive(receiver: socket.socket, first: float, last: float) -> list[tuple[float, int]]:
    """Read to the end, so that nothing is on the line after; return what came when."""
    chunk = bytearray(_CHUNK)
    arrivals = []
    while count := receiver.recv_into(chunk):
        now = monotonic()
        if first <= now <= last:
            arrivals.append((now, count))
    return arrivals


def _between(arrivals: Sequence[tuple[float, int]]) -> float:
    """Return bytes/s from the first arrival to the last, so that none counts in part."""
    if len(arrivals) < 2:
        return 0.0
    return sum(count for _, count in arrivals[1:]) / (arrivals[-1][0] - arrivals[0][0])
