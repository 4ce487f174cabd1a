"""Rate and round trip between two ranks, and what a first collective costs, as they are."""

from __future__ import annotations

from datetime import timedelta
from statistics import median
from time import perf_counter, sleep

import torch
import torch.distributed as dist

from realrun.processes.placement import Place

_ROUND_TRIPS = 9
_CHUNK = 2**22  # bytes of one message of a flood
_FLOOD_S = 1.0
_LEAST_CHUNKS = 4
_MOST_CHUNKS = 4096
_POSTED_S = 0.05  # until a question is certainly there
_REPEATS = 5


def round_trip_s(place: Place, a: int, b: int) -> float:
    """Median seconds of a small message there and one back; all ranks call it together.

    With gloo what is awaited is asked for beforehand, so that the round trip is the network's
    and what the two ends take to wake up. NCCL has one stream for both directions of a pair: what
    waits there first would never let the other go.
    """
    rank, seconds = place.world.rank, []
    early = place.backend == "gloo"
    for _ in range(_ROUND_TRIPS):
        place.world.gathered(None)
        if rank == a:
            back = _message(place, 1)
            coming = dist.irecv(back, b) if early else None
            sleep(_POSTED_S)
            begin = perf_counter()
            dist.send(_message(place, 1), b)
            if coming is None:
                dist.recv(back, b)
            else:
                coming.wait()
            _finished(place)
            seconds.append(perf_counter() - begin)
        elif rank == b:
            there = _message(place, 1)
            dist.recv(there, a)
            _finished(place)
            dist.send(there, a)
    return float(place.world.gathered(median(seconds) if seconds else None)[a])


def rate(place: Place, a: int, b: int, rtt_s: float) -> float:
    """Bytes/s from one rank to another, several messages under way; all ranks call it together.

    Twice as many messages again until they last long enough; the last time counts, when the
    connection's window is open and beginning and end are a small part.
    """
    count = _LEAST_CHUNKS
    while True:
        seconds = _flood(place, a, b, count)
        if seconds >= _FLOOD_S + rtt_s or count >= _MOST_CHUNKS:
            longer = _flood(place, a, b, 2 * count)
            return 2 * count * _CHUNK / max(longer - rtt_s, longer / 2)
        count *= 2


def _flood(place: Place, a: int, b: int, count: int) -> float:
    """Seconds of that many messages there and a small one back."""
    rank, found = place.world.rank, 0.0
    chunks = [_message(place, _CHUNK // 4) for _ in range(4)]
    place.world.gathered(None)
    if rank == a:
        begin = perf_counter()
        works = [dist.isend(chunks[number % 4], b) for number in range(count)]
        for work in works:
            work.wait()  # type: ignore[union-attr]
        dist.recv(_message(place, 1), b)
        _finished(place)
        found = perf_counter() - begin
    elif rank == b:
        coming = [dist.irecv(chunks[number % 4], a) for number in range(count)]
        for work in coming:
            work.wait()  # type: ignore[union-attr]
        dist.send(_message(place, 1), a)
    return float(place.world.gathered(found)[a])


def _message(place: Place, elements: int) -> torch.Tensor:
    """Return zeros where the backend takes them: gloo's sends from the host's memory."""
    return torch.zeros(elements, device=place.device if place.backend == "nccl" else "cpu")


def first_collective_s(place: Place, timeout_s: float) -> float:
    """Seconds that a new group's first collective takes longer than its next ones."""
    group = dist.new_group(timeout=timedelta(seconds=timeout_s))
    value = _message(place, 1)
    seconds = []
    for _ in range(_REPEATS + 1):
        place.world.gathered(None)
        begin = perf_counter()
        dist.all_reduce(value, group=group)
        _finished(place)
        seconds.append(perf_counter() - begin)
    dist.destroy_process_group(group)
    longer = max(place.world.gathered(seconds[0] - median(seconds[1:])))
    return max(0.0, float(longer))


def at_once(place: Place, rtt_s: float) -> int | None:
    """How many small collectives of a group proceed at once; None where latency cannot tell."""
    if rtt_s < 5e-3:
        return None
    values = [_message(place, 1) for _ in range(4)]

    def seconds(count: int) -> float:
        found = []
        for _ in range(_REPEATS):
            place.world.gathered(None)
            begin = perf_counter()
            works = [dist.all_reduce(value, async_op=True) for value in values[:count]]
            for work in works:
                work.wait()
            _finished(place)
            found.append(perf_counter() - begin)
        return median(found)

    ratio = 4 * seconds(1) / seconds(4)
    return int(max(place.world.gathered(max(1, round(ratio)))))


def _finished(place: Place) -> None:
    if place.device.type == "cuda":
        torch.cuda.synchronize(place.device)
