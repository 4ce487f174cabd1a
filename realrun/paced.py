"""A model that takes up room on the wire and none of the machine's time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sim.models import Sized, SizedBuffer
from sim.scenario.resolved import ModelSize


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

    def _buffer(self, name: str, layers: range, piece: int = 0, pieces: int = 1) -> SizedBuffer:
        found = super()._buffer(name, layers, piece, pieces)
        return Filled(**_fields(found), tensor=self._zeros[: found.elements])


def _fields(buffer: SizedBuffer) -> dict[str, Any]:
    return {key: getattr(buffer, key) for key in ("name", "elements", "detail", "values")}
