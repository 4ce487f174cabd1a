"""Seconds of collectives, measured with all ranks starting at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from time import perf_counter, sleep

import torch
import torch.distributed as dist

from realrun.communication.groups import Group
from realrun.device import Host, timed_on
from realrun.lab.control import in_a_lab
from realrun.model.buffers import Flat
from realrun.processes.placement import Place
from realrun.runtime.clock import offset_between
from sim.program import QUANTIZED, wire_bytes

_LEAST_REPEATS, _MOST_REPEATS = 4, 12
_ENOUGH_S = 0.5  # for one case
_SEGMENT_BYTES = 2**20
_MANY = 10_000  # elements, from which on packing takes as long as they are many
_SPIN_S = 5e-4  # before the moment: a sleep may end late by less


@dataclass(frozen=True)
class Case:
    """A collective to measure: ``elements`` numbers in a buffer."""

    operation: str
    dtype: str
    elements: int


@dataclass(frozen=True)
class Measured:
    """A case, the bytes of its buffer on the wire, and the seconds of every repeat.

    From the common start to the last rank's result in place.
    """

    case: Case
    bytes: float
    seconds: tuple[float, ...]

    @property
    def typical_s(self) -> float:
        """The median repeat."""
        return median(self.seconds)


class Probe:
    """Measures collectives among processes that have met.

    Parameters
    ----------
    place
        Where.
    block
        Values per scale of int8 and fp4.
    timeout_s
        How long a peer is waited for.
    """

    def __init__(self, place: Place, block: int, timeout_s: float) -> None:
        self._place, self._block = place, block
        self._device: Host = timed_on(place.device)
        self._group = Group(block, timedelta(seconds=timeout_s), self._device, fresh=in_a_lab())
        self._ahead = 0.0
        self.packing: dict[str, list[float]] = {}  # dtype -> seconds per element

    def synchronise(self) -> None:
        """Compare clocks with rank 0; again on every network."""
        world = self._place.world
        self._ahead = offset_between(
            world.rank, world.workers, self._device.now, world.control
        ).seconds

    def byte_s(self) -> float:
        """Seconds per byte to copy what was received and add it up, on this rank's CPU."""
        values = torch.zeros(_SEGMENT_BYTES // 4)
        sums = torch.zeros_like(values)
        seconds, threads = [], torch.get_num_threads()
        torch.set_num_threads(1)  # as gloo adds
        for _ in range(20):
            begin = perf_counter()
            sums += values.clone()
            seconds.append(perf_counter() - begin)
        torch.set_num_threads(threads)
        return median(seconds) / _SEGMENT_BYTES

    def close(self) -> None:
        """Let go of the process groups made here."""
        self._group.close()

    def measured(self, case: Case, rtt_s: float) -> Measured:
        """Measure one case some times; all ranks call it together.

        Parameters
        ----------
        rtt_s
            The longest round trip: the moment to start must reach all ranks in time.
        """
        tensor = torch.zeros(case.elements, device=self._place.device)
        buffer = Flat("probe", "", tensor)
        seconds: list[float] = []
        begun = perf_counter()
        self._once(case, buffer, rtt_s)  # connections, and windows that open
        while True:
            seconds.append(self._once(case, buffer, rtt_s))
            enough = len(seconds) >= _MOST_REPEATS or (
                len(seconds) >= _LEAST_REPEATS and perf_counter() - begun > _ENOUGH_S
            )
            if self._place.world.gathered(enough)[0]:
                break
        size = wire_bytes(case.elements, case.dtype, self._block)
        return Measured(case, size, tuple(seconds))

    def _once(self, case: Case, buffer: Flat, rtt_s: float) -> float:
        """Seconds from a common start to the last rank's end."""
        self._group_ready(case)
        start = self._moment(rtt_s)
        self._wait_for(start)
        packed = (
            self._group.pack(case.operation, buffer, case.dtype)
            if case.dtype in QUANTIZED
            else None
        )
        if packed is not None:
            self._device.drain()
            own = self.packing.setdefault(case.dtype, [])
            if case.elements > _MANY:
                own.append((self._device.now() - start) / case.elements)
        handed = self._device.now()  # packing is the program's own time
        collective = self._group.start(
            case.operation, buffer, case.dtype, False, lambda at, why: None, packed
        )
        collective.wait()
        collective.place()
        self._device.drain()
        took = self._device.now() - (handed if packed is not None else start)
        return float(max(self._place.world.gathered(took)))

    def _group_ready(self, case: Case) -> None:
        if case.dtype in QUANTIZED:
            self._group.open()

    def _moment(self, rtt_s: float) -> float:
        """Agree on when to start; seconds on this rank's clock."""
        start = torch.zeros(1, dtype=torch.float64)
        if self._place.world.rank == 0:
            start[0] = self._device.now() + 2 * rtt_s + 5e-3
        dist.broadcast(start, 0, group=self._place.world.control)
        return float(start) + self._ahead

    def _wait_for(self, moment: float) -> None:
        while (left := moment - self._device.now()) > 0:
            if left > _SPIN_S:
                sleep(left - _SPIN_S)


def cases(elements: int, dtypes: Sequence[str]) -> list[Case]:
    """Return what is measured for a model of that many parameters.

    All-reduces from nearly nothing to the whole model; the other operations at two sizes.
    """
    sizes = sorted({64, elements // 64, elements // 8, elements // 2, elements})
    found = [Case("all_reduce", dtype, size) for dtype in dtypes for size in sizes if size >= 64]
    plain = next((dtype for dtype in dtypes if dtype not in QUANTIZED), "bf16")
    for operation in ("reduce_scatter", "all_gather"):
        found += [Case(operation, plain, size) for size in (64, elements // 4)]
    return found
