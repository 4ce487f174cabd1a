"""What the recurrences are made of: seconds of operations, ends of collectives, workers' times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.program import QUANTIZED, bytes_per_element, wire_bytes
from sim.records.scenario import Scenario
from sim.records.varying import key_of_links
from sim.theory.longest_path import Duration, longest_path, round_trip

Seconds = NDArray[np.float64]
"""One number per worker."""

Result = tuple[Seconds, list[Seconds]]
"""When each worker's program ends, and when its rounds begin."""

PerWorker = int | tuple[int, ...]
"""An argument that is one number, or one per worker."""

INSTANT = 1e-12
"""Relative difference below which two times are the same instant."""


class Costs:
    """Seconds of every operation, one per worker, and bytes of every buffer."""

    def __init__(self, scenario: Scenario) -> None:
        if key := key_of_links(scenario):
            raise ValueError(f"{key}: closed forms and recurrences are of links as given")
        machines = [worker.machine for worker in scenario.workers]
        self.scenario = scenario
        self.sizes = scenario.model.layer_parameters
        self.tensors = scenario.model.layer_tensors
        self.layers = len(self.sizes)
        self.parameters = sum(self.sizes)
        self.workers = len(machines)
        self.micro_batches = machines[0].n_grad_accumulation
        speed = np.array([m.speed for m in machines], dtype=np.float64)

        def seconds(values: list[float]) -> Seconds:
            return np.array(values, dtype=np.float64) / speed

        n = self.micro_batches
        step = seconds([m.step_seconds for m in machines])
        first = np.array([m.first_layer_backward for m in machines], dtype=np.float64)
        ratio = np.array([m.backward_ratio for m in machines], dtype=np.float64)
        self.forward_layer = step / ((1 + ratio) * self.layers * n)
        self.forward = self.layers * self.forward_layer
        self.backward_layer = [
            ratio * self.forward_layer * (first if layer == 0 else 1.0)
            for layer in range(self.layers)
        ]
        self.backward = ratio * self.forward_layer * (self.layers - 1 + first)
        self.micro_batch = self.forward + self.backward
        # Of the whole model; k layers of L take k / L of it.
        self.optimizer = seconds([m.seconds_of("inner_optimizer") for m in machines])
        self.outer_gradient = seconds([m.seconds_of("outer_gradient") for m in machines])
        self.outer_step = seconds([m.seconds_of("outer_step") for m in machines])
        self.quantize = seconds([m.seconds_of("quantize") for m in machines])
        self.inner_step = n * self.micro_batch + self.optimizer

    def zero(self) -> Seconds:
        """Return the time at which every worker starts."""
        return np.zeros(self.workers)

    def elements(self, layers: range) -> int:
        """Return the number of parameters of these layers."""
        return sum(self.sizes[layer] for layer in layers)

    def part(self, layers: range) -> float:
        """Return k / L for k layers."""
        return len(layers) / self.layers


@dataclass(frozen=True)
class Averaging:
    """How what leaves together is cut into collectives, and in which type it travels."""

    dtype: str
    exchange: str = "whole"
    bucket_bytes: int = 25 * 2**20
    control_round_trips: int = 0
    control_time: float = 0.0

    def parts(self, costs: Costs, layers: range) -> list[int]:
        """Return the elements of each collective."""
        elements = costs.elements(layers)
        if self.exchange == "tensor":
            return [tensor for layer in layers for tensor in costs.tensors[layer]]
        if self.exchange == "whole":
            return [elements]
        count = max(1, ceil(elements * bytes_per_element(self.dtype) / self.bucket_bytes))
        return [elements * (i + 1) // count - elements * i // count for i in range(count)]


def averaging(dtype: str, arguments: Mapping[str, Any]) -> Averaging:
    """Read off a method's arguments how it averages."""
    names = [field.name for field in fields(Averaging)]
    return Averaging(dtype, **{name: arguments[name] for name in names if name in arguments})


def per_worker(costs: Costs, value: PerWorker) -> list[int]:
    """Return one number for each worker."""
    return [value] * costs.workers if isinstance(value, int) else list(value[: costs.workers])


Transmissions = list[tuple[float, float, Duration]]
"""Collectives on the network: when each begins to transmit, when it ends, and what it uses."""


class Group:
    """The collectives of one process group, in the order in which they are called.

    Parameters
    ----------
    costs
        Of the scenario.
    ranks
        The group's members, ascending; by default all workers.
    others
        Transmissions of groups with which it may share links, which then is refused.
    """

    def __init__(
        self, costs: Costs, ranks: Sequence[int] = (), others: Transmissions | None = None
    ) -> None:
        self.costs = costs
        self.ranks = list(ranks) or list(range(costs.workers))
        self.how = costs.scenario.network.collectives
        self.grants: list[float] = []
        self.ends: list[float] = []
        self.alone = others is None and self.how.concurrent == 1
        self.transmissions: Transmissions = [] if others is None else others
        self.durations: dict[tuple[str, int, str], Duration] = {}

    def quantizing(self, elements: int, dtype: str) -> Seconds:
        """Seconds that a buffer's quantization takes on each worker before the call.

        Its share of the model's parameters, not of its layers: a buffer may hold a part of one
        layer, and layers may differ in size.
        """
        share = elements / self.costs.parameters if dtype in QUANTIZED else 0.0
        return self.costs.quantize * share

    def end(self, call: Seconds, operation: str, elements: int, dtype: str) -> float:
        """End of the next collective, called by member m at ``call[m]``.

        With at most K = ``concurrent`` proceeding, the grant also waits for the K-th last of the
        earlier ends; for K = 1 that is end(c-1).
        """
        size = wire_bytes(elements, dtype, self.how.quantize_block)
        key = operation, elements, dtype
        if key not in self.durations:
            self.durations[key] = longest_path(
                self.costs.scenario, operation, size, dtype, self.ranks
            )
        alone = self.durations[key]

        number, at_once = len(self.ends), self.how.concurrent
        grant = float(call[self.ranks].max())
        if number > 0:
            grant = max(grant, self.grants[-1])
        if number >= at_once:
            grant = max(grant, sorted(self.ends)[-at_once])
        # A lone worker sends nothing and has nobody to connect to.
        sets_up = number == 0 and len(self.ranks) > 1
        end = grant + alone.total_s + (self.how.first_seconds if sets_up else 0.0)
        self.grants.append(grant)
        self.ends.append(end)
        if not self.alone:
            self._refuse_sharing(end - alone.transmission_s, end, alone)
        return end

    def agree(self, mark: Seconds, how: Averaging) -> Seconds:
        """t_m <- max_m t_m + round trips of the slowest pair + control time, if any are sent."""
        if not how.control_round_trips:
            return mark
        slowest = max(
            (round_trip(self.costs.scenario, a, b) for a, b in combinations(self.ranks, 2)),
            default=0.0,
        )
        last = float(mark[self.ranks].max())
        return self.costs.zero() + last + how.control_round_trips * slowest + how.control_time

    def average(self, call: Seconds, layers: range, how: Averaging) -> tuple[Seconds, float]:
        """Call the collectives that average what layers have, one right after the other.

        Returns when each worker has called the last of them, and when all have ended.
        """
        end = 0.0
        for elements in how.parts(self.costs, layers):
            call = call + self.quantizing(elements, how.dtype)
            end = max(end, self.end(call, "all_reduce", elements, how.dtype))
        return call, end

    def _refuse_sharing(self, begin: float, end: float, alone: Duration) -> None:
        tolerance = INSTANT * end
        overlapping = [
            (other_begin, other)
            for other_begin, other_end, other in self.transmissions
            if min(end, other_end) - max(begin, other_begin) > tolerance
        ]
        # Whatever overlaps this one at all is taken to do so at once: strict, and simple.
        for link, share in alone.share.items():
            total = share + sum(other.share.get(link, 0.0) for _, other in overlapping)
            if overlapping and total > 1:
                raise ValueError(
                    f"collectives share link {link} and slow each other down, which the "
                    "recurrences leave to the simulator"
                )
        self.transmissions.append((begin, end, alone))


class Times:
    """Where every worker is: ``mark``, its program; ``free``, when its queue is done.

    They differ by a quantization that was put on the queue and is not awaited: the next
    computation comes after it, a round that the program begins meanwhile does not.
    """

    def __init__(self, workers: int) -> None:
        self.mark: Seconds = np.zeros(workers)
        self.free: Seconds = np.zeros(workers)

    def compute(self, seconds: Seconds) -> None:
        """t_m <- max(t_m, queue_m) + seconds_m."""
        self.mark = np.maximum(self.mark, self.free) + seconds
        self.free = self.mark

    def call(self, quantizing: Seconds) -> Seconds:
        """Return when each worker's next collective is called, its buffer having been quantized."""
        self.free = np.maximum(self.mark, self.free) + quantizing
        return self.free

    def wait(self, end: float) -> None:
        """t_m <- max(t_m, end)."""
        self.mark = np.maximum(self.mark, end)

    def compute_on(self, worker: int, seconds: Seconds, not_before: float = 0.0) -> None:
        """Let a single worker wait, then compute its entry of ``seconds``."""
        mark, free = self.mark.copy(), self.free.copy()
        mark[worker] = max(mark[worker], free[worker], not_before) + seconds[worker]
        free[worker] = mark[worker]
        self.mark, self.free = mark, free
