"""AdamW and SGD with momentum on a few vectors, through the functions behind torch's classes.

The steps are those of :class:`torch.optim.AdamW` and :class:`torch.optim.SGD`, bit for bit. The
classes import torch's compiler when they are made: two seconds of a core and 100 MB, in each
process of a run, for something that no run uses.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd


class Optimizer:
    """Steps on some parameters from their gradients.

    Parameters
    ----------
    parameters
        What is stepped, each with its gradient in ``grad``.
    lr
        Learning rate of the next step; may be changed between steps.

    Attributes
    ----------
    state
        For each parameter its tensors, by the names that torch's classes give them; empty before
        its first step.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], lr: float) -> None:
        self.parameters, self.lr = list(parameters), lr
        self.state: list[dict[str, Tensor]] = [{} for _ in self.parameters]

    def step(self) -> None:
        """Take one step."""
        raise NotImplementedError

    def _gradients(self) -> list[Tensor]:
        found = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        assert len(found) == len(self.parameters)  # they are set before a step
        return found


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    _EPSILON = 1e-8

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        super().__init__(parameters, lr)
        self._betas, self._weight_decay = betas, weight_decay

    @torch.no_grad()
    def step(self) -> None:
        """Take one step."""
        for parameter, state in zip(self.parameters, self.state, strict=True):
            if not state:
                state["step"] = torch.tensor(0.0)  # read on the host: it stays there
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        adamw(
            list(self.parameters),
            self._gradients(),
            [state["exp_avg"] for state in self.state],
            [state["exp_avg_sq"] for state in self.state],
            [],
            [state["step"] for state in self.state],
            amsgrad=False,
            beta1=self._betas[0],
            beta2=self._betas[1],
            lr=self.lr,
            weight_decay=self._weight_decay,
            eps=self._EPSILON,
            maximize=False,
        )


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, Nesterov's or the plain one."""

    def __init__(
        self, parameters: Sequence[nn.Parameter], lr: float, momentum: float, *, nesterov: bool
    ) -> None:
        super().__init__(parameters, lr)
        self._momentum, self._nesterov = momentum, nesterov and momentum > 0

    @torch.no_grad()
    def step(self) -> None:
        """Take one step."""
        momenta = [state.get("momentum_buffer") for state in self.state] if self._momentum else []
        sgd(
            list(self.parameters),
            self._gradients(),
            momenta,
            weight_decay=0.0,
            momentum=self._momentum,
            lr=self.lr,
            dampening=0.0,
            nesterov=self._nesterov,
            maximize=False,
        )
        for state, momentum in zip(self.state, momenta, strict=False):
            if momentum is not None:
                state["momentum_buffer"] = momentum
