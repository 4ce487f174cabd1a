"""Rate and round trip between two ranks, and what a first collective costs, as they are."""

from __future__ import annotations

from datetime import timedelta
from statistics import median
from time import perf_counter, sleep

import torch
import torch.distributed as dist

from realrun.training import Place

_ROUND_TRIPS = 9
_CHUNK = 2**22  # bytes of one message of a flood
_FLOOD_S = 1.5
_MOST_CHUNKS = 4096
_POSTED_S = 0.05  # until a question is certainly there
_REPEATS = 5


def round_trip_s(place: Place, a: int, b: int) -> float:
    """Median seconds of a small message there and one back; all ranks call it together.

    What is awaited is asked for beforehand: the round trip is the network's, and what the two
    ends take to wake up.
    """
    rank, seconds = place.world.rank, []
    for _ in range(_ROUND_TRIPS):
        place.world.gathered(None)
        if rank == a:
            back = torch.zeros(1, device=place.device)
            coming = dist.irecv(back, b)
            sleep(_POSTED_S)
            begin = perf_counter()
            dist.send(torch.zeros(1, device=place.device), b)
            coming.wait()  # type: ignore[union-attr]
            _finished(place)
            seconds.append(perf_counter() - begin)
        elif rank == b:
            there = torch.zeros(1, device=place.device)
            dist.recv(there, a)
            _finished(place)
            dist.send(there, a)
    return float(place.world.gathered(median(seconds) if seconds else None)[a])


def rate(place: Place, a: int, b: int, rtt_s: float) -> float:
    """Bytes/s from one rank to another, several messages under way; all ranks call it together."""
    first = _flood(place, a, b, 4)
    count = int(min(max(8, _FLOOD_S * first / _CHUNK), _MOST_CHUNKS))
    return _flood(place, a, b, count, rtt_s)


def _flood(place: Place, a: int, b: int, count: int, rtt_s: float = 0.0) -> float:
    """Send so many messages, two of them asked for ahead, and one back at the end."""
    rank, found = place.world.rank, 0.0
    chunks = [torch.zeros(_CHUNK // 4, device=place.device) for _ in range(4)]
    place.world.gathered(None)
    if rank == a:
        begin = perf_counter()
        works = [dist.isend(chunks[number % 4], b) for number in range(count)]
        for work in works:
            work.wait()  # type: ignore[union-attr]
        dist.recv(torch.zeros(1, device=place.device), b)
        _finished(place)
        found = count * _CHUNK / (perf_counter() - begin - rtt_s)
    elif rank == b:
        coming = [dist.irecv(chunks[number % 4], a) for number in range(count)]
        for work in coming:
            work.wait()  # type: ignore[union-attr]
        dist.send(torch.zeros(1, device=place.device), a)
    return float(place.world.gathered(found)[a])


def first_collective_s(place: Place, timeout_s: float) -> float:
    """Seconds that a new group's first collective takes longer than its next ones."""
    group = dist.new_group(timeout=timedelta(seconds=timeout_s))
    value = torch.zeros(1, device=place.device)
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
    values = [torch.zeros(1, device=place.device) for _ in range(4)]

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
