"""Tensors behind the verbs: gradients, optimizers, outer state, shards.

All parameters live in one flat fp32 vector, layer after layer, and so do their gradients; the
module's own parameters are views into it. What is sent, stepped or averaged is then a slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import cos, pi
from typing import Any

import torch
from torch import Tensor, nn

from sim.compute import written

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Flat:
    """A buffer of the program's vocabulary: a flat tensor under a name.

    ``sent`` is what the wire's dtype left of the own values, set when it is sent.
    """

    name: str
    detail: str
    tensor: Tensor
    sent: Any = None
    start: int = 0  # where in the model's vector

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return self.tensor.numel()

    @property
    def values(self) -> Any:
        """The same numbers as a numpy array: the simulator can train a model on the CPU, too."""
        return self.tensor.numpy()


@dataclass(frozen=True)
class Inner:
    """The inner optimizer: AdamW, linear warm-up, cosine decay to a tenth, clipping.

    ``steps`` is the length of the cosine in optimizer steps (0: constant); ``clip_norm`` 0
    switches clipping off.
    """

    learning_rate: float = 4e-4
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 0.0
    warmup_steps: int = 0
    steps: int = 0

    def rate(self, step: int) -> float:
        """Learning rate of optimizer step ``step``, from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if not self.steps:
            return self.learning_rate
        done = min(1.0, (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps))
        return self.learning_rate * (0.1 + 0.45 * (1 + cos(pi * done)))


class TorchModel:
    """One worker's replica; implements :class:`sim.program.Model`.

    Parameters
    ----------
    stages
        L modules; each takes what the one before gives, the first takes inputs_BT.
    loss
        From the last stage's output and targets_BT to a scalar.
    batches
        Endless (inputs_BT, targets_BT), one per micro-batch.
    parameters_by_layer
        Which parameters belong to which layer, each to exactly one.
    rank, workers
        This worker and M; it owns slice ``rank`` of M where the optimizer is sharded.
    on_loss
        Called with the number of micro-batches done and the last one's loss.
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        loss: Loss,
        batches: Iterator[tuple[Tensor, Tensor]],
        parameters_by_layer: Sequence[Sequence[nn.Parameter]],
        *,
        rank: int = 0,
        workers: int = 1,
        n_grad_accumulation: int = 1,
        inner: Inner | None = None,
        param_dtype: str = "bf16",
        on_loss: Callable[[int, float], None] | None = None,
    ) -> None:
        self._on_loss = on_loss
        self.num_layers = len(stages)
        self.param_dtype = param_dtype
        self.n_grad_accumulation = n_grad_accumulation
        self.committed_tokens = 0.0
        self.losses: list[float] = []
        self._stages, self._loss, self._batches = stages, loss, batches
        self._inner = inner or Inner()
        self._rank, self._workers = rank, workers
        self._flatten(parameters_by_layer)
        self._steps = [0] * self.num_layers
        self._optimizers: list[torch.optim.AdamW | None] = [None] * self.num_layers
        self._count = 0
        self._tokens = 0
        self._saved_inputs: list[Tensor | None] = [None] * self.num_layers
        self._outputs: list[Tensor | None] = [None] * self.num_layers
        self._deltas: dict[tuple[range, int], Flat] = {}
        self._fresh: dict[tuple[range, int], Tensor] = {}
        self.outer = self.theta.clone()  # parameters at the last applied outer step
        self._outer_optimizers: dict[range, torch.optim.SGD] = {}
        self._shard_at: Tensor | None = None
        self._shard: _Shard | None = None
        self._handed: _Handed | None = None

    def _flatten(self, parameters_by_layer: Sequence[Sequence[nn.Parameter]]) -> None:
        everything = [p for layer in parameters_by_layer for p in layer]
        count = sum(p.numel() for p in everything)
        device = everything[0].device
        self.theta = torch.empty(count, device=device)
        self._gradient = torch.zeros(count, device=device)
        self._slices: list[slice] = []
        at = 0
        with torch.no_grad():
            for layer in parameters_by_layer:
                begin = at
                for parameter in layer:
                    part = slice(at, at + parameter.numel())
                    self.theta[part] = parameter.reshape(-1)
                    parameter.data = self.theta[part].view_as(parameter)
                    parameter.grad = self._gradient[part].view_as(parameter)
                    at = part.stop
                self._slices.append(slice(begin, at))

    # -- where layers are ----------------------------------------------------------------
    def _run(self, layers: range) -> slice:
        """Consecutive layers as one slice."""
        return slice(self._slices[layers[0]].start, self._slices[layers[-1]].stop)

    def _parts(self, layers: range) -> Iterator[tuple[slice, slice]]:
        """For each layer, its slice of the whole and of the layers' own vector."""
        at = 0
        for layer in layers:
            whole = self._slices[layer]
            size = whole.stop - whole.start
            yield whole, slice(at, at + size)
            at += size

    def perform(
        self, verb: Callable[..., None], args: tuple[Any, ...], kwargs: dict[str, Any], times: int
    ) -> None:
        """Carry out a verb ``times`` times."""
        for _ in range(times):
            verb(*args, **kwargs)

    # -- local training ------------------------------------------------------------------
    def inner_step(self) -> None:
        """Take n micro-batches and one optimizer step."""
        for _ in range(self.n_grad_accumulation):
            self.accumulate()
        self.inner_optimizer(range(self.num_layers))

    def accumulate(self) -> None:
        """Add the gradient of one more micro-batch to the sum."""
        whole = range(self.num_layers)
        self.forward(whole)
        self.backward(whole)

    def forward(self, layers: range) -> None:
        """Run some layers forward, each on a detached input, so that backward goes by layers."""
        for layer in layers:
            if layer == 0:
                inputs, self._targets = next(self._batches)
                self._count += 1
                self._tokens += inputs.numel()
                outputs = self._stages[0](inputs)
            else:
                before = self._outputs[layer - 1]
                assert before is not None
                inputs = before.detach().requires_grad_()
                self._saved_inputs[layer] = inputs
                outputs = self._stages[layer](inputs)
            self._outputs[layer] = outputs

    def backward(self, layers: range) -> None:
        """Run some layers backward, last first, and add their gradient to the sum."""
        for layer in reversed(layers):
            outputs = self._outputs[layer]
            assert outputs is not None
            if layer == self.num_layers - 1:
                loss = self._loss(outputs, self._targets)
                self.losses.append(float(loss.detach()))
                if self._on_loss is not None:
                    self._on_loss(len(self.losses), self.losses[-1])
                loss.backward()  # type: ignore[no-untyped-call]
            else:
                after = self._saved_inputs[layer + 1]
                assert after is not None
                outputs.backward(after.grad)  # type: ignore[no-untyped-call]
                self._saved_inputs[layer + 1] = None
            self._outputs[layer] = None

    def loss_on(self, inputs: Tensor, targets: Tensor) -> float:
        """Loss of one batch, nothing trained."""
        with torch.no_grad():
            outputs = inputs
            for stage in self._stages:
                outputs = stage(outputs)
            return float(self._loss(outputs, targets))

    def inner_optimizer(self, layers: range) -> None:
        """AdamW on the mean gradient of the micro-batches, layer by layer."""
        part = self._run(layers)
        gradient = self._gradient[part]
        if self.n_grad_accumulation > 1:
            gradient /= self.n_grad_accumulation
        if self._inner.clip_norm and len(layers) == self.num_layers:
            norm = gradient.norm()
            gradient *= torch.clamp(self._inner.clip_norm / (norm + 1e-6), max=1.0)
        for layer in layers:
            optimizer = self._optimizers[layer]
            if optimizer is None:
                optimizer = self._optimizers[layer] = self._adamw(self._slices[layer])
            optimizer.param_groups[0]["lr"] = self._inner.rate(self._steps[layer])
            optimizer.step()
            self._steps[layer] += 1
        gradient.zero_()

    def _adamw(self, part: slice) -> torch.optim.AdamW:
        own = nn.Parameter(self.theta[part])
        own.grad = self._gradient[part]
        return torch.optim.AdamW(
            [own],
            lr=self._inner.learning_rate,
            betas=self._inner.betas,
            weight_decay=self._inner.weight_decay,
        )

    # -- synchronous data parallel -------------------------------------------------------
    def gradient(self, layers: range, piece: int = 0, pieces: int = 1) -> Flat:
        """Gradient sum of consecutive layers, or one piece of it; reductions write it."""
        return self._view("gradient", self._gradient, layers, piece, pieces)

    def parameters(self, layers: range, piece: int = 0, pieces: int = 1) -> Flat:
        """Parameters of consecutive layers, or one piece of them; collectives write them."""
        return self._view("parameters", self.theta, layers, piece, pieces)

    def _view(self, name: str, of: Tensor, layers: range, piece: int, pieces: int) -> Flat:
        run = self._run(layers)
        count = run.stop - run.start
        part = slice(run.start + count * piece // pieces, run.start + count * (piece + 1) // pieces)
        detail = written(layers) + (f" {piece + 1}/{pieces}" if pieces > 1 else "")
        return Flat(name, detail, of[part], start=part.start)

    def _own(self, gradients: Sequence[Flat]) -> Tensor:
        """Where the own slices of some buffers, or of the whole vector, lie."""
        m, rank = self._workers, self._rank
        spans = [(g.start, g.elements) for g in gradients] or [(0, self.theta.numel())]
        device = self.theta.device
        return torch.cat(
            [
                torch.arange(at + n * rank // m, at + n * (rank + 1) // m, device=device)
                for at, n in spans
            ]
        )

    def optimizer_shard(self, phase: str, gradients: Sequence[Flat] = ()) -> None:
        """AdamW on the own slices, from the reduced sum; see :class:`sim.program.Model`."""
        if self._shard_at is None:
            self._shard_at = self._own(gradients)
        own = self._shard_at
        if gradients:  # ZeRO-1: they were reduce-scattered in place
            gradient = self._gradient[own] / (self.n_grad_accumulation * self._workers)
            start = self.theta[own]
        else:
            handed = self._given()
            gradient = handed.gradient.tensor[own] / handed.count.tensor[0]
            start = handed.committed[own]
        if self._shard is None:
            self._shard = _Shard(start.clone(), self._inner)
        stepped = self._shard.step(gradient, keep=phase != "estimate")
        if gradients:
            self.theta[own] = stepped
            self._gradient.zero_()
            return
        if phase != "estimate":
            handed.committed[own] = stepped
        if phase == "predict":
            stepped = self._shard.step(gradient, keep=False)
        handed.parameters.tensor[own] = stepped

    # -- outer steps ---------------------------------------------------------------------
    def average_parameters(self, layers: range) -> None:
        """Nothing left to do: the all-reduce has written the mean in place."""

    def outer_gradient(self, layers: range, slot: int = 0) -> None:
        """Delta = outer parameters minus local ones."""
        delta = self.delta(layers, slot).tensor
        for whole, part in self._parts(layers):
            torch.sub(self.outer[whole], self.theta[whole], out=delta[part])

    def delta(self, layers: range, slot: int = 0) -> Flat:
        """Outer gradients of some layers; one buffer per slot."""
        key = (layers, slot)
        if key not in self._deltas:
            size = sum(part.stop - part.start for part, _ in self._parts(layers))
            self._deltas[key] = Flat("delta", written(layers), self.theta.new_zeros(size))
        return self._deltas[key]

    def outer_step(
        self, layers: range, slot: int, lr: float, momentum: float, nesterov: bool, alpha: float
    ) -> None:
        """Outer SGD with the mean in ``slot``; then local = alpha local + (1 - alpha) outer."""
        self._outer_sgd(layers, self.delta(layers, slot).tensor, lr, momentum, nesterov)
        for whole, _ in self._parts(layers):
            self.theta[whole].mul_(alpha).add_(self.outer[whole], alpha=1 - alpha)

    def eager_outer_step(
        self,
        layers: range,
        fresh: int | None,
        stale: int | None,
        lr: float,
        momentum: float,
        nesterov: bool,
    ) -> None:
        """Outer SGD with the stale mean, its own part exchanged for the fresh one."""
        mixed = torch.zeros_like(self.delta(layers, fresh or stale or 0).tensor)
        if stale is not None:
            mixed += self.delta(layers, stale).tensor - self._fresh[layers, stale] / self._workers
        if fresh is not None:
            sent = self.delta(layers, fresh).sent
            assert sent is not None  # set when the buffer was sent
            self._fresh[layers, fresh] = torch.as_tensor(sent, dtype=mixed.dtype)
            sent = self._fresh[layers, fresh]
            mixed += sent / self._workers
        self._outer_sgd(layers, mixed, lr, momentum, nesterov)
        for whole, _ in self._parts(layers):
            self.theta[whole] = self.outer[whole]

    def _outer_sgd(
        self, layers: range, delta: Tensor, lr: float, momentum: float, nesterov: bool
    ) -> None:
        if layers not in self._outer_optimizers:
            own = [nn.Parameter(self.outer[whole]) for whole, _ in self._parts(layers)]
            self._outer_optimizers[layers] = torch.optim.SGD(
                own, lr=lr, momentum=momentum, nesterov=nesterov and momentum > 0
            )
        optimizer = self._outer_optimizers[layers]
        for parameter, (_, part) in zip(
            optimizer.param_groups[0]["params"], self._parts(layers), strict=True
        ):
            parameter.grad = delta[part]
        optimizer.step()

    # -- accumulate while communicating --------------------------------------------------
    def hand_over(self, phase: str) -> None:
        """Give gradient sum and count to the update, and start a new sum."""
        if self._handed is None:
            self._handed = _Handed(self.theta, written(range(self.num_layers)))
        handed = self._handed
        torch.add(self._gradient, handed.kept, out=handed.gradient.tensor)
        count, tokens = self._count + handed.kept_count, self._tokens + handed.kept_tokens
        handed.count.tensor[0], handed.count.tensor[1] = count, tokens
        if phase == "estimate":
            handed.kept.copy_(handed.gradient.tensor)
            handed.kept_count, handed.kept_tokens = count, tokens
        else:
            handed.kept.zero_()
            handed.kept_count = handed.kept_tokens = 0
        self._gradient.zero_()
        self._count = self._tokens = 0

    def publish(self, phase: str) -> None:
        """Go on from the gathered parameters."""
        handed = self._given()
        self.theta.copy_(handed.parameters.tensor)
        if phase != "estimate":
            self.committed_tokens += float(handed.count.tensor[1])

    def handed_count(self) -> Flat:
        """Micro-batches and tokens handed over."""
        return self._given().count

    def handed_gradient(self) -> Flat:
        """Gradient sum handed over."""
        return self._given().gradient

    def handed_parameters(self) -> Flat:
        """Parameters that the update writes."""
        return self._given().parameters

    def _given(self) -> _Handed:
        if self._handed is None:
            raise RuntimeError("nothing was handed over yet: call hand_over first")
        return self._handed


class _Handed:
    """What an update beside the computation works on: copies of its own."""

    def __init__(self, theta: Tensor, whole: str) -> None:
        self.gradient = Flat("gradient", whole, torch.zeros_like(theta))
        self.parameters = Flat("parameters", whole, theta.clone())
        self.count = Flat("count", "", theta.new_zeros(2, dtype=torch.float64))
        self.committed = theta.clone()  # fp32 master; the own slice counts
        self.kept = torch.zeros_like(theta)
        self.kept_count = self.kept_tokens = 0


class _Shard:
    """AdamW on one slice of the parameters, with a step that can be rolled back."""

    def __init__(self, start: Tensor, inner: Inner) -> None:
        self._parameter = nn.Parameter(start)
        self._inner = inner
        self._taken = 0
        self._optimizer = torch.optim.AdamW(
            [self._parameter],
            lr=inner.learning_rate,
            betas=inner.betas,
            weight_decay=inner.weight_decay,
        )

    def step(self, gradient: Tensor, *, keep: bool = True) -> Tensor:
        """Parameters after one step; ``keep=False`` leaves state and parameters as they were."""
        before = None
        if not keep:
            before = (self._parameter.detach().clone(), deepcopy(self._optimizer.state_dict()))
        self._parameter.grad = gradient
        self._optimizer.param_groups[0]["lr"] = self._inner.rate(self._taken)
        self._optimizer.step()
        stepped = self._parameter.detach().clone()
        if before is None:
            self._taken += 1
        else:
            self._parameter.data.copy_(before[0])
            self._optimizer.load_state_dict(before[1])
        return stepped
