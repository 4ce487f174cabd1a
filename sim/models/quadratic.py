"""A toy model whose mathematics can be followed by hand, for tests and notebooks.

Every worker m pulls the parameters towards a target of its own, c_m: its loss on one
micro-batch is 1/2 |theta - c_m - e|^2 with e drawn from the worker's stream of noise, so the
gradient is theta - c_m - e. The inner optimizer is SGD with momentum. All verbs of
:class:`sim.program.Model` are here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.models.tensors import tensors_of
from sim.records.scenario import ModelSize
from sim.trace.layers import numbered, written

Floats = NDArray[np.float64]


@dataclass(eq=False)
class Numbers:
    """A buffer with numbers in it; ``sent`` is what the wire's dtype left of this worker's."""

    name: str
    detail: str
    values: Floats
    sent: Floats | None = None
    start: int = 0  # where in the model's vector
    parts: Sequence[Numbers] = ()  # in which it is sent, if it is not sent whole

    @property
    def elements(self) -> int:
        """How many numbers."""
        return len(self.values)

    def as_sent(self) -> Floats:
        """What the wire's dtype left of what was sent last: whole, or in parts."""
        if self.parts:
            return np.concatenate([part.as_sent() for part in self.parts])
        return self.values if self.sent is None else self.sent


class Quadratic:
    """Toy model of one worker.

    Parameters
    ----------
    size
        Layers and how many parameters each has.
    rank, workers
        This worker and M.
    shards
        Over how many consecutive ranks a sharded optimizer is divided, each with its slice; by
        default all.
    n_grad_accumulation
        Micro-batches per inner step.
    lr, momentum
        Of the inner SGD.
    noise
        Standard deviation of the gradient noise; 0 switches it off.
    spread
        Standard deviation of the workers' targets around the common one; 0: the same for all.
    seed
        Of targets, initial parameters (the same on all workers) and noise.
    """

    def __init__(
        self,
        size: ModelSize,
        rank: int,
        workers: int,
        *,
        n_grad_accumulation: int = 1,
        lr: float = 0.1,
        momentum: float = 0.0,
        noise: float = 0.0,
        spread: float = 1.0,
        seed: int = 0,
        shards: int | None = None,
        averaging: int | None = None,
    ) -> None:
        self.num_layers = size.layers
        self.param_dtype = size.param_dtype
        self.n_grad_accumulation = n_grad_accumulation
        self.committed_tokens = 0.0
        self.pace = 1.0
        self._averaging, self._shards = averaging or workers, shards or workers
        self._place = rank % self._shards
        self._lr, self._momentum, self._noise = lr, momentum, noise
        edges = np.concatenate([[0], np.cumsum(size.layer_parameters)]).tolist()
        self._tensors = size.layer_tensors
        self._slices = [slice(a, b) for a, b in pairwise(edges)]
        common = np.random.default_rng([seed, 0])
        own = np.random.default_rng([seed, 1 + rank])
        count = edges[-1]
        self.theta: Floats = common.normal(size=count)
        self.target: Floats = common.normal(size=count) + spread * own.normal(size=count)
        self._random = own
        self._gradient = np.zeros(count)
        self._count = 0
        self._velocity = np.zeros(count)
        # Outer optimizer: parameters at the last applied update, momentum, outer gradients.
        self.outer: Floats = self.theta.copy()
        self._outer_velocity = np.zeros(count)
        self._deltas: dict[tuple[range, int], Numbers] = {}
        self._own: dict[tuple[range, int], Floats] = {}
        # Accumulate while communicating.
        self._kept, self._kept_count = np.zeros(count), 0
        self._handed = Numbers("gradient", written(range(self.num_layers)), np.zeros(count))
        self._handed_count = Numbers("count", "", np.zeros(2))
        self._committed: Floats = self.theta.copy()
        self._next = Numbers("parameters", written(range(self.num_layers)), self.theta.copy())

    def perform(
        self, verb: Callable[..., None], args: tuple[Any, ...], kwargs: dict[str, Any], times: int
    ) -> None:
        """Carry out a verb ``times`` times."""
        for _ in range(times):
            verb(*args, **kwargs)

    def _at(self, layers: range) -> NDArray[np.intp]:
        return np.concatenate(
            [np.arange(s.start, s.stop) for s in (self._slices[x] for x in layers)]
        )

    # -- local training ------------------------------------------------------------------
    def accumulate(self) -> None:
        """Add one micro-batch's gradient, over n, to the sum."""
        whole = range(self.num_layers)
        self.forward(whole)
        self.backward(whole)

    def forward(self, layers: range) -> None:
        """Draw the micro-batch's noise with the first layer; nothing else to compute."""
        if layers.start == 0:
            self._drawn = self._noise * self._random.normal(size=len(self.theta))
            self._count += 1

    def backward(self, layers: range) -> None:
        """Add the gradient of some layers, over n, to the sum."""
        at = self._at(layers)
        gradient = self.theta[at] - self.target[at] - self._drawn[at]
        self._gradient[at] += gradient / self.n_grad_accumulation

    def inner_step(self) -> None:
        """Take n micro-batches and one optimizer step."""
        for _ in range(self.n_grad_accumulation):
            self.accumulate()
        self.inner_optimizer(range(self.num_layers))

    def inner_optimizer(self, layers: range) -> None:
        """SGD with momentum on the mean gradient of the micro-batches."""
        at = self._at(layers)
        self._velocity[at] = self._momentum * self._velocity[at] + self._gradient[at]
        self.theta[at] -= self._lr * self._velocity[at]
        self._gradient[at] = 0.0

    # -- synchronous data parallel -------------------------------------------------------
    def gradient(self, layers: range, piece: int = 0, pieces: int = 1) -> Numbers:
        """Gradient sums of consecutive layers, a view that a reduction overwrites."""
        return self._view("gradient", self._gradient, layers, piece, pieces)

    def parameters(self, layers: range, piece: int = 0, pieces: int = 1) -> Numbers:
        """Parameters of consecutive layers, a view that a collective overwrites."""
        return self._view("parameters", self.theta, layers, piece, pieces)

    def _view(self, name: str, of: Floats, layers: range, piece: int, pieces: int) -> Numbers:
        start, stop = self._slices[layers[0]].start, self._slices[layers[-1]].stop
        count = stop - start
        part = slice(start + count * piece // pieces, start + count * (piece + 1) // pieces)
        detail = written(layers) + (f" {piece + 1}/{pieces}" if pieces > 1 else "")
        return Numbers(name, detail, of[part], start=part.start)

    def tensors(self, layers: range) -> list[int]:
        """Elements of each tensor of some layers."""
        return tensors_of(self._tensors, layers)

    def parts(self, buffer: Numbers, edges: Sequence[int]) -> Sequence[Numbers]:
        """Parts of a buffer between edges, views of its numbers."""
        if len(buffer.parts) != len(edges) - 1:
            buffer.parts = [
                Numbers(buffer.name, numbered(buffer.detail, place, len(edges) - 1), part)
                for place, part in enumerate(np.split(buffer.values, edges[1:-1]))
            ]
        return buffer.parts

    def _shard(self, gradients: Sequence[Numbers]) -> NDArray[np.intp]:
        """Where this worker's slices of some buffers, or of the whole vector, lie."""
        m, rank = self._shards, self._place
        spans = [(g.start, g.elements) for g in gradients] or [(0, len(self.theta))]
        return np.concatenate(
            [np.arange(at + n * rank // m, at + n * (rank + 1) // m) for at, n in spans]
        )

    def optimizer_shard(self, phase: str, gradients: Sequence[Numbers] = ()) -> None:
        """Step this worker's slices from the reduced sum; only committed updates keep momentum."""
        own = self._shard(gradients)
        handed_over = not gradients
        if handed_over:  # acco, dpu, wp
            mean = self._handed.values[own] / self._handed_count.values[0]
            start = self._committed[own]
        else:  # ZeRO-1: the gradients were reduce-scattered in place
            mean = self._gradient[own]
            start = self.theta[own]
        velocity = self._momentum * self._velocity[own] + mean
        stepped = start - self._lr * velocity
        if phase != "estimate":
            self._velocity[own] = velocity
        if handed_over:
            if phase != "estimate":
                self._committed[own] = stepped
            if phase == "predict":
                stepped = stepped - self._lr * (self._momentum * velocity + mean)
            self._next.values[own] = stepped
        else:
            self.theta[own] = stepped
            self._gradient[:] = 0.0

    # -- outer steps ---------------------------------------------------------------------
    def average_parameters(self, layers: range) -> None:
        """Nothing left to do: the all-reduce has written the mean in place."""

    def outer_gradient(self, layers: range, slot: int = 0) -> None:
        """Delta = outer parameters minus local ones."""
        at = self._at(layers)
        self.delta(layers, slot).values[:] = self.outer[at] - self.theta[at]

    def delta(self, layers: range, slot: int = 0) -> Numbers:
        """Outer gradients of some layers; one buffer per slot."""
        key = (layers, slot)
        if key not in self._deltas:
            self._deltas[key] = Numbers("delta", written(layers), np.zeros(len(self._at(layers))))
        return self._deltas[key]

    def outer_step(
        self, layers: range, slot: int, lr: float, momentum: float, nesterov: bool, alpha: float
    ) -> None:
        """Outer SGD on the reduced delta, then theta = alpha theta + (1 - alpha) outer."""
        at = self._at(layers)
        self._outer_sgd(at, self.delta(layers, slot).values, lr, momentum, nesterov)
        self.theta[at] = alpha * self.theta[at] + (1 - alpha) * self.outer[at]

    def eager_outer_step(
        self,
        layers: range,
        fresh: int | None,
        stale: int | None,
        lr: float,
        momentum: float,
        nesterov: bool,
    ) -> None:
        """Outer SGD on the stale mean, its own part replaced by the fresh one."""
        at = self._at(layers)
        mixed = np.zeros(len(at))
        if stale is not None:
            # The slot is about to be reused: what was sent from it is kept in _own.
            mixed += self.delta(layers, stale).values - self._own[layers, stale] / self._averaging
        if fresh is not None:
            buffer = self.delta(layers, fresh)
            sent = buffer.as_sent()
            self._own[layers, fresh] = sent.copy()
            mixed += sent / self._averaging
        self._outer_sgd(at, mixed, lr, momentum, nesterov)
        self.theta[at] = self.outer[at]

    def _outer_sgd(
        self, at: NDArray[np.intp], delta: Floats, lr: float, momentum: float, nesterov: bool
    ) -> None:
        velocity = momentum * self._outer_velocity[at] + delta
        self._outer_velocity[at] = velocity
        self.outer[at] -= lr * (delta + momentum * velocity if nesterov else velocity)

    # -- accumulate while communicating --------------------------------------------------
    def hand_over(self, phase: str) -> None:
        """Give the gradient sum and its count to the update, and start a new sum."""
        total = self.n_grad_accumulation * self._gradient + self._kept
        count = self._count + self._kept_count
        self._handed.values[:] = total
        self._handed_count.values[:] = count, count
        keep = phase == "estimate"
        self._kept, self._kept_count = (total, count) if keep else (np.zeros_like(total), 0)
        self._gradient[:] = 0.0
        self._count = 0

    def publish(self, phase: str) -> None:
        """Continue from the gathered parameters."""
        self.theta[:] = self._next.values
        if phase != "estimate":
            self.committed_tokens += float(self._handed_count.values[1])

    def handed_count(self) -> Numbers:
        """Micro-batches and tokens handed over (one token each)."""
        return self._handed_count

    def handed_gradient(self) -> Numbers:
        """Gradient sum handed over."""
        return self._handed

    def handed_parameters(self) -> Numbers:
        """Parameters about to be published; this worker's slice is written by optimizer_shard."""
        return self._next
