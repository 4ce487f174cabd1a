"""Whether a lab's network is what was asked for: measured with TCP, before anything uses it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import monotonic, sleep

from realrun.errors import RunError
from realrun.lab.devices import SMALLEST_BURST, address
from realrun.lab.topology import Topology
from realrun.processes.namespaces import Namespace
from sim.units import format_rate, format_seconds

RATE_TOLERANCE = 0.05
RTT_TOLERANCE, RTT_TOLERANCE_S = 0.05, 2e-3
_TRIES = 3  # on a busy machine one may be disturbed
_MEASURED_S = 1.0
_HANDSHAKES = 7
_RTT, _BYTES_RECEIVED = 68, 128  # in struct tcp_info, linux/tcp.h; microseconds, bytes
_PATIENCE_S = 20.0
_CHUNK = 1 << 16
_BURSTS = 50  # of the smallest, that one more or less is little
_SNDBUF = 212_992  # what every kernel lets a socket ask for
_SO_SNDBUFFORCE = 32  # asm-generic/socket.h; for more than that

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
    """Measure every kind of pair alone, then what shares links, then all workers at once.

    Raises
    ------
    RunError
        At the first that is not as asked for, with both.
    """
    for i, j in found.alike():
        what = f"{found.names[i]} to {found.names[j]}"
        yield _right(what, partial(_one, found, namespaces, what, (i, j)))
    for what, pairs in _at_once(found):
        yield _right(what, partial(_many, found, namespaces, what, pairs))


def _right(what: str, measure: Callable[[], Checked]) -> Checked:
    for _ in range(_TRIES):
        try:
            result = measure()
        except TimeoutError as error:
            raise RunError(
                f"this machine cannot emulate the network: {what}: nothing came within "
                f"{_PATIENCE_S:g} s"
            ) from error
        if result.right:
            return result
    raise RunError(
        f"this machine cannot emulate the network now: {result}; "
        "end other programs, or ask for less bandwidth or fewer workers"
    )


def _at_once(found: Topology) -> Iterator[tuple[str, list[Pair]]]:
    """Name what has to hold when several pairs transfer at once."""
    seen = set()
    for place, link in enumerate(found.links):
        pairs = [pair for pair, path in found.paths.items() if place in path]
        alike = (link.rate, *sorted((found.rate(*pair), found.rtt_s(*pair)) for pair in pairs))
        if sum(found.rate(*pair) for pair in pairs) > link.rate and alike not in seen:
            seen.add(alike)
            yield f"{link.name}, {len(pairs)} transfers at once", pairs
    ring = [(rank, (rank + 1) % found.workers) for rank in range(found.workers)]
    yield "around the ring at once, in all", ring


def _one(found: Topology, namespaces: Sequence[Namespace], what: str, pair: Pair) -> Checked:
    rtt_s = _round_trip(namespaces, pair)
    rate = transferred(found, namespaces, [pair])
    return Checked(what, found.rate(*pair), rate, found.rtt_s(*pair), rtt_s)


def _many(
    found: Topology, namespaces: Sequence[Namespace], what: str, pairs: Sequence[Pair]
) -> Checked:
    return Checked(what, sum(found.together(pairs).values()), transferred(found, namespaces, pairs))


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
                for end in (sender, receiver):  # ends the threads that wait on them
                    with _already_ended():
                        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def _already_ended() -> Iterator[None]:
    try:
        yield
    except OSError:
        return


def _round_trip(namespaces: Sequence[Namespace], pair: Pair) -> float:
    """Return the median seconds of a handshake there and back, as the kernel measures it.

    Both answer and measure are the kernel's: on a busy machine a program would wake up late,
    and that is not the network's latency.
    """
    seconds = []
    for _ in range(_HANDSHAKES):
        with _connected(namespaces, pair) as (sender, _):
            seconds.append(_told(sender, "I", _RTT) * 1e-6)
    return median(seconds)


def _told(end: socket.socket, kind: str, offset: int) -> int:
    """Return what the kernel knows of a connection."""
    known = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return int(struct.unpack_from(kind, known, offset)[0])


def transferred(found: Topology, namespaces: Sequence[Namespace], pairs: Sequence[Pair]) -> float:
    """Return the bytes/s of transfers that run at once, in all, once they are under way.

    What counts is what the receiving kernels have taken in, not when a program read it.
    """
    rtt_s = max(found.rtt_s(*pair) for pair in pairs)
    slowest = min(found.rate(*pair) for pair in pairs)
    with ThreadPoolExecutor(2 * len(pairs)) as threads, ExitStack() as open_sockets:
        ends = [open_sockets.enter_context(_connected(namespaces, pair)) for pair in pairs]
        for pair, (sender, _) in zip(pairs, ends, strict=True):
            half = found.window(*pair) // 2  # the kernel doubles it
            _limit(sender, half)  # soon gone from a slow link afterwards
        first = monotonic() + 0.2 + 12 * rtt_s  # doubling from ten segments takes ten round trips
        last = first + max(_MEASURED_S, _BURSTS * SMALLEST_BURST / slowest)
        busy = [threads.submit(_send, sender, last) for sender, _ in ends]
        busy += [threads.submit(_receive, receiver) for _, receiver in ends]
        receivers = [receiver for _, receiver in ends]
        begun, before = _arrived(receivers, first)
        ended, after = _arrived(receivers, last)
        for each in busy:
            each.result()
    return (after - before) / (ended - begun)


def _limit(sender: socket.socket, size: int) -> None:
    """Let a socket hold no more than that many bytes, if it may be told."""
    if size <= _SNDBUF:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        return
    with suppress(PermissionError):  # in a user namespace
        sender.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, size)


def _send(sender: socket.socket, last: float) -> None:
    chunk = bytes(_CHUNK)
    while monotonic() < last:
        sender.sendall(chunk)
    sender.shutdown(socket.SHUT_WR)


def _receive(receiver: socket.socket) -> None:
    """Read to the end, so that nothing is on the link after."""
    chunk = bytearray(_CHUNK)
    while receiver.recv_into(chunk):
        pass


def _arrived(receivers: Sequence[socket.socket], moment: float) -> tuple[float, int]:
    """Wait for a moment; return when it was, and the bytes that had come in by then."""
    sleep(max(0.0, moment - monotonic()))
    return monotonic(), sum(_told(each, "Q", _BYTES_RECEIVED) for each in receivers)
