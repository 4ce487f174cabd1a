"""Models without tensors: bytes only, and a toy whose mathematics can be followed by hand."""

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


@dataclass(frozen=True, eq=False)
class SizedBuffer:
    """A buffer of ``elements`` numbers; ``values`` only where a number decides something."""

    name: str
    elements: int
    detail: str = ""
    values: NDArray[np.float64] | None = None


class Sized:
    """Knows sizes and counts micro-batches: all that time depends on. Holds no parameters."""

    def __init__(self, size: ModelSize, n_grad_accumulation: int, batch_tokens: float) -> None:
        self.num_layers = size.layers
        self.param_dtype = size.param_dtype
        self.n_grad_accumulation = n_grad_accumulation
        self._tokens = batch_tokens / n_grad_accumulation  # per micro-batch
        self._cumulative = np.concatenate([[0], np.cumsum(size.layer_parameters)])
        self._layer_parameters = size.layer_parameters
        self._tensors = size.layer_tensors
        self._buffers: dict[tuple[Any, ...], SizedBuffer] = {}
        self._parts: dict[tuple[Any, ...], list[SizedBuffer]] = {}
        self._count = self._kept = 0  # micro-batches accumulated; of the estimate round
        self._handed = np.zeros(2)  # micro-batches, tokens
        self.committed_tokens = 0.0
        self.pace = 1.0

    def perform(
        self, verb: Callable[..., None], args: tuple[Any, ...], kwargs: dict[str, Any], times: int
    ) -> None:
        """Carry out a verb ``times`` times; only counts change."""
        name = verb.__name__
        if name == "accumulate":
            self._count += times
        elif name in ("hand_over", "publish"):
            verb(*args, **kwargs)

    def _elements(self, layers: range) -> int:
        if layers.step == 1:
            return int(self._cumulative[layers.stop] - self._cumulative[layers.start])
        return sum(self._layer_parameters[layer] for layer in layers)

    def _buffer(self, name: str, layers: range, piece: int = 0, pieces: int = 1) -> SizedBuffer:
        key = (name, layers, piece, pieces)
        buffer = self._buffers.get(key)
        if buffer is None:
            elements = self._elements(layers)
            detail = written(layers)
            if pieces > 1:
                elements = elements * (piece + 1) // pieces - elements * piece // pieces
                detail += f" {piece + 1}/{pieces}"
            buffer = self._buffers[key] = SizedBuffer(name, elements, detail)
        return buffer

    def tensors(self, layers: range) -> list[int]:
        """Elements of each tensor of some layers."""
        return tensors_of(self._tensors, layers)

    def parts(self, buffer: SizedBuffer, edges: Sequence[int]) -> list[SizedBuffer]:
        """Parts of a buffer between edges."""
        key = ("parts", buffer.name, buffer.detail, len(edges))
        if key not in self._parts:
            sizes = [last - first for first, last in pairwise(edges)]
            self._parts[key] = [
                SizedBuffer(buffer.name, elements, numbered(buffer.detail, place, len(sizes)))
                for place, elements in enumerate(sizes)
            ]
        return self._parts[key]

    # Verbs without state: only their names and their times matter.
    def inner_step(self) -> None: ...
    def accumulate(self) -> None: ...
    def forward(self, layers: range) -> None: ...
    def backward(self, layers: range) -> None: ...
    def inner_optimizer(self, layers: range) -> None: ...
    def optimizer_shard(self, phase: str, gradients: Sequence[SizedBuffer] = ()) -> None: ...
    def average_parameters(self, layers: range) -> None: ...
    def outer_gradient(self, layers: range, slot: int = 0) -> None: ...
    def outer_step(
        self, layers: range, slot: int, lr: float, momentum: float, nesterov: bool, alpha: float
    ) -> None: ...
    def eager_outer_step(
        self,
        layers: range,
        fresh: int | None,
        stale: int | None,
        lr: float,
        momentum: float,
        nesterov: bool,
    ) -> None: ...

    def hand_over(self, phase: str) -> None:
        """Hand the counted micro-batches to the update about to be communicated."""
        handed = self._kept + self._count
        self._kept = handed if phase == "estimate" else 0
        self._count = 0
        self._handed[:] = handed, handed * self._tokens

    def publish(self, phase: str) -> None:
        """Take over the reduced count of a committed update."""
        if phase != "estimate":
            self.committed_tokens += float(self._handed[1])

    def gradient(self, layers: range, piece: int = 0, pieces: int = 1) -> SizedBuffer:
        """Gradients of some layers, or piece ``piece`` of ``pieces`` of them."""
        return self._buffer("gradient", layers, piece, pieces)

    def parameters(self, layers: range, piece: int = 0, pieces: int = 1) -> SizedBuffer:
        """Parameters of some layers, or piece ``piece`` of ``pieces`` of them."""
        return self._buffer("parameters", layers, piece, pieces)

    def delta(self, layers: range, slot: int = 0) -> SizedBuffer:
        """Outer gradients of some layers."""
        return self._buffer("delta", layers)

    def handed_count(self) -> SizedBuffer:
        """Micro-batches and tokens handed over: two numbers that are really summed."""
        return SizedBuffer("count", 2, values=self._handed)

    def handed_gradient(self) -> SizedBuffer:
        """Gradient sum handed over."""
        return self._buffer("gradient", range(self.num_layers))

    def handed_parameters(self) -> SizedBuffer:
        """Parameters that the update is about to publish."""
        return self._buffer("parameters", range(self.num_layers))
