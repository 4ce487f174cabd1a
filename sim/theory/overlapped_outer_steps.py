"""Recurrences of methods whose outer steps are communicated while training continues.

As :mod:`sim.theory.recurrences`: (costs, rounds, arguments) -> (end, round begins).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.methods.fragments import fragments, send_steps
from sim.theory.costs import (
    Averaging,
    Costs,
    Group,
    PerWorker,
    Result,
    Seconds,
    Times,
    averaging,
    per_worker,
)


@dataclass(frozen=True)
class Schedule:
    """One worker's: fragment p leaves after step ``send_after[p]`` (from 1) of every ``period``."""

    period: int
    send_after: list[int]


@dataclass(frozen=True)
class Sent:
    """A reduction on its way, called after the worker's inner step ``step``; ends at ``end``."""

    step: int
    layers: range
    end: float


def _send(costs: Costs, times: Times, group: Group, layers: range, how: Averaging) -> float:
    """call_m = t_m + outer gradient + quantization; return when the reductions end."""
    part = costs.part(layers)
    times.compute(part * costs.outer_gradient)
    if how.control_round_trips:
        times.mark = group.agree(times.mark, how)
    times.free, end = group.average(np.maximum(times.mark, times.free), layers, how)
    return end


def streaming_diloco(
    costs: Costs,
    rounds: int,
    comm_dtype: str,
    sync_every: PerWorker = 100,
    num_fragments: int | None = None,
    layers_per_fragment: int | None = 3,
    fragment_pattern: Any = "strided",
    fragment_spacing: Any = "exact",
    fragment_sync_delay: PerWorker = 1,
    overlap: str = "none",
    **others: Any,
) -> Result:
    """Fragments of the layers in turn, each with its own offset."""
    if num_fragments is not None:
        layers_per_fragment = None
    parts = fragments(costs.layers, num_fragments, layers_per_fragment, fragment_pattern)
    schedules = [
        Schedule(*send_steps(steps, len(parts), fragment_spacing))
        for steps in per_worker(costs, sync_every)
    ]
    delays = per_worker(costs, fragment_sync_delay)
    how = averaging(comm_dtype, others)
    stream = stream_layers if overlap == "layer" else _stream_fragments
    return stream(costs, rounds, parts, schedules, delays, how)


def _stream_fragments(
    costs: Costs,
    rounds: int,
    parts: list[range],
    schedules: list[Schedule],
    delays: list[int],
    how: Averaging,
) -> Result:
    """After its inner step t worker m sends what leaves; then applies what it sent at t - tau_m.

    t_m <- t_m + T_m;  send;  t_m <- max(t_m, end) + outer step. Every worker sends the fragments
    in the same order, each after its own step.
    """
    group, times = Group(costs), Times(costs.workers)
    in_flight: list[deque[Sent]] = [deque() for _ in delays]
    taken = [0] * costs.workers
    begins = []

    def train_until(m: int, step: int) -> None:
        while taken[m] < step:
            apply_due(m)
            times.compute_on(m, costs.inner_step)
            taken[m] += 1

    def apply_due(m: int) -> None:
        while in_flight[m] and in_flight[m][0].step + delays[m] <= taken[m]:
            _apply(costs, times, m, in_flight[m].popleft())

    for number in range(rounds):
        begins.append(times.mark)
        for p, layers in enumerate(parts):
            for m, own in enumerate(schedules):
                train_until(m, number * own.period + own.send_after[p])
            end = _send(costs, times, group, layers, how)
            for m, queue in enumerate(in_flight):
                queue.append(Sent(taken[m], layers, end))
        for m, own in enumerate(schedules):
            train_until(m, (number + 1) * own.period)
            apply_due(m)
    begins.append(times.mark)
    return _drain(costs, times, in_flight), begins


def stream_layers(
    costs: Costs,
    rounds: int,
    parts: list[range],
    schedules: list[Schedule],
    delays: list[int],
    how: Averaging,
) -> Result:
    """Layer l leaves after its backward in step t_m; its forward in step t_m + 1 + tau_m waits."""
    group, times = Group(costs), Times(costs.workers)
    in_flight: list[deque[Sent]] = [deque() for _ in delays]
    taken = [0] * costs.workers
    begins = []
    one = 1 / costs.layers

    def forward(m: int) -> None:
        due = []
        while in_flight[m] and in_flight[m][0].step + delays[m] <= taken[m]:
            due.append(in_flight[m].popleft())
        for layer in range(costs.layers):
            for sent in due:
                if sent.layers[0] == layer:
                    _apply(costs, times, m, sent)
            times.compute_on(m, costs.forward_layer)
        times.compute_on(m, (costs.micro_batches - 1) * costs.micro_batch)
        taken[m] += 1

    def backward(m: int, layer: int) -> None:
        times.compute_on(m, costs.backward_layer[layer] + one * costs.optimizer)

    def train_until(m: int, step: int) -> None:
        while taken[m] < step:
            forward(m)
            for layer in reversed(range(costs.layers)):
                backward(m, layer)

    # Fragments that leave together, on all workers the same, go in the backward pass's order.
    send_after = schedules[0].send_after
    together = [
        [p for p, after in enumerate(send_after) if after == step]
        for step in sorted(set(send_after))
    ]
    for number in range(rounds):
        begins.append(times.mark)
        for leaving in together:
            layers = {layer for p in leaving for layer in parts[p]}
            for m, own in enumerate(schedules):
                train_until(m, number * own.period + own.send_after[leaving[0]] - 1)
                forward(m)
            for layer in reversed(range(costs.layers)):
                for m in range(costs.workers):
                    backward(m, layer)
                if layer in layers:
                    one_layer = range(layer, layer + 1)
                    end = _send(costs, times, group, one_layer, how)
                    for m, queue in enumerate(in_flight):
                        queue.append(Sent(taken[m], one_layer, end))
        for m, own in enumerate(schedules):
            train_until(m, (number + 1) * own.period)
    begins.append(times.mark)
    return _drain(costs, times, in_flight), begins


def _apply(costs: Costs, times: Times, m: int, sent: Sent) -> None:
    """t_m <- max(t_m, end) + outer step of the fragment's layers."""
    times.compute_on(m, costs.part(sent.layers) * costs.outer_step, not_before=sent.end)


def _drain(costs: Costs, times: Times, in_flight: list[deque[Sent]]) -> Seconds:
    for m, queue in enumerate(in_flight):
        for sent in queue:
            _apply(costs, times, m, sent)
    return times.mark


# --- averages that arrive rounds late -----------------------------------------------------------


def delayed_diloco(costs: Costs, rounds: int, **arguments: Any) -> Result:
    """No outer step in the first k rounds."""
    return _stale_outer_steps(costs, rounds, first_steps=False, **arguments)


def eager_diloco(costs: Costs, rounds: int, **arguments: Any) -> Result:
    """An outer step in the first k rounds too, on this worker's gradient."""
    return _stale_outer_steps(costs, rounds, first_steps=True, **arguments)


def _stale_outer_steps(
    costs: Costs,
    rounds: int,
    *,
    first_steps: bool,
    comm_dtype: str,
    sync_every: PerWorker = 100,
    outer_sync_delay: int = 1,
    num_fragments: int = 1,
    **others: Any,
) -> Result:
    """In round r fragment p is sent; then t_m <- max(t_m, end(r-k, p)) + outer step."""
    how = averaging(comm_dtype, others)
    parts = fragments(costs.layers, num_fragments)
    send_after = np.array(
        [send_steps(steps, len(parts))[1] for steps in per_worker(costs, sync_every)]
    )
    group, times = Group(costs), Times(costs.workers)
    ends: list[list[float]] = []
    begins = []

    def step(layers: range) -> None:
        times.compute(costs.part(layers) * costs.outer_step)

    for number in range(rounds):
        begins.append(times.mark)
        ends.append([])
        position = np.zeros(costs.workers)
        for p, layers in enumerate(parts):
            steps = send_after[:, p] - position
            position = send_after[:, p]
            for m in map(int, np.flatnonzero(steps)):
                times.compute_on(m, steps * costs.inner_step)
            ends[-1].append(_send(costs, times, group, layers, how))
            if number >= outer_sync_delay:
                times.wait(ends[number - outer_sync_delay][p])
                step(layers)
            elif first_steps:
                step(layers)
    begins.append(times.mark)
    for late in ends[max(0, rounds - outer_sync_delay) :]:
        for p, layers in enumerate(parts):
            times.wait(late[p])
            step(layers)
    return times.mark, begins
