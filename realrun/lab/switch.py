"""A process that carries every packet of a lab: at its link's rate, after its link's latency.

    python -m realrun.lab.switch COUNTS < networks

Its standard input is a line of JSON for each network that it is to be, one after the other, and
stays open until the lab ends, however it ends. A packet takes its turn on every link of its path
(a shared uplink, the pair's own link, a shared downlink) and enters the next when its first byte
has passed, so the narrowest decides how long all take; the latency comes after. Links count the
payload of TCP: a scenario's bandwidth is goodput. What has no payload takes no turn:
acknowledgements that waited behind the other direction's data would come in clumps and leave
links idle, where a scenario's directions are independent.

A link may vary: its profile counts from a moment that the line of JSON names. Where a link is
down, packets wait in here until it is up, acknowledgements as well. What a device does not take
is lost, as on a network card that is down; the switch outlives that, and a device that is gone.

How many bytes were delivered from each worker to each other stands in memory that the lab shares
with the switch: one addition per packet, and nobody has to ask.
"""

from __future__ import annotations

import gc
import heapq
import json
import mmap
import os
import select
import sys
from collections.abc import Sequence
from math import inf
from time import monotonic
from typing import Any

from sim.records.profiles import Profile

_VNET = 10  # bytes of virtio_net_hdr before every packet, handed on as they are
_READ = 65536 + _VNET
_AT_ONCE = 16  # packets read from one device before the others have a turn
_EARLY_S = 30e-6  # less than a wake-up costs
_TCP = 6
_MOST_HELD = 1 << 30  # bytes; a program that sends without waiting (UDP) loses what comes then

LinkPath = tuple[tuple[int, ...], float]
"""Numbers of the links that a packet takes, and its latency in seconds."""
_Flight = tuple[tuple[int, ...], float, int, int, int, bytes]
"""A packet's path, payload in bytes, its sender and receiver, and itself."""
Varying = dict[int, Profile]
"""How links vary, by their number; the others are always as given."""


def carry(
    devices: Sequence[int],
    rates: Sequence[float],
    paths: Sequence[Sequence[LinkPath]],
    until: int,
    delivered: memoryview,
    profiles: Varying | None = None,
    origin: float = 0.0,
) -> None:
    """Carry packets until there is something to be read from ``until``, or it ends.

    Parameters
    ----------
    devices
        Open TUN devices by rank.
    rates
        Of each link, bytes/s.
    paths
        By rank of the sender and of the receiver.
    until
        A file descriptor that becomes readable at the end. What is under way then arrives at
        once: a process that asks for another network sends nothing until then.
    delivered
        Bytes of payload from each rank to each other, row by row: what is delivered is added.
    profiles
        Factors on the rates of links that vary.
    origin
        When profiles begin, in seconds of the monotonic clock.
    """
    seconds_per_byte = [1 / rate for rate in rates]
    varying = profiles or {}
    free = [0.0] * len(rates)  # when a link has passed on all that came so far
    waiting: list[tuple[float, int, int, float, _Flight]] = []
    number = held = 0
    rank_of = {device: rank for rank, device in enumerate(devices)}
    watched = [until, *devices]

    def pass_on(when: float, number: int, hop: int, last_byte: float, flight: _Flight) -> None:
        """Give a packet its turn on the next link of its path, and note when it is through."""
        links, latency, size, *_ = flight
        link = links[hop]
        first_byte = max(when, free[link])
        work = size * seconds_per_byte[link]
        if link in varying:
            begin = max(0.0, first_byte - origin)
            first_byte = origin + varying[link].up_from(begin)
            free[link] = origin + varying[link].end_of(begin, work)
        else:
            free[link] = first_byte + work
        last_byte = max(last_byte, free[link])
        hop += 1
        due = first_byte if hop < len(links) else last_byte + latency
        heapq.heappush(waiting, (due, number, hop, last_byte, flight))

    def deliver(flight: _Flight) -> None:
        nonlocal held
        *_, size, sender, receiver, packet = flight
        held -= len(packet)
        try:
            os.write(devices[receiver], packet)
        except OSError:  # it is down or gone
            return
        delivered[sender * len(devices) + receiver] += size

    while True:
        timeout = max(0.0, waiting[0][0] - monotonic()) if waiting else None
        for device in select.select(watched, (), (), timeout)[0]:
            if device == until:
                for *_, flight in sorted(waiting):
                    deliver(flight)
                return
            sender = rank_of[device]
            from_here = paths[sender]
            for _ in range(_AT_ONCE):
                try:
                    packet = os.read(device, _READ)
                except BlockingIOError:
                    break
                except OSError:  # the device is gone, and select would say so for ever
                    watched.remove(device)
                    break
                receiver = _receiver(packet)
                if not 0 <= receiver < len(devices) or held > _MOST_HELD:
                    continue
                held += len(packet)
                links, latency = from_here[receiver]
                size = _payload(packet)
                flight = (links, latency, size, sender, receiver, packet)
                now = monotonic()
                number += 1
                if size and links:
                    pass_on(now, number, 0, now, flight)
                    continue
                for link in links:
                    if link in varying:
                        now = max(now, origin + varying[link].up_from(max(0.0, now - origin)))
                heapq.heappush(waiting, (now + latency, number, len(links), now, flight))
        due = monotonic() + _EARLY_S
        while waiting and waiting[0][0] <= due:
            when, passed, hop, last_byte, flight = heapq.heappop(waiting)
            if hop < len(flight[0]):
                pass_on(when, passed, hop, last_byte, flight)
            else:
                deliver(flight)


def _receiver(packet: bytes) -> int:
    """Return to which rank an IPv4 packet goes; -1 if it is something else."""
    if len(packet) < _VNET + 20 or packet[_VNET] >> 4 != 4:
        return -1
    return (packet[_VNET + 18] << 8 | packet[_VNET + 19]) - 1


def _payload(packet: bytes) -> int:
    """Return the bytes that a packet carries; a program may have made it up, header and all."""
    start = _VNET + (packet[_VNET] & 15) * 4
    first = not (packet[_VNET + 6] & 0x1F or packet[_VNET + 7])  # a later fragment has no header
    if packet[_VNET + 9] == _TCP and first and len(packet) > start + 12:
        start += (packet[start + 12] >> 4) * 4
    return max(0, len(packet) - start)


def _first_in_line() -> None:
    """Ask to run before the workers: a packet carried late would look like a longer link."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:  # in a user namespace; the lab's check tells if it matters
        return


def _table() -> dict[str, Any] | None:
    """Read the next network; None at the end."""
    # Not sys.stdin: its buffer would hide from select that there is more.
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(0, 65536)
        if not part:
            return None
        line += part
    found: dict[str, Any] = json.loads(line)
    return found


def _ready() -> bool:
    """Say that a network was read; return whether the lab is still there to hear it."""
    try:
        os.write(1, b"ready\n")
    except BrokenPipeError:
        return False
    return True


def main() -> None:
    """Read a network, say so, and carry until there is another."""
    _first_in_line()
    gc.disable()  # nothing here forms cycles
    delivered = memoryview(mmap.mmap(int(sys.argv[1]), 0)).cast("Q")
    while (asked := _table()) is not None:
        paths = [[(tuple(links), latency) for links, latency in row] for row in asked["paths"]]
        varying = {
            int(link): Profile(tuple(begins), tuple(factors), inf if period is None else period)
            for link, (begins, factors, period) in asked["profiles"].items()
        }
        if not _ready():
            return
        carry(asked["devices"], asked["rates"], paths, 0, delivered, varying, asked["origin"])


if __name__ == "__main__":
    main()
