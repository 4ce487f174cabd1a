"""The outer half of DiLoCo and its kin: outer parameters, outer gradients, outer SGD."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from realrun import optimizers
from realrun.buffers import Delta, Layout
from sim.compute import read_layers, written


class Outer:
    """Outer state of one worker.

    Parameters
    ----------
    theta
        Local parameters, flat; outer steps write them.
    layout
        Where its layers lie.
    workers
        M.
    """

    def __init__(self, theta: Tensor, layout: Layout, workers: int) -> None:
        self._theta, self._layout, self._workers = theta, layout, workers
        self.parameters = theta.clone()  # at the last applied outer step
        self._deltas: dict[tuple[range, int], Delta] = {}
        self._fresh: dict[tuple[range, int], Tensor] = {}  # own part of what was sent
        self._optimizers: dict[range, torch.optim.SGD] = {}
        self._restored: dict[str, Tensor] = {}  # momentum, until its optimizer is made

    def delta(self, layers: range, slot: int) -> Delta:
        """Outer gradients of some layers; one buffer per slot."""
        key = (layers, slot)
        if key not in self._deltas:
            zeros = self._theta.new_zeros(self._layout.size(layers))
            self._deltas[key] = Delta("delta", written(layers), zeros)
        return self._deltas[key]

    def gradient(self, layers: range, slot: int) -> None:
        """Delta = outer parameters minus local ones."""
        delta = self.delta(layers, slot).tensor
        for whole, part in self._layout.parts(layers):
            torch.sub(self.parameters[whole], self._theta[whole], out=delta[part])

    def step(
        self, layers: range, slot: int, lr: float, momentum: float, nesterov: bool, alpha: float
    ) -> None:
        """SGD with the mean in ``slot``; then local = alpha local + (1 - alpha) outer."""
        self._sgd(layers, self.delta(layers, slot).tensor, lr, momentum, nesterov)
        for whole, _ in self._layout.parts(layers):
            self._theta[whole].mul_(alpha).add_(self.parameters[whole], alpha=1 - alpha)

    def eager_step(
        self,
        layers: range,
        fresh: int | None,
        stale: int | None,
        lr: float,
        momentum: float,
        nesterov: bool,
    ) -> None:
        """SGD with the stale mean, its own part exchanged for the fresh one."""
        mixed = torch.zeros_like(self.delta(layers, fresh or stale or 0).tensor)
        if stale is not None:
            mixed += self.delta(layers, stale).tensor - self._fresh[layers, stale] / self._workers
        if fresh is not None:
            sent = self.delta(layers, fresh).sent
            assert sent is not None  # set when the buffer was sent
            own = sent() if callable(sent) else sent
            self._fresh[layers, fresh] = torch.as_tensor(own, dtype=mixed.dtype)
            mixed += self._fresh[layers, fresh] / self._workers
        self._sgd(layers, mixed, lr, momentum, nesterov)
        for whole, _ in self._layout.parts(layers):
            self._theta[whole] = self.parameters[whole]

    def _sgd(
        self, layers: range, delta: Tensor, lr: float, momentum: float, nesterov: bool
    ) -> None:
        if layers not in self._optimizers:
            own = [nn.Parameter(self.parameters[whole]) for whole, _ in self._layout.parts(layers)]
            made = self._optimizers[layers] = torch.optim.SGD(
                own, lr=lr, momentum=momentum, nesterov=nesterov and momentum > 0
            )
            name = f"momentum/{written(layers)}"
            optimizers.restore(made, name, self._restored)
            for key in optimizers.tensors_of(made, name):
                del self._restored[key]
        optimizer = self._optimizers[layers]
        parameters = optimizer.param_groups[0]["params"]
        for parameter, (_, part) in zip(parameters, self._layout.parts(layers), strict=True):
            parameter.grad = delta[part]
        optimizer.step()
        for parameter in parameters:
            parameter.grad = None  # it would keep the vector alive

    def tensors(self) -> dict[str, Tensor]:
        """What a run is resumed from, by name; nothing may be in flight."""
        found = {"parameters": self.parameters, **self._restored}
        for (layers, slot), delta in self._deltas.items():
            found[f"delta/{written(layers)}/{slot}"] = delta.tensor
        for (layers, slot), fresh in self._fresh.items():
            found[f"fresh/{written(layers)}/{slot}"] = fresh
        for layers, optimizer in self._optimizers.items():
            found |= optimizers.tensors_of(optimizer, f"momentum/{written(layers)}")
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`tensors` returned."""
        for name, saved in tensors.items():
            kind, _, rest = name.partition("/")
            value = saved.to(self._theta.device)
            if kind == "parameters":
                self.parameters.copy_(value)
            elif kind == "momentum":
                self._restored[name] = value
            else:
                detail, _, slot = rest.rpartition("/")
                key = (read_layers(detail), int(slot))
                if kind == "delta":
                    self.delta(*key).tensor.copy_(value)
                else:
                    self._fresh[key] = value
