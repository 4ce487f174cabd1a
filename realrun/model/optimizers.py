"""The inner optimizer: its learning rate, its sharded form, and its state as tensors by name."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from math import cos, pi

from torch import Tensor, nn

from realrun.model.functional import AdamW, Optimizer

FINAL_RATE = 0.1  # of the cosine, in learning rates


@dataclass(frozen=True)
class Inner:
    """AdamW with linear warm-up, cosine decay to a tenth, clipping by the global norm.

    ``steps`` is the length of the cosine in optimizer steps, warm-up among them (0: constant
    after the warm-up); ``clip_norm`` 0 switches clipping off.
    """

    learning_rate: float = 4e-4
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 0.0
    warmup_steps: int = 0
    steps: float = 0

    def rate(self, step: float) -> float:
        """Learning rate of optimizer step ``step``, from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if not self.steps:
            return self.learning_rate
        done = min(1.0, (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps))
        return self.learning_rate * (FINAL_RATE + (1 - FINAL_RATE) / 2 * (1 + cos(pi * done)))

    def adamw(self, parameter: nn.Parameter) -> AdamW:
        """Return the optimizer of one flat parameter."""
        return AdamW([parameter], self.learning_rate, self.betas, self.weight_decay)


class Shard:
    """AdamW on one slice of the parameters, with a step that can be rolled back."""

    def __init__(self, start: Tensor, inner: Inner) -> None:
        self.parameter = nn.Parameter(start)
        self.optimizer = inner.adamw(self.parameter)
        self.taken = 0
        self._inner = inner

    def step(self, gradient: Tensor, at: float | None = None, *, keep: bool = True) -> Tensor:
        """Parameters after one step; ``keep=False`` leaves state and parameters as they were.

        ``at``: where the learning rate is read; by default at the steps taken.
        """
        before = None
        if not keep:
            before = (self.parameter.detach().clone(), deepcopy(self.optimizer.state))
        self.parameter.grad = gradient
        rate = self._inner.rate(self.taken if at is None else at)
        self.optimizer.lr = rate
        self.optimizer.step()
        self.parameter.grad = None
        stepped = self.parameter.detach().clone()
        if before is None:
            self.taken += 1
        else:
            self.parameter.data.copy_(before[0])
            self.optimizer.state = before[1]
        return stepped


def tensors_of(optimizer: Optimizer, name: str) -> dict[str, Tensor]:
    """Return an optimizer's state as tensors: "name/0/exp_avg" and the like."""
    return {
        f"{name}/{number}/{key}": value
        for number, state in enumerate(optimizer.state)
        for key, value in state.items()
    }


def restore(optimizer: Optimizer, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimizer the state that :func:`tensors_of` returned under the same name."""
    for number, parameter in enumerate(optimizer.parameters):
        start = f"{name}/{number}/"
        found = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
        # A step count stays where it is read, on the CPU.
        optimizer.state[number] = {
            key: value if value.dim() == 0 else value.to(parameter.device)
            for key, value in found.items()
        }
