"""One recurrence per family of methods: (costs, rounds, arguments) -> (end, round begins).

Arguments have the programs' names and defaults; those that do not touch time are ignored.
Written from what the programs say, in their order of calls and waits, but without running them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np

from sim.methods.fragments import fragments, send_steps
from sim.program import DTYPE_BITS
from sim.theory.costs import INSTANT, Costs, Group, Seconds, Times

Result = tuple[Seconds, list[Seconds]]


# --- one thing at a time ------------------------------------------------------------------------


def _local_sgd(costs: Costs, rounds: int, sync_every: int = 100) -> Result:
    """t_m <- end(max_m (t_m + H T_m)) + average; parameters travel in param_dtype."""
    dtype = costs.scenario.model.param_dtype
    return _blocking(costs, rounds, sync_every, dtype, costs.zero())


def _diloco(
    costs: Costs,
    rounds: int,
    sync_every: int = 100,
    overlap: str = "none",
    comm_dtype: str = "bf16",
    **_: object,
) -> Result:
    """t_m <- end(max_m (t_m + H T_m + outer gradient)) + outer step."""
    if overlap == "layer":
        schedule = _Schedule(sync_every, [sync_every], [range(costs.layers)])
        return _stream_layers(costs, rounds, schedule, [0] * costs.workers, comm_dtype)
    return _blocking(costs, rounds, sync_every, comm_dtype, costs.outer_gradient)


def _blocking(costs: Costs, rounds: int, sync_every: int, dtype: str, prepare: Seconds) -> Result:
    group = Group(costs)
    t, begins = costs.zero(), []
    for _ in range(rounds):
        begins.append(t)
        call = t + sync_every * costs.inner_step + prepare + group.quantizing(sum(costs.sizes), dtype)
        t = group.end(call, "all_reduce", sum(costs.sizes), dtype) + costs.outer_step
    return t, [*begins, t]


# --- synchronous data parallel ------------------------------------------------------------------


def _ddp(
    costs: Costs,
    rounds: int,
    overlap: str = "bucket",
    bucket_bytes: int = 25 * 2**20,
    zero1: bool = False,
    comm_dtype: str = "bf16",
) -> Result:
    """call(b) = call(b-1) + backward of bucket b;  t_m <- max_b end(b) + optimizer."""
    if overlap == "layer":
        return _ddp_layers(costs, rounds, comm_dtype)
    buckets = _buckets(costs, bucket_bytes if overlap == "bucket" else None, comm_dtype)
    reduce = "reduce_scatter" if zero1 else "all_reduce"
    param_dtype = costs.scenario.model.param_dtype
    group = Group(costs)
    t, begins = costs.zero(), []
    for _ in range(rounds):
        begins.append(t)
        call = t + (costs.micro_batches - 1) * costs.micro_batch + costs.forward
        end = 0.0
        for layers, pieces in buckets:
            call = call + sum(costs.backward_layer[layer] for layer in layers)
            for elements in pieces:
                call = call + group.quantizing(elements, comm_dtype)
                end = max(end, group.end(call, reduce, elements, comm_dtype))
        if zero1:
            call = end + costs.optimizer / costs.workers + group.quantizing(sum(costs.sizes), param_dtype)
            end = group.end(call, "all_gather", sum(costs.sizes), param_dtype)
            t = costs.zero() + end
        else:
            t = end + costs.optimizer
    return t, [*begins, t]


def _buckets(costs: Costs, limit: int | None, dtype: str) -> list[tuple[range, list[int]]]:
    """From the last layer back: as many layers as fit the limit, and the elements of each piece."""

    def size(layers: range) -> float:
        return costs.elements(layers) * DTYPE_BITS[dtype] / 8

    if limit is None:
        return [(range(costs.layers), [sum(costs.sizes)])]
    buckets: list[tuple[range, list[int]]] = []
    end = costs.layers
    while end > 0:
        first = end - 1
        while first > 0 and size(range(first - 1, end)) <= limit:
            first -= 1
        layers = range(first, end)
        pieces, elements = ceil(size(layers) / limit), costs.elements(layers)
        edges = [elements * i // pieces for i in range(pieces + 1)]
        buckets.append((layers, [b - a for a, b in pairwise(edges)]))
        end = first
    return buckets


def _ddp_layers(costs: Costs, rounds: int, comm_dtype: str) -> Result:
    """Before layer l's forward: t_m <- max(t_m, end_l of the step before) + optimizer / L."""
    group, times = Group(costs), Times(costs.workers)
    one = 1 / costs.layers
    ends: list[float] = []
    begins = []
    for _ in range(rounds):
        begins.append(times.mark)
        for layer in range(costs.layers):
            if ends:
                times.wait(ends[layer])
                times.compute(one * costs.optimizer)
            times.compute(costs.forward_layer)
        times.compute((costs.micro_batches - 1) * costs.micro_batch)
        ends = [0.0] * costs.layers
        for layer in reversed(range(costs.layers)):
            times.compute(costs.backward_layer[layer])
            call = times.call(group.quantizing(costs.sizes[layer], comm_dtype))
            ends[layer] = group.end(call, "all_reduce", costs.sizes[layer], comm_dtype)
    begins.append(times.mark)
    for end in ends:
        times.wait(end)
        times.compute(one * costs.optimizer)
    return times.mark, begins


# --- outer steps while training goes on ---------------------------------------------------------


@dataclass(frozen=True)
class _Schedule:
    """Fragment ``parts[p]`` leaves after step ``send_after[p]`` (from 1) of every ``period``."""

    period: int
    send_after: list[int]
    parts: list[range]

    def leaving(self, position: int) -> list[range]:
        pairs = zip(self.parts, self.send_after, strict=True)
        return [layers for layers, after in pairs if after == position]


@dataclass(frozen=True)
class _Sent:
    """A reduction on its way: called after inner step ``step``, it ends at ``end``."""

    step: int
    layers: range
    end: float


def _send(
    costs: Costs, times: Times, group: Group, step: int, layers: range, comm_dtype: str
) -> _Sent:
    """call_m = t_m + outer gradient + quantisation."""
    part = costs.part(layers)
    times.compute(part * costs.outer_gradient)
    call = times.call(group.quantizing(costs.elements(layers), comm_dtype))
    return _Sent(step, layers, group.end(call, "all_reduce", costs.elements(layers), comm_dtype))


def _streaming_diloco(
    costs: Costs,
    rounds: int,
    sync_every: int = 100,
    num_fragments: int | None = None,
    layers_per_fragment: int | None = 3,
    fragment_pattern: Any = "strided",
    fragment_spacing: Any = "exact",
    fragment_sync_delay: int | tuple[int, ...] = 1,
    overlap: str = "none",
    comm_dtype: str = "bf16",
    **_: object,
) -> Result:
    if num_fragments is not None:
        layers_per_fragment = None
    parts = fragments(costs.layers, num_fragments, layers_per_fragment, fragment_pattern)
    period, send_after = send_steps(sync_every, len(parts), fragment_spacing)
    delay = fragment_sync_delay
    delays = [delay] * costs.workers if isinstance(delay, int) else list(delay[: costs.workers])
    stream = _stream_layers if overlap == "layer" else _stream_fragments
    return stream(costs, rounds, _Schedule(period, send_after, parts), delays, comm_dtype)


def _stream_fragments(
    costs: Costs, rounds: int, schedule: _Schedule, delays: list[int], comm_dtype: str
) -> Result:
    """In inner step t all that leaves is sent; then m applies what it sent in step t - tau_m.

    t_m <- t_m + T_m;  send;  t_m <- max(t_m, end) + outer step.
    """
    group, times = Group(costs), Times(costs.workers)
    in_flight: list[deque[_Sent]] = [deque() for _ in delays]
    begins = []
    for step in range(1, rounds * schedule.period + 1):
        position = (step - 1) % schedule.period + 1
        if position == 1:
            begins.append(times.mark)
        times.compute(costs.inner_step)
        for layers in schedule.leaving(position):
            sent = _send(costs, times, group, step, layers, comm_dtype)
            for queue in in_flight:
                queue.append(sent)
        for m, (tau, queue) in enumerate(zip(delays, in_flight, strict=True)):
            while queue and queue[0].step + tau <= step:
                _apply(costs, times, m, queue.popleft())
    begins.append(times.mark)
    return _drain(costs, times, in_flight), begins


def _stream_layers(
    costs: Costs, rounds: int, schedule: _Schedule, delays: list[int], comm_dtype: str
) -> Result:
    """Layer l leaves after its backward in step t; its forward in step t + 1 + tau_m waits."""
    group, times = Group(costs), Times(costs.workers)
    in_flight: list[deque[_Sent]] = [deque() for _ in delays]
    begins = []
    one = 1 / costs.layers
    for step in range(1, rounds * schedule.period + 1):
        position = (step - 1) % schedule.period + 1
        if position == 1:
            begins.append(times.mark)
        due: list[list[_Sent]] = [[] for _ in delays]
        for m, (tau, queue) in enumerate(zip(delays, in_flight, strict=True)):
            while queue and queue[0].step + tau < step:
                due[m].append(queue.popleft())
        for layer in range(costs.layers):
            for m, arrived in enumerate(due):
                for sent in arrived:
                    if sent.layers[0] == layer:
                        _apply(costs, times, m, sent)
            times.compute(costs.forward_layer)
        times.compute((costs.micro_batches - 1) * costs.micro_batch)

        # Layers of several fragments that leave together go in the backward pass's order.
        leaving = {layer for layers in schedule.leaving(position) for layer in layers}
        for layer in reversed(range(costs.layers)):
            times.compute(costs.backward_layer[layer] + one * costs.optimizer)
            if layer in leaving:
                sent = _send(costs, times, group, step, range(layer, layer + 1), comm_dtype)
                for queue in in_flight:
                    queue.append(sent)
    begins.append(times.mark)
    return _drain(costs, times, in_flight), begins


def _apply(costs: Costs, times: Times, m: int, sent: _Sent) -> None:
    """t_m <- max(t_m, end) + outer step of the fragment's layers."""
    times.wait_and_compute(m, sent.end, costs.part(sent.layers) * costs.outer_step)


def _drain(costs: Costs, times: Times, in_flight: list[deque[_Sent]]) -> Seconds:
    for m, queue in enumerate(in_flight):
        for sent in queue:
            _apply(costs, times, m, sent)
    return times.mark


# --- averages that arrive rounds late -----------------------------------------------------------


def _delayed_diloco(costs: Costs, rounds: int, **arguments: Any) -> Result:
    return _rounds_late(costs, rounds, first_steps=False, **arguments)


def _eager_diloco(costs: Costs, rounds: int, **arguments: Any) -> Result:
    """As delayed, with an outer step in the first k rounds too (on the own gradient)."""
    return _rounds_late(costs, rounds, first_steps=True, **arguments)


def _rounds_late(
    costs: Costs,
    rounds: int,
    *,
    first_steps: bool,
    sync_every: int = 100,
    rounds_late_by: int = 1,
    num_fragments: int = 1,
    comm_dtype: str = "bf16",
    **_: object,
) -> Result:
    """In round r fragment p is sent; then t_m <- max(t_m, end(r-k, p)) + outer step."""
    parts = fragments(costs.layers, num_fragments)
    send_after = send_steps(sync_every, len(parts))[1]
    group, times = Group(costs), Times(costs.workers)
    sent: list[list[_Sent]] = []
    begins = []

    def step(layers: range) -> None:
        times.compute(costs.part(layers) * costs.outer_step)

    for number in range(rounds):
        begins.append(times.mark)
        sent.append([])
        position = 0
        for p, layers in enumerate(parts):
            if send_after[p] > position:
                times.compute((send_after[p] - position) * costs.inner_step)
                position = send_after[p]
            sent[-1].append(_send(costs, times, group, number, layers, comm_dtype))
            if number >= rounds_late_by:
                times.wait(sent[number - rounds_late_by][p].end)
                step(layers)
            elif first_steps:
                step(layers)
    begins.append(times.mark)
    for late in sent[max(0, rounds - rounds_late_by) :]:
        for p, layers in enumerate(parts):
            times.wait(late[p].end)
            step(layers)
    return times.mark, begins


# --- accumulate while communicating -------------------------------------------------------------


def _acco(costs: Costs, rounds: int, comm_dtype: str = "bf16") -> Result:
    return _accumulate(costs, rounds, 2, comm_dtype)


def _dpu_or_wp(costs: Costs, rounds: int, comm_dtype: str = "bf16") -> Result:
    return _accumulate(costs, rounds, 1, comm_dtype)


def _accumulate(costs: Costs, rounds: int, phases: int, comm_dtype: str) -> Result:
    """E = end of count, reduce-scatter, optimizer, all-gather; then t_m <- max(t_m + k_m mu_m, E).

    mu_m is a micro-batch and k_m >= n the least number with t_m + k_m mu_m >= E.
    """
    group = Group(costs)
    param_dtype = costs.scenario.model.param_dtype
    elements = sum(costs.sizes)
    t = costs.micro_batches * costs.micro_batch
    begins = []
    for number in range(rounds * phases):
        if number % phases == 0:
            begins.append(t)
        counted = group.end(t, "all_reduce", 2, "fp32")
        call = counted + group.quantizing(sum(costs.sizes), comm_dtype)
        reduced = group.end(call, "reduce_scatter", elements, comm_dtype)
        call = reduced + costs.optimizer / costs.workers + group.quantizing(sum(costs.sizes), param_dtype)
        end = group.end(call, "all_gather", elements, param_dtype)

        micro_batches = costs.micro_batches * costs.micro_batch
        missing = end * (1 - INSTANT) - (t + micro_batches)
        more = np.maximum(0, np.ceil(missing / costs.micro_batch))
        t = np.maximum(t + micro_batches + more * costs.micro_batch, end)
    begins.append(t)
    return t, begins


RECURRENCES: Mapping[str, Callable[..., Result]] = {
    "local_sgd": _local_sgd,
    "diloco": _diloco,
    "ddp": _ddp,
    "streaming_diloco": _streaming_diloco,
    "delayed_diloco": _delayed_diloco,
    "eager_diloco": _eager_diloco,
    "acco": _acco,
    "dpu": _dpu_or_wp,
    "wp": _dpu_or_wp,
}
