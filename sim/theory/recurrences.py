"""One recurrence per family of methods: (costs, rounds, arguments) -> (end, round begins).

Arguments have the programs' names and defaults; those that do not touch time are ignored.
Written from what the programs say, in their order of calls and waits, but without running them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, chain, pairwise
from math import ceil
from typing import Any

import numpy as np

from sim.methods.participation import participants
from sim.program import bytes_per_element
from sim.theory.costs import (
    INSTANT,
    Averaging,
    Costs,
    Group,
    PerWorker,
    Result,
    Seconds,
    Times,
    Transmissions,
    averaging,
    per_worker,
)
from sim.theory.inside import fsdp
from sim.theory.overlapped_outer_steps import (
    Schedule,
    delayed_diloco,
    eager_diloco,
    stream_layers,
    streaming_diloco,
)

Parts = Sequence[Sequence[int]]
"""The ranks of all workers, those that average together next to each other."""

# --- one thing at a time ------------------------------------------------------------------------


def _local_sgd(
    costs: Costs,
    rounds: int,
    comm_dtype: str,
    sync_every: PerWorker = 100,
    participation: float = 1.0,
    participation_seed: int = 0,
    **others: Any,
) -> Result:
    """t_m <- end(max_m (t_m + H_m T_m)) + average."""
    how = averaging(comm_dtype, others)
    if participation < 1:
        drawn = [
            participants(costs.workers, participation, participation_seed, number)
            for number in range(rounds + 1)
        ]
        return _some_take_part(costs, drawn, sync_every, how)
    return _blocking(costs, rounds, sync_every, how, costs.zero())


def _diloco(
    costs: Costs,
    rounds: int,
    comm_dtype: str,
    sync_every: PerWorker = 100,
    overlap: str = "none",
    **others: Any,
) -> Result:
    """t_m <- end(max_m (t_m + H_m T_m + outer gradient)) + outer step."""
    how = averaging(comm_dtype, others)
    if overlap == "layer":
        schedules = [Schedule(steps, [steps]) for steps in per_worker(costs, sync_every)]
        parts = [range(costs.layers)]
        return stream_layers(costs, rounds, parts, schedules, [0] * costs.workers, how)
    return _blocking(costs, rounds, sync_every, how, costs.outer_gradient)


def _blocking(
    costs: Costs, rounds: int, sync_every: PerWorker, how: Averaging, prepare: Seconds
) -> Result:
    steps = np.array(per_worker(costs, sync_every))
    group = Group(costs)
    t, begins = costs.zero(), []
    for _ in range(rounds):
        begins.append(t)
        call = group.agree(t + steps * costs.inner_step + prepare, how)
        end = group.average(call, range(costs.layers), how)[1]
        t = end + costs.outer_step
    return t, [*begins, t]


def _some_take_part(
    costs: Costs, drawn: Sequence[tuple[int, ...]], sync_every: PerWorker, how: Averaging
) -> Result:
    """t_m <- end(max over m of S_n, S_n+1 and {0} of t_m + [m in S_n] H_m T_m) + average.

    S_n (``drawn``) train in round n. Times of the others stay.
    """
    busy = np.array(per_worker(costs, sync_every)) * costs.inner_step
    groups: dict[tuple[int, ...], Group] = {}
    others: Transmissions = []
    t, begins = costs.zero(), []
    for training, following in pairwise(drawn):
        begins.append(t)
        t = t.copy()
        t[list(training)] += busy[list(training)]
        ranks = tuple(sorted({0, *training, *following}))
        group = groups.setdefault(ranks, Group(costs, ranks, others))
        end = group.average(group.agree(t, how), range(costs.layers), how)[1]
        t[list(ranks)] = end + costs.outer_step[list(ranks)]
    return t, [*begins, t]


def averages(
    costs: Costs, rounds: int, parts: Callable[[int], Parts], sync_every: PerWorker = 100
) -> Result:
    """t_m <- end over m's part of round n (max of its members' t_j + H_j T_j) + average."""
    steps = np.array(per_worker(costs, sync_every))
    dtype = costs.scenario.model.param_dtype
    groups: dict[tuple[int, ...], Group] = {}
    others: Transmissions = []
    t, begins = costs.zero(), []
    for number in range(rounds):
        begins.append(t)
        call, t = t + steps * costs.inner_step, costs.zero()
        for part in parts(number):
            ranks = tuple(sorted(part))
            group = groups.setdefault(ranks, Group(costs, ranks, others))
            t[list(ranks)] = group.end(call, "all_reduce", costs.parameters, dtype)
        t += costs.outer_step
    return t, [*begins, t]


# --- synchronous data parallel ------------------------------------------------------------------


def _ddp(
    costs: Costs,
    rounds: int,
    comm_dtype: str,
    overlap: str = "bucket",
    bucket_bytes: int = 25 * 2**20,
    zero1: bool = False,
    no_sync: bool = True,
    zero1_exchange: str = "sharded",
) -> Result:
    """call(b) = call(b-1) + backward of bucket b;  t_m <- max_b end(b) + optimizer.

    Without ``no_sync`` t_m <- max_b end(b) after every micro-batch.
    """
    if overlap == "layer":
        return _ddp_layers(costs, rounds, comm_dtype)
    buckets = _buckets(costs, bucket_bytes if overlap == "bucket" else None, comm_dtype)
    sharded = zero1 and zero1_exchange == "sharded"
    reduce = "reduce_scatter" if sharded else "all_reduce"
    param_dtype = costs.scenario.model.param_dtype
    group = Group(costs)
    t, begins = costs.zero(), []
    for _ in range(rounds):
        begins.append(t)
        end = 0.0
        for micro_batches in [costs.micro_batches] if no_sync else [1] * costs.micro_batches:
            call = np.maximum(t, end) + (micro_batches - 1) * costs.micro_batch + costs.forward
            for layers, pieces in buckets:
                call = call + sum(costs.backward_layer[layer] for layer in layers)
                for elements in pieces:
                    call = call + group.quantizing(elements, comm_dtype)
                    end = max(end, group.end(call, reduce, elements, comm_dtype))
        if zero1:
            call = costs.zero() + end + costs.optimizer / costs.workers
            for root, elements in [] if sharded else _shards(costs, zero1_exchange == "torch"):
                name = f"broadcast_from_{root}" if root else "broadcast"
                end = max(end, group.end(call, name, elements, param_dtype))
            for _, pieces in buckets if sharded else ():
                for elements in pieces:
                    end = group.end(call, "all_gather", elements, param_dtype)
            t = costs.zero() + end
        else:
            t = end + costs.optimizer
    return t, [*begins, t]


def _shards(costs: Costs, by_tensor: bool) -> list[tuple[int, int]]:
    """Who broadcasts how many elements: each its 1/M, cut where tensors end."""
    n, m = costs.parameters, costs.workers
    cuts = list(accumulate(chain(*costs.tensors))) if by_tensor else []
    found = []
    for rank in range(m):
        first, last = n * rank // m, n * (rank + 1) // m
        inside = [cut for cut in cuts if first < cut < last]
        edges = [first, *inside, last]
        found += [(rank, b - a) for a, b in pairwise(edges) if b > a]
    return found


def _buckets(costs: Costs, limit: int | None, dtype: str) -> list[tuple[range, list[int]]]:
    """From the last layer back: as many layers as fit the limit, and the elements of each piece."""

    def size(layers: range) -> float:
        return costs.elements(layers) * bytes_per_element(dtype)

    if limit is None:
        return [(range(costs.layers), [costs.parameters])]
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


# --- accumulate while communicating -------------------------------------------------------------


def _acco(costs: Costs, rounds: int, comm_dtype: str, look_every: str = "micro_batch") -> Result:
    return _accumulate(costs, rounds, 2, comm_dtype, look_every)


def _dpu_or_wp(
    costs: Costs, rounds: int, comm_dtype: str, look_every: str = "micro_batch"
) -> Result:
    return _accumulate(costs, rounds, 1, comm_dtype, look_every)


def _accumulate(costs: Costs, rounds: int, phases: int, comm_dtype: str, look_every: str) -> Result:
    """E = end of count, reduce-scatter, optimizer, all-gather; then t_m <- max(t_m + k_m mu_m, E).

    mu_m is a micro-batch and k_m >= n the least number with t_m + k_m mu_m >= E; or the least
    multiple of n, where a worker looks after whole inner steps.
    """
    looked = costs.micro_batches if look_every == "inner_step" else 1
    group = Group(costs)
    param_dtype = costs.scenario.model.param_dtype
    t = costs.micro_batches * costs.micro_batch
    begins = []
    for number in range(rounds * phases):
        if number % phases == 0:
            begins.append(t)
        counted = group.end(t, "all_reduce", 2, "fp32")
        call = counted + group.quantizing(costs.parameters, comm_dtype)
        reduced = group.end(call, "reduce_scatter", costs.parameters, comm_dtype)
        call = (
            reduced
            + costs.optimizer / costs.workers
            + group.quantizing(costs.parameters, param_dtype)
        )
        end = group.end(call, "all_gather", costs.parameters, param_dtype)

        micro_batches = costs.micro_batches * costs.micro_batch
        missing = end * (1 - INSTANT) - (t + micro_batches)
        more = looked * np.maximum(0, np.ceil(missing / (looked * costs.micro_batch)))
        t = np.maximum(t + micro_batches + more * costs.micro_batch, end)
    begins.append(t)
    return t, begins


RECURRENCES: Mapping[str, Callable[..., Result]] = {
    "local_sgd": _local_sgd,
    "diloco": _diloco,
    "ddp": _ddp,
    "streaming_diloco": streaming_diloco,
    "delayed_diloco": delayed_diloco,
    "eager_diloco": eager_diloco,
    "acco": _acco,
    "dpu": _dpu_or_wp,
    "wp": _dpu_or_wp,
    "fsdp": fsdp,
}
