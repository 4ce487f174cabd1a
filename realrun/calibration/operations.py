"""Seconds of a model's operations on every rank at once, alone and while communicating."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from statistics import fmean, median
from time import perf_counter, sleep
from typing import Any

import torch
import torch.distributed as dist

from realrun.communication.connections import fresh_group
from realrun.training import Run
from sim.operations import timed
from sim.program import QUANTIZED

_MICRO_BATCHES = 10
_OTHERS = 4
_PAUSES = 6  # of each length
_TRAFFIC_BYTES = 2**20  # of one all-reduce in the background
_TRAFFIC_S = 1.5
_MOST_TRAFFIC = 400
_LEAST = 3  # micro-batches during traffic that say something


DuringTraffic = tuple[float, float, float]
Pause = tuple[float, float]


@dataclass
class Timings:
    """Seconds by operation, of one rank, every repeat; and what communicating costs.

    ``accumulate`` is one micro-batch. ``quantize`` is of the whole model. ``during_traffic`` holds,
    for each time that traffic ran during micro-batches, bytes/s sent on average, bytes/s of the
    link, and how much longer they took than alone (0.2: a fifth). ``cold`` holds, by what a
    worker waited for, how long it did, and how much longer it then took for a micro-batch and
    an optimizer step than for the next; seconds.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    during_traffic: list[DuringTraffic] = field(default_factory=list)
    cold: dict[str, list[Pause]] = field(default_factory=dict)

    def add(self, operation: str, seconds: float) -> None:
        """Remember one more repeat."""
        self.seconds.setdefault(operation, []).append(seconds)

    def forget_last(self, *operations: str) -> None:
        """Leave out the latest repeat of some operations: it has warmed up."""
        for operation in operations:
            if operation in self.seconds:
                self.seconds[operation].pop()


def time_operations(run: Run, timings: Timings, dtype: str | None) -> None:
    """Time the operations that methods are made of; all ranks call it together.

    The model is trained meanwhile, so it is used for nothing else afterwards.

    Parameters
    ----------
    run
        A run that has not begun.
    timings
        Where they are added.
    dtype
        int8 or fp4, to time its packing as well.
    """
    model, device = run.model, run.shared.device
    whole = range(model.num_layers)

    def measure(operation: str, action: Callable[[], object]) -> None:
        begin = device.mark()
        action()
        end = device.mark()
        device.later([begin, end], lambda at: timings.add(operation, at[1] - at[0]))

    for number in range(_MICRO_BATCHES + 1):
        if number == 1:  # the first warms up
            device.drain()
            timings.forget_last("accumulate", "inner_optimizer")
            dist.barrier(group=run.world.control)
        measure("accumulate", model.accumulate)
        measure("inner_optimizer", lambda: model.inner_optimizer(whole))
    group = run.shared.group("main")
    others = [
        (row.name, partial(getattr(model, row.name), whole, *row.measured_with))
        for row in timed()
        if row.name != "inner_optimizer" and hasattr(model, row.name)
    ]
    for number in range(_OTHERS + 1):
        if number == 1:
            device.drain()
            timings.forget_last(*(name for name, _ in others), "quantize")
        for name, action in others:
            measure(name, action)
        if dtype in QUANTIZED:
            measure("quantize", lambda: group.pack("all_reduce", model.delta(whole, 0), dtype))
    device.drain()
    _time_after_pauses(run, timings)


def _time_after_pauses(run: Run, timings: Timings) -> None:
    """Time a micro-batch and an optimizer step after a pause, and once more without.

    A pause is a collective that is waited for, or a sleep as long as a micro-batch, while every
    other rank computes: so a machine is slowed down (``emulate_speeds``).
    """
    model, device, control = run.model, run.shared.device, run.world.control
    whole = range(model.num_layers)
    values = torch.zeros(run.scenario.model.parameters, device=_sends_from(run))

    def computed() -> list[Any]:
        marks = [device.mark()]
        for _ in range(2):
            model.accumulate()
            model.inner_optimizer(whole)
            marks.append(device.mark())
        return marks

    def after(what: str, pause: Callable[[], object]) -> None:
        device.drain()
        begun = perf_counter()
        pause()
        device.drain()
        seconds = perf_counter() - begun
        device.later(
            computed(),
            lambda at: timings.cold.setdefault(what, []).append(
                (seconds, (at[1] - at[0]) - (at[2] - at[1]))
            ),
        )

    for number in range(2 * _PAUSES):
        dist.barrier(group=control)
        computed()
        if (number + run.world.rank) % 2:
            after("sleep", lambda: sleep(median(timings.seconds["accumulate"])))
        else:
            computed()
        if number < _PAUSES:
            dist.barrier(group=control)
            computed()
            after("collective", lambda: dist.all_reduce(values))
    device.drain()


def time_while_communicating(run: Run, timings: Timings, rate: float) -> None:
    """Time micro-batches while all-reduces are under way.

    Parameters
    ----------
    run, timings
        As for :func:`time_operations`, which comes before.
    rate
        Bytes/s of the link: how much to send so that it lasts.
    """
    world, device = run.world, run.shared.device
    share = 2 * (world.workers - 1) / world.workers
    count = int(min(max(4.0, _TRAFFIC_S * rate / (share * _TRAFFIC_BYTES)), _MOST_TRAFFIC))
    buffers = [torch.zeros(_TRAFFIC_BYTES // 4, device=_sends_from(run)) for _ in range(4)]
    group = fresh_group(timedelta(seconds=run.asked.timeout_s), _sends_from(run))
    alone = _micro_batches(run, 4)
    dist.barrier(group=world.control)
    begun = perf_counter()
    works: list[Any] = [
        dist.all_reduce(buffers[number % 4], group=group, async_op=True) for number in range(count)
    ]
    during_traffic: list[float] = []
    while not works[-1].is_completed():
        during_traffic += _micro_batches(run, 1)
    for work in works:
        work.wait()
    device.drain()
    span = perf_counter() - begun
    dist.destroy_process_group(group)
    alone += _micro_batches(run, 4)
    if len(during_traffic) > _LEAST:
        slower = fmean(during_traffic[:-1]) / fmean(alone) - 1  # the last outlived the traffic
        timings.during_traffic.append((count * share * _TRAFFIC_BYTES / span, rate, slower))


def _sends_from(run: Run) -> torch.device:
    """Gloo sends from the host's memory."""
    return run.device if run.backend == "nccl" else torch.device("cpu")


def _micro_batches(run: Run, count: int) -> list[float]:
    seconds: list[float] = []
    for _ in range(count):
        begin = perf_counter()
        run.model.accumulate()
        run.shared.device.drain()
        seconds.append(perf_counter() - begin)
    return seconds


def cold_start(pauses: Sequence[Mapping[str, Sequence[Pause]]]) -> dict[float, float]:
    """Return how much longer computation takes after a pause, by its length; of all ranks.

    Examples
    --------
    >>> cold_start([{"sleep": [(0.02, 1e-3)], "collective": [(0.4, 5e-3), (0.4, 7e-3)]}])
    {0.02: 0.001, 0.4: 0.006}
    """
    found: dict[float, float] = {}
    for what in sorted({what for own in pauses for what in own}):
        seconds, longer = zip(*(pair for own in pauses for pair in own.get(what, [])), strict=True)
        found[median(seconds)] = max(0.0, median(longer))
    return dict(sorted(found.items()))


def slowdown_by_rate(during_traffic: Sequence[DuringTraffic]) -> dict[float, float]:
    """Return how much slower computation is while bytes are on a line, by the line's bytes/s.

    Where the line was in use a part r / W of the time, the slowdown was that part of what it is
    while it is in use.

    Examples
    --------
    >>> slowdown_by_rate([(1e6, 2e6, 0.1), (2e6, 2e6, 0.2), (3e6, 4e6, 0.3)])
    {2000000.0: 1.2, 4000000.0: 1.4}
    """
    found: dict[float, float] = {}
    for line in sorted({line for _, line, _ in during_traffic}):
        part = [(rate / line, slower) for rate, own, slower in during_traffic if own == line]
        factor = sum(a * b for a, b in part) / sum(a * a for a, _ in part)
        found[line] = 1 + max(0.0, round(factor, 9))
    return found
