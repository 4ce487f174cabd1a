"""The outer half of DiLoCo and its kin: outer parameters, outer gradients, outer SGD."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from realrun.model import optimizers
from realrun.model.buffers import Delta, Layout
from realrun.model.functional import SGD
from realrun.model.outer_state import OnDevice, OnHost
from sim.trace.layers import read_layers, written


class Outer:
    """Outer state of one worker.

    Parameters
    ----------
    theta
        Local parameters, flat; outer steps write them.
    layout
        Where its layers lie.
    averaging
        How many outer gradients a mean is of.
    on_host
        Whether outer parameters, their momentum and what eager updates keep are in the host's
        memory between two uses. Outer gradients are on the device: they are sent.
    """

    def __init__(
        self, theta: Tensor, layout: Layout, averaging: int, *, on_host: bool = False
    ) -> None:
        self._theta, self._layout, self._averaging = theta, layout, averaging
        self._state = OnHost(theta.device) if on_host else OnDevice()
        self._parameters = self._state.kept(theta)
        self._deltas: dict[tuple[range, int], Delta] = {}
        self._fresh: dict[tuple[range, int], Tensor] = {}  # own part of what was sent
        self._optimizers: dict[range, SGD] = {}
        self._restored: dict[str, Tensor] = {}  # momentum, until its optimizer is made

    @property
    def parameters(self) -> Tensor:
        """Parameters at the last applied outer step, flat."""
        self._state.settle()
        return self._parameters

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
        with self._state.visiting(self._kept(layers)) as outer:
            for own, (whole, part) in zip(outer, self._layout.parts(layers), strict=True):
                torch.sub(own, self._theta[whole], out=delta[part])

    def step(
        self, layers: range, slot: int, lr: float, momentum: float, nesterov: bool, alpha: float
    ) -> None:
        """SGD with the mean in ``slot``; then local = alpha local + (1 - alpha) outer."""
        mean = self.delta(layers, slot).tensor
        with self._stepped(layers, mean, lr, momentum, nesterov) as outer:
            for own, (whole, _) in zip(outer, self._layout.parts(layers), strict=True):
                self._theta[whole].mul_(alpha).add_(own, alpha=1 - alpha)

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
            with self._state.visiting([self._fresh[layers, stale]]) as (sent_then,):
                mixed += self.delta(layers, stale).tensor - sent_then / self._averaging
        if fresh is not None:
            own = self.delta(layers, fresh).as_sent().to(mixed.dtype)
            mixed += own / self._averaging
            self._fresh[layers, fresh] = self._state.back(own, self._fresh.get((layers, fresh)))
        with self._stepped(layers, mixed, lr, momentum, nesterov) as outer:
            for stepped, (whole, _) in zip(outer, self._layout.parts(layers), strict=True):
                self._theta[whole] = stepped

    @contextmanager
    def _stepped(
        self, layers: range, delta: Tensor, lr: float, momentum: float, nesterov: bool
    ) -> Iterator[list[Tensor]]:
        """Take a step of SGD; yield the outer parameters by layer, in there only."""
        optimizer = self._optimizer(layers, lr, momentum, nesterov)
        parameters, states = optimizer.parameters, optimizer.state
        kept = self._kept(layers)
        momenta = [state.get("momentum_buffer") for state in states]  # none before the first
        there = [values for values in momenta if values is not None]
        with self._state.visiting([*kept, *there]) as here:
            visitors = iter(here[len(kept) :])
            for parameter, own, (_, part) in zip(
                parameters, here, self._layout.parts(layers), strict=False
            ):
                parameter.data, parameter.grad = own, delta[part]
            for state, before in zip(states, momenta, strict=True):
                if before is not None:
                    state["momentum_buffer"] = next(visitors)
            optimizer.step()
            yield here[: len(kept)]
            for parameter, state, own, before in zip(
                parameters, states, kept, momenta, strict=True
            ):
                parameter.grad = None  # it would keep the vector alive
                parameter.data = self._state.back(parameter.data, own)
                after = state.get("momentum_buffer")
                if after is not None:
                    state["momentum_buffer"] = self._state.back(after, before)

    def _optimizer(self, layers: range, lr: float, momentum: float, nesterov: bool) -> SGD:
        if layers not in self._optimizers:
            own = [nn.Parameter(values) for values in self._kept(layers)]
            made = self._optimizers[layers] = SGD(own, lr, momentum, nesterov=nesterov)
            name = f"momentum/{written(layers)}"
            optimizers.restore(made, name, self._restored)
            for key in optimizers.tensors_of(made, name):
                del self._restored[key]
        return self._optimizers[layers]

    def _kept(self, layers: range) -> list[Tensor]:
        """Outer parameters by layer, where they are kept."""
        return [self._parameters[whole] for whole, _ in self._layout.parts(layers)]

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
            if kind == "parameters":
                self.parameters.copy_(saved)
            elif kind == "momentum":
                self._restored[name] = self._state.kept(saved.to(self._theta.device))
            else:
                detail, _, slot = rest.rpartition("/")
                key = (read_layers(detail), int(slot))
                if kind == "delta":
                    self.delta(*key).tensor.copy_(saved)
                else:
                    self._fresh[key] = self._state.kept(saved.to(self._theta.device))
