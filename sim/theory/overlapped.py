"""Recurrences of methods whose outer steps are communicated while training goes on.

As :mod:`sim.theory.recurrences`: (costs, rounds, arguments) -> (end, round begins).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from sim.methods.fragments import fragments, send_steps
from sim.theory.costs import Costs, Group, Result, Seconds, Times


@dataclass(frozen=True)
class Schedule:
    """Fragment ``parts[p]`` leaves after step ``send_after[p]`` (from 1) of every ``period``."""

    period: int
    send_after: list[int]
    parts: list[range]

    def leaving(self, position: int) -> list[range]:
        """Fragments that are sent after this step of the period."""
        pairs = zip(self.parts, self.send_after, strict=True)
        return [layers for layers, after in pairs if after == position]


@dataclass(frozen=True)
class Sent:
    """A reduction on its way: called after inner step ``step``, it ends at ``end``."""

    step: int
    layers: range
    end: float


def _send(
    costs: Costs, times: Times, group: Group, step: int, layers: range, comm_dtype: str
) -> Sent:
    """call_m = t_m + outer gradient + quantisation."""
    part = costs.part(layers)
    times.compute(part * costs.outer_gradient)
    call = times.call(group.quantizing(costs.elements(layers), comm_dtype))
    return Sent(step, layers, group.end(call, "all_reduce", costs.elements(layers), comm_dtype))


def streaming_diloco(
    costs: Costs,
    rounds: int,
    comm_dtype: str,
    sync_every: int = 100,
    num_fragments: int | None = None,
    layers_per_fragment: int | None = 3,
    fragment_pattern: Any = "strided",
    fragment_spacing: Any = "exact",
    fragment_sync_delay: int | tuple[int, ...] = 1,
    overlap: str = "none",
    **_: object,
) -> Result:
    """Fragments of the layers in turn, each with its own offset."""
    if num_fragments is not None:
        layers_per_fragment = None
    parts = fragments(costs.layers, num_fragments, layers_per_fragment, fragment_pattern)
    period, send_after = send_steps(sync_every, len(parts), fragment_spacing)
    delay = fragment_sync_delay
    delays = [delay] * costs.workers if isinstance(delay, int) else list(delay[: costs.workers])
    stream = stream_layers if overlap == "layer" else _stream_fragments
    return stream(costs, rounds, Schedule(period, send_after, parts), delays, comm_dtype)


def _stream_fragments(
    costs: Costs, rounds: int, schedule: Schedule, delays: list[int], comm_dtype: str
) -> Result:
    """In inner step t all that leaves is sent; then m applies what it sent in step t - tau_m.

    t_m <- t_m + T_m;  send;  t_m <- max(t_m, end) + outer step.
    """
    group, times = Group(costs), Times(costs.workers)
    in_flight: list[deque[Sent]] = [deque() for _ in delays]
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


def stream_layers(
    costs: Costs, rounds: int, schedule: Schedule, delays: list[int], comm_dtype: str
) -> Result:
    """Layer l leaves after its backward in step t; its forward in step t + 1 + tau_m waits."""
    group, times = Group(costs), Times(costs.workers)
    in_flight: list[deque[Sent]] = [deque() for _ in delays]
    begins = []
    one = 1 / costs.layers
    for step in range(1, rounds * schedule.period + 1):
        position = (step - 1) % schedule.period + 1
        if position == 1:
            begins.append(times.mark)
        due: list[list[Sent]] = [[] for _ in delays]
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


def _apply(costs: Costs, times: Times, m: int, sent: Sent) -> None:
    """t_m <- max(t_m, end) + outer step of the fragment's layers."""
    times.wait_and_compute(m, sent.end, costs.part(sent.layers) * costs.outer_step)


def _drain(costs: Costs, times: Times, in_flight: list[deque[Sent]]) -> Seconds:
    for m, queue in enumerate(in_flight):
        for sent in queue:
            _apply(costs, times, m, sent)
    return times.mark


# --- averages that arrive rounds late -----------------------------------------------------------


def delayed_diloco(costs: Costs, rounds: int, **arguments: Any) -> Result:
    """No outer step in the first k rounds."""
    return _rounds_late(costs, rounds, first_steps=False, **arguments)


def eager_diloco(costs: Costs, rounds: int, **arguments: Any) -> Result:
    """An outer step in the first k rounds too, on the own gradient."""
    return _rounds_late(costs, rounds, first_steps=True, **arguments)


def _rounds_late(
    costs: Costs,
    rounds: int,
    *,
    first_steps: bool,
    comm_dtype: str,
    sync_every: int = 100,
    rounds_late_by: int = 1,
    num_fragments: int = 1,
    **_: object,
) -> Result:
    """In round r fragment p is sent; then t_m <- max(t_m, end(r-k, p)) + outer step."""
    parts = fragments(costs.layers, num_fragments)
    send_after = send_steps(sync_every, len(parts))[1]
    group, times = Group(costs), Times(costs.workers)
    sent: list[list[Sent]] = []
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
