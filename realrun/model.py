"""Tensors behind the verbs: gradients, optimizers, outer state, shards.

All parameters live in one flat fp32 vector, layer after layer, and so do their gradients; the
module's own parameters are views into it. What is sent, stepped or averaged is then a slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from realrun import optimizers
from realrun.optimizers import Inner, Shard
from sim.compute import read_layers, written

_PAGE = 1024  # losses
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Flat:
    """A buffer of the program's vocabulary: a flat tensor under a name.

    ``sent`` is set when it is sent: what the wire's dtype left of the own values, or what
    returns it until the result is there. Only who reads it pays for the copy.
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
    tokens_per_step
        Of all workers together: where an update counts tokens (acco, dpu, wp) the learning rate
        is read at committed tokens / this; 0 reads it at the updates taken.
    autocast
        What matrices are multiplied in; None is the parameters' fp32.
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
        tokens_per_step: float = 0.0,
        autocast: torch.dtype | None = None,
        on_loss: Callable[[int, Tensor], None] | None = None,
    ) -> None:
        self._on_loss = on_loss
        self.num_layers = len(stages)
        self.param_dtype = param_dtype
        self.n_grad_accumulation = n_grad_accumulation
        self.committed_tokens = 0.0
        self._stages, self._loss, self._batches = stages, loss, batches
        self._inner = inner or Inner()
        self._tokens_per_step, self._autocast = tokens_per_step, autocast
        self._rank, self._workers = rank, workers
        self._flatten(parameters_by_layer)
        self._losses = _Losses(self.theta)
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
        self._shard_at: list[slice] = []
        self._shard: Shard | None = None
        self._handed: _Handed | None = None
        self._restored: dict[str, Tensor] = {}  # outer momentum, until its optimizer is made

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

    def _precision(self) -> AbstractContextManager[Any]:
        """On a GPU matrices are multiplied in bf16; parameters and sums stay fp32."""
        if self._autocast is None:
            return nullcontext()
        return torch.autocast(self.theta.device.type, self._autocast)

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
                with self._precision():
                    outputs = self._stages[0](inputs)
            else:
                before = self._outputs[layer - 1]
                assert before is not None
                inputs = before.detach().requires_grad_()
                self._saved_inputs[layer] = inputs
                with self._precision():
                    outputs = self._stages[layer](inputs)
            self._outputs[layer] = outputs

    def backward(self, layers: range) -> None:
        """Run some layers backward, last first, and add their gradient to the sum."""
        for layer in reversed(layers):
            outputs = self._outputs[layer]
            assert outputs is not None
            if layer == self.num_layers - 1:
                with self._precision():
                    loss = self._loss(outputs, self._targets)
                self._losses.add(loss.detach())
                if self._on_loss is not None:
                    self._on_loss(self._losses.count, loss.detach())
                loss.backward()  # type: ignore[no-untyped-call]
            else:
                after = self._saved_inputs[layer + 1]
                assert after is not None
                outputs.backward(after.grad)  # type: ignore[no-untyped-call]
                self._saved_inputs[layer + 1] = None
            self._outputs[layer] = None

    @property
    def losses(self) -> list[float]:
        """Loss of every micro-batch so far; reading it waits for the device."""
        return self._losses.all().tolist()

    def loss_on(self, inputs: Tensor, targets: Tensor) -> float:
        """Loss of one batch, nothing trained."""
        with torch.no_grad(), self._precision(), _evaluating(self._stages):
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
                optimizer = self._optimizers[layer] = self._adamw(layer)
            optimizer.param_groups[0]["lr"] = self._inner.rate(self._steps[layer])
            optimizer.step()
            self._steps[layer] += 1
        gradient.zero_()

    def _adamw(self, layer: int) -> torch.optim.AdamW:
        own = nn.Parameter(self.theta[self._slices[layer]])
        own.grad = self._gradient[self._slices[layer]]
        return self._inner.adamw(own)

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

    def _own(self, gradients: Sequence[Flat]) -> list[slice]:
        """Where the own slices of some buffers, or of the whole vector, lie."""
        m, rank = self._workers, self._rank
        spans = [(g.start, g.elements) for g in gradients] or [(0, self.theta.numel())]
        return [slice(at + n * rank // m, at + n * (rank + 1) // m) for at, n in spans]

    def optimizer_shard(self, phase: str, gradients: Sequence[Flat] = ()) -> None:
        """AdamW on the own slices, from the reduced sum; see :class:`sim.program.Model`."""
        own = self._shard_at = self._shard_at or self._own(gradients)
        if gradients:  # ZeRO-1: they were reduce-scattered in place
            gradient = _joined(self._gradient, own) / (self.n_grad_accumulation * self._workers)
        else:
            handed = self._given()
            gradient = _joined(handed.gradient.tensor, own) / handed.count.tensor[0]
        if self._shard is None:
            self._shard = Shard(
                _joined(self.theta if gradients else handed.committed, own), self._inner
            )
        at = None
        if self._tokens_per_step and not gradients:
            at = self.committed_tokens / self._tokens_per_step
        stepped = self._shard.step(gradient, at, keep=phase != "estimate")
        if gradients:
            _put(stepped, self.theta, own)
            self._gradient.zero_()
            return
        if phase != "estimate":
            _put(stepped, handed.committed, own)
        if phase == "predict":
            stepped = self._shard.step(gradient, at, keep=False)
        _put(stepped, handed.parameters.tensor, own)

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
            own = sent() if callable(sent) else sent
            self._fresh[layers, fresh] = torch.as_tensor(own, dtype=mixed.dtype)
            mixed += self._fresh[layers, fresh] / self._workers
        self._outer_sgd(layers, mixed, lr, momentum, nesterov)
        for whole, _ in self._parts(layers):
            self.theta[whole] = self.outer[whole]

    def _outer_sgd(
        self, layers: range, delta: Tensor, lr: float, momentum: float, nesterov: bool
    ) -> None:
        if layers not in self._outer_optimizers:
            own = [nn.Parameter(self.outer[whole]) for whole, _ in self._parts(layers)]
            optimizer = self._outer_optimizers[layers] = torch.optim.SGD(
                own, lr=lr, momentum=momentum, nesterov=nesterov and momentum > 0
            )
            name = f"outer_sgd/{written(layers)}"
            optimizers.restore(optimizer, name, self._restored)
            for key in optimizers.tensors_of(optimizer, name):
                del self._restored[key]
        optimizer = self._outer_optimizers[layers]
        for parameter, (_, part) in zip(
            optimizer.param_groups[0]["params"], self._parts(layers), strict=True
        ):
            parameter.grad = delta[part]
        optimizer.step()
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = None  # it would keep the vector alive

    def named_parameters(self) -> dict[str, Tensor]:
        """Copies of the parameters by "stage.name": what was trained."""
        return {
            f"{number}.{name}": parameter.detach().clone()
            for number, stage in enumerate(self._stages)
            for name, parameter in stage.named_parameters()
        }

    # -- what a run is resumed from ------------------------------------------------------
    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all that the next step depends on, but for data and random state.

        Tensors by name, and numbers. Taken between two steps, with nothing in flight.
        """
        tensors: dict[str, Tensor] = {
            "theta": self.theta,
            "gradient": self._gradient,
            "outer": self.outer,
            "losses": self._losses.all(),
        }
        for number, stage in enumerate(self._stages):
            tensors |= {f"module/{number}/{name}": b for name, b in stage.named_buffers()}
        for layer, inner in enumerate(self._optimizers):
            if inner is not None:
                tensors |= optimizers.tensors_of(inner, f"inner/{layer}")
        for (layers, slot), delta in self._deltas.items():
            tensors[f"delta/{written(layers)}/{slot}"] = delta.tensor
        for (layers, slot), fresh in self._fresh.items():
            tensors[f"fresh/{written(layers)}/{slot}"] = fresh
        tensors |= self._restored
        for layers, outer in self._outer_optimizers.items():
            tensors |= optimizers.tensors_of(outer, f"outer_sgd/{written(layers)}")
        numbers: dict[str, Any] = {
            "steps": self._steps,
            "count": self._count,
            "tokens": self._tokens,
            "committed_tokens": self.committed_tokens,
        }
        if self._shard is not None:
            tensors["shard/parameter"] = self._shard.parameter
            tensors |= optimizers.tensors_of(self._shard.optimizer, "shard/adamw")
            numbers["shard_taken"] = self._shard.taken
        if self._handed is not None:
            handed = self._handed
            tensors |= {f"handed/{name}": tensor for name, tensor in handed.tensors().items()}
            numbers["kept"] = [handed.kept_count, handed.kept_tokens]
        return tensors, numbers

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Go on where :meth:`state` was taken, on a model that was made alike."""
        self.theta.copy_(tensors["theta"])
        self._gradient.copy_(tensors["gradient"])
        self.outer.copy_(tensors["outer"])
        self._losses = _Losses(self.theta, tensors["losses"])
        for number, stage in enumerate(self._stages):
            for name, buffer in stage.named_buffers():
                buffer.copy_(tensors[f"module/{number}/{name}"])
        self._steps = list(numbers["steps"])
        for layer, taken in enumerate(self._steps):
            if taken:
                inner = self._optimizers[layer] = self._adamw(layer)
                optimizers.restore(inner, f"inner/{layer}", tensors)
        for key, value in tensors.items():
            kind, _, rest = key.partition("/")
            if kind not in ("delta", "fresh"):
                continue
            detail, _, slot = rest.rpartition("/")
            layers = read_layers(detail)
            value = value.to(self.theta.device)
            if kind == "delta":
                self.delta(layers, int(slot)).tensor.copy_(value)
            else:
                self._fresh[layers, int(slot)] = value
        self._restored = {k: v for k, v in tensors.items() if k.startswith("outer_sgd/")}
        self._count, self._tokens = numbers["count"], numbers["tokens"]
        self.committed_tokens = numbers["committed_tokens"]
        if "shard/parameter" in tensors:
            self._shard = Shard(tensors["shard/parameter"].to(self.theta.device), self._inner)
            optimizers.restore(self._shard.optimizer, "shard/adamw", tensors)
            self._shard.taken = numbers["shard_taken"]
        if "kept" in numbers:
            handed = self._handed = _Handed(self.theta, written(range(self.num_layers)))
            for name, tensor in handed.tensors().items():
                tensor.copy_(tensors[f"handed/{name}"])
            handed.kept_count, handed.kept_tokens = numbers["kept"]

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


def _joined(vector: Tensor, slices: Sequence[slice]) -> Tensor:
    """Copy slices of a vector into one."""
    return torch.cat([vector[part] for part in slices])


def _put(values: Tensor, into: Tensor, slices: Sequence[slice]) -> None:
    """Write what :func:`_joined` has joined back to where it lay."""
    at = 0
    for part in slices:
        size = part.stop - part.start
        into[part] = values[at : at + size]
        at += size


@contextmanager
def _evaluating(stages: Sequence[nn.Module]) -> Iterator[None]:
    """Switch off what only training does (dropout, running means), and on again."""
    training = [module for stage in stages for module in stage.modules() if module.training]
    for stage in stages:
        stage.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class _Losses:
    """Numbers that stay on the device: reading one would wait for it."""

    def __init__(self, like: Tensor, so_far: Sequence[Tensor] | Tensor = ()) -> None:
        self._like = like
        self.pages: list[Tensor] = []
        self.count = 0
        for loss in so_far:
            self.add(loss)

    def add(self, loss: Tensor) -> None:
        """Remember one more."""
        if self.count % _PAGE == 0:
            self.pages.append(self._like.new_empty(_PAGE))
        self.pages[-1][self.count % _PAGE] = loss
        self.count += 1

    def all(self) -> Tensor:
        """Return all of them; shape [count]."""
        return torch.cat([*self.pages, self._like.new_empty(0)])[: self.count]


class _Handed:
    """What an update beside the computation works on: copies of its own."""

    def __init__(self, theta: Tensor, whole: str) -> None:
        self.gradient = Flat("gradient", whole, torch.zeros_like(theta))
        self.parameters = Flat("parameters", whole, theta.clone())
        self.count = Flat("count", "", theta.new_zeros(2, dtype=torch.float64))
        self.committed = theta.clone()  # fp32 master; the own slice counts
        self.kept = torch.zeros_like(theta)
        self.kept_count = self.kept_tokens = 0

    def tensors(self) -> dict[str, Tensor]:
        """All of them by name."""
        return {
            "gradient": self.gradient.tensor,
            "parameters": self.parameters.tensor,
            "count": self.count.tensor,
            "committed": self.committed,
            "kept": self.kept,
        }
