"""A process that carries every packet of a lab: at its link's rate, after its link's latency.

    python -m realrun.lab.switch < networks

Its standard input is a line of JSON for each network that it is to be, one after the other, and
stays open until the lab ends, however it ends. A packet takes its turn on every link of its path
(a shared uplink, the pair's own link, a shared downlink) and enters the next when its first byte
has passed, so the narrowest decides how long all take; the latency comes after. Links count the
payload of TCP: a scenario's bandwidth is goodput. What has no payload takes no turn:
acknowledgements that waited behind the other direction's data would come in clumps and leave
links idle, where a scenario's directions are independent.
"""

from __future__ import annotations

import gc
import heapq
import json
import os
import select
from collections.abc import Sequence
from time import monotonic
from typing import Any

_VNET = 10  # bytes of virtio_net_hdr before every packet, handed on as they are
_READ = 65536 + _VNET
_AT_ONCE = 16  # packets read from one device before the others have a turn
_EARLY_S = 30e-6  # less than a wake-up costs
_TCP = 6

LinkPath = tuple[tuple[int, ...], float]
"""Numbers of the links that a packet takes, and its latency in seconds."""
_Flight = tuple[tuple[int, ...], float, int, int, bytes]
"""A packet's path, payload in bytes, the device it goes to, and itself."""


def carry(
    devices: Sequence[int], rates: Sequence[float], paths: Sequence[Sequence[LinkPath]], until: int
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
    """
    seconds_per_byte = [1 / rate for rate in rates]
    free = [0.0] * len(rates)  # when a link has passed on all that came so far
    waiting: list[tuple[float, int, int, float, _Flight]] = []
    number = 0
    rank_of = {device: rank for rank, device in enumerate(devices)}
    watched = [until, *devices]

    def pass_on(when: float, number: int, hop: int, last_byte: float, flight: _Flight) -> None:
        """Give a packet its turn on the next link of its path, and note when it is through."""
        links, latency, size, *_ = flight
        link = links[hop]
        first_byte = max(when, free[link])
        free[link] = first_byte + size * seconds_per_byte[link]
        last_byte = max(last_byte, free[link])
        hop += 1
        due = first_byte if hop < len(links) else last_byte + latency
        heapq.heappush(waiting, (due, number, hop, last_byte, flight))

    while True:
        timeout = max(0.0, waiting[0][0] - monotonic()) if waiting else None
        for device in select.select(watched, (), (), timeout)[0]:
            if device == until:
                for *_, flight in sorted(waiting):
                    os.write(flight[3], flight[4])
                return
            from_here = paths[rank_of[device]]
            for _ in range(_AT_ONCE):
                try:
                    packet = os.read(device, _READ)
                except BlockingIOError:
                    break
                receiver = _receiver(packet)
                if not 0 <= receiver < len(devices):
                    continue
                links, latency = from_here[receiver]
                size = _payload(packet)
                flight = (links, latency, size, devices[receiver], packet)
                now = monotonic()
                number += 1
                if size:
                    pass_on(now, number, 0, now, flight)
                else:
                    heapq.heappush(waiting, (now + latency, number, len(links), now, flight))
        due = monotonic() + _EARLY_S
        while waiting and waiting[0][0] <= due:
            when, passed, hop, last_byte, flight = heapq.heappop(waiting)
            if hop < len(flight[0]):
                pass_on(when, passed, hop, last_byte, flight)
            else:
                os.write(flight[3], flight[4])


def _receiver(packet: bytes) -> int:
    """Return to which rank an IPv4 packet goes; -1 if it is something else."""
    if len(packet) < _VNET + 20 or packet[_VNET] >> 4 != 4:
        return -1
    return (packet[_VNET + 18] << 8 | packet[_VNET + 19]) - 1


def _payload(packet: bytes) -> int:
    start = _VNET + (packet[_VNET] & 15) * 4
    if packet[_VNET + 9] == _TCP:
        start += (packet[start + 12] >> 4) * 4
    return len(packet) - start


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
    while (asked := _table()) is not None:
        paths = [[(tuple(links), latency) for links, latency in row] for row in asked["paths"]]
        if not _ready():
            return
        carry(asked["devices"], asked["rates"], paths, 0)


if __name__ == "__main__":
    main()
