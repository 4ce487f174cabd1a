"""A model that takes up room on the wire and none of the machine's time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sim.models.sized import Sized, SizedBuffer
from sim.records.scenario import ModelSize


@dataclass(frozen=True, eq=False)
class Filled(SizedBuffer):
    """A buffer whose numbers are really sent; what they are does not matter."""

    tensor: Tensor | None = None


class PacedModel(Sized):
    """Counts micro-batches as the simulator does and sends zeros of the real size.

    All buffers are views of the same zeros, which is what every collective leaves of them.
    """

    def __init__(
        self,
        size: ModelSize,
        n_grad_accumulation: int,
        batch_tokens: float,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(size, n_grad_accumulation, batch_tokens)
        self._zeros = torch.zeros(size.parameters, device=device)
        self._filled: dict[SizedBuffer, Filled] = {}

    def _buffer(self, name: str, layers: range, piece: int = 0, pieces: int = 1) -> SizedBuffer:
        return self._with_zeros(super()._buffer(name, layers, piece, pieces))

    def parts(self, buffer: SizedBuffer, edges: Sequence[int]) -> list[SizedBuffer]:
        """Parts of a buffer between edges."""
        return [self._with_zeros(part) for part in super().parts(buffer, edges)]

    def _with_zeros(self, found: SizedBuffer) -> SizedBuffer:
        if found not in self._filled:
            zeros = self._zeros[: found.elements]
            self._filled[found] = Filled(
                found.name, found.elements, found.detail, found.values, zeros
            )
        return self._filled[found]
