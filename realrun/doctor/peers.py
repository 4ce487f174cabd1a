"""Machines that look at each other before gloo or NCCL does: who reaches whom, and clocks.

One process of each machine opens a desk at the address that it would tell gloo. A process
that connects and sends a byte is answered with the time of day. So a pair that cannot connect has
a name, where a process group would only say that it timed out.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from time import perf_counter, time
from typing import Any

from realrun.doctor.finding import Finding, missing, ready
from sim.text.told import first_line

_ROUND_TRIPS = 10
_PATIENCE_S = 5.0
_AT_ONCE = 8
_TIME = struct.Struct("!d")


@dataclass(frozen=True)
class Seen:
    """What one machine saw of another's desk: seconds, or why it did not get there.

    ``ahead_s`` is by how much the other's time of day is ahead, known to half the round trip.
    """

    round_trip_s: float = 0.0
    ahead_s: float = 0.0
    trouble: str = ""


class Desk:
    """Listens at an address, and answers with the time of day until it is closed.

    Raises
    ------
    OSError
        If the address is not this machine's.
    """

    def __init__(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.create_server((address, 0), family=family)
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._serve, name="desk", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:  # closed
                return
            threading.Thread(target=_answer, args=(visitor,), daemon=True).start()


def _answer(visitor: socket.socket) -> None:
    with visitor:
        visitor.settimeout(_PATIENCE_S)
        visitor.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while visitor.recv(1):
                visitor.sendall(_TIME.pack(time()))
        except OSError:
            return


def visited(address: str, port: int, patience_s: float = _PATIENCE_S) -> Seen:
    """Go to a desk ten times; the shortest trip counts."""
    trips = []
    try:
        with socket.create_connection((address, port), patience_s) as desk:
            desk.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(_ROUND_TRIPS):
                begin, before = perf_counter(), time()
                desk.sendall(b"?")
                answer = b""
                while len(answer) < _TIME.size:
                    part = desk.recv(_TIME.size)
                    if not part:
                        return Seen(trouble="hung up")
                    answer += part
                trip = perf_counter() - begin
                trips.append((trip, _TIME.unpack(answer)[0] - before - trip / 2))
    except OSError as error:
        return Seen(trouble=(error.strerror or first_line(error)).lower())
    return Seen(*min(trips))


def looked_around(
    store: Any, rank: int, workers: int, address: str, *, first_here: bool, patience_s: float
) -> dict[int, Seen]:
    """Open a desk, and go to those of all other machines; return what was seen, by rank.

    All ranks call it together; only the first on each machine opens a desk and goes.
    """
    desk, place, own = None, "", {}
    if first_here and address:
        try:
            desk = Desk(address)
            place = f"{address} {desk.port}"
        except OSError as error:
            own = {rank: Seen(trouble=f"{address}: {(error.strerror or '').lower()}")}
    store.set(f"doctor/desk/{rank}", place)
    if not first_here:
        return {}
    places = {}
    for other in range(workers):
        there = told(store, f"doctor/desk/{other}", patience_s)
        if there and other != rank:
            places[other] = there.split()
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        views = threads.map(lambda to: visited(to[0], int(to[1])), places.values())
        seen = dict(zip(places, views, strict=True))
    # A desk stays open until all have been there.
    store.set(f"doctor/been/{rank}", "yes")
    for other in places:
        told(store, f"doctor/been/{other}", patience_s)
    if desk is not None:
        desk.close()
    return {**seen, **own}


def told(store: Any, key: str, patience_s: float) -> str | None:
    """Return what another rank has put into the store; None if it does not in time."""
    try:
        store.wait([key], timedelta(seconds=patience_s))
        return str(store.get(key).decode())
    except RuntimeError:
        return None


def in_time(check: str, attempt: Callable[[], Finding], patience_s: float, fix: str) -> Finding:
    """Try something that may hang, as a backend that waits for a peer does.

    The thread of an attempt that hangs stays: the process has to be left by ``os._exit``.
    """
    results: list[Finding] = []

    def run() -> None:
        try:
            results.append(attempt())
        except Exception as error:
            results.append(missing(check, first_line(error), fix))

    thread = threading.Thread(target=run, name=check, daemon=True)
    thread.start()
    thread.join(patience_s)
    return results[0] if results else missing(check, f"nothing within {patience_s:g} s", fix)


def all_reduced(backend: str, timeout_s: float, device: Any, store: Any) -> Finding:
    """Sum a number of every rank's, as training will."""
    import torch
    import torch.distributed as dist

    from realrun.processes.rendezvous import joined

    with joined(backend, timeout_s, store) as world:
        total = torch.ones(1, device=device)
        dist.all_reduce(total)
        counted = int(total)
        world.gathered(counted)
    if counted != world.workers:
        said = f"{backend} summed {counted} of {world.workers} ranks"
        return missing("trial", said, "update torch")
    return ready("trial", f"{counted} rank{'s' * (counted != 1)} summed a number over {backend}")
