"""Tensors behind the verbs: passes through the stages, gradients, the inner optimizer.

The outer half is in :mod:`realrun.model.outer`, the sharded optimizer in
:mod:`realrun.model.sharded`.

All parameters live in one flat fp32 vector, layer after layer, and so do their gradients; the
module's own parameters are views into it. What is sent, stepped or averaged is then a slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from realrun.errors import RunError, of_rank
from realrun.model import module_state, optimizers
from realrun.model.buffers import Flat, Layout, Losses, parted
from realrun.model.functional import AdamW
from realrun.model.optimizers import Inner
from realrun.model.outer import Outer
from realrun.model.sharded import Handed, Sharded, under
from sim.scenario import ScenarioError
from sim.text.told import told
from sim.trace.layers import written

Loss = Callable[[Tensor, Tensor], Tensor]
_LOSS_FAILED = "model: the loss of outputs of {} failed"


class Place(NamedTuple):
    """Where a parameter lies in a model's flat vector."""

    name: str  #: "stage.name", as saved
    layer: int
    part: slice


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
        This worker and M.
    shards
        Over how many consecutive ranks a sharded optimizer is divided, each with its slice; by
        default all.
    averaging
        How many outer gradients a mean is of: those of islands, where a worker is an accelerator;
        by default M.
    tokens_per_step
        Of all workers together: where an update counts tokens (acco, dpu, wp) the learning rate
        is read at committed tokens / this; 0 reads it at the updates taken.
    autocast
        What matrices are multiplied in; None is the parameters' fp32.
    outer_on_host
        Whether outer parameters and their momentum are in the host's memory between two uses.
    on_loss
        Called with the number of micro-batches done and the last one's loss.
    module
        The whole of which the stages are parts; by default ``nn.ModuleList(stages)``.
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
        shards: int | None = None,
        averaging: int | None = None,
        n_grad_accumulation: int = 1,
        inner: Inner | None = None,
        param_dtype: str = "bf16",
        tokens_per_step: float = 0.0,
        autocast: torch.dtype | None = None,
        outer_on_host: bool = False,
        on_loss: Callable[[int, Tensor], None] | None = None,
        module: nn.Module | None = None,
    ) -> None:
        self._rank = rank
        self._on_loss = on_loss
        self.module = nn.ModuleList(stages) if module is None else module
        self.num_layers = len(stages)
        self.param_dtype = param_dtype
        self.n_grad_accumulation = n_grad_accumulation
        self.committed_tokens = 0.0
        #: Inner steps of an average worker per inner step of this one: the learning rate is read
        #: at an average worker's steps, so that it is the same everywhere and ends as it should.
        self.pace = 1.0
        self._stages, self._loss, self._batches = stages, loss, batches
        self._inner = inner or Inner()
        self._tokens_per_step, self._autocast = tokens_per_step, autocast
        self._parameters_by_layer = parameters_by_layer
        self._flatten(parameters_by_layer)
        self._losses = Losses(self.theta)
        self._steps = [0] * self.num_layers
        self._optimizers: list[AdamW | None] = [None] * self.num_layers
        self._count = 0
        self._tokens = 0
        self._saved_inputs: list[Tensor | None] = [None] * self.num_layers
        self._outputs: list[Tensor | None] = [None] * self.num_layers
        self._outer = Outer(self.theta, self._layout, averaging or workers, on_host=outer_on_host)
        shards = shards or workers
        self._sharded = Sharded(rank % shards, shards, self._inner)
        self._handed: Handed | None = None

    @property
    def outer(self) -> Tensor:
        """Parameters at the last applied outer step, flat."""
        return self._outer.parameters

    def _flatten(self, parameters_by_layer: Sequence[Sequence[nn.Parameter]]) -> None:
        everything = [p for layer in parameters_by_layer for p in layer]
        count = sum(p.numel() for p in everything)
        device = everything[0].device
        self.theta = torch.empty(count, device=device)
        self._gradient = torch.zeros(count, device=device)
        self._layout = Layout([sum(p.numel() for p in layer) for layer in parameters_by_layer])
        at = 0
        with torch.no_grad():
            for parameter in everything:
                part = slice(at, at + parameter.numel())
                self.theta[part] = parameter.reshape(-1)
                parameter.data = self.theta[part].view_as(parameter)
                parameter.grad = self._gradient[part].view_as(parameter)
                at = part.stop

    @property
    def named_slices(self) -> list[Place]:
        """Names, layers and places of all parameters, in the order of the flat vector."""
        names = {
            id(parameter): f"{number}.{name}"
            for number, stage in enumerate(self._stages)
            for name, parameter in stage.named_parameters()
        }
        places, at = [], 0
        for layer, parameters in enumerate(self._parameters_by_layer):
            for parameter in parameters:
                part = slice(at, at + parameter.numel())
                places.append(Place(names.get(id(parameter), f"at {at}"), layer, part))
                at = part.stop
        return places

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
        """Add the gradient of one more micro-batch, over n, to the sum."""
        whole = range(self.num_layers)
        self.forward(whole)
        self.backward(whole)

    def forward(self, layers: range) -> None:
        """Run some layers forward, each on a detached input, so that backward goes by layers."""
        for layer in layers:
            if layer == 0:
                with self._failing("data: the next batch cannot be read"):
                    inputs, self._targets = next(self._batches)
                self._count += 1
                self._tokens += inputs.numel()
                outputs = self._through(0, inputs)
            else:
                before = self._outputs[layer - 1]
                assert before is not None
                inputs = before.detach().requires_grad_()
                self._saved_inputs[layer] = inputs
                outputs = self._through(layer, inputs)
            self._outputs[layer] = outputs

    def _through(self, layer: int, inputs: Tensor) -> Tensor:
        with self._failing("model: {} failed on input of {}", layer, inputs), self._precision():
            return self._stages[layer](inputs)  # type: ignore[no-any-return]

    @contextmanager
    def _failing(self, what: str, *about: object) -> Iterator[None]:
        """Turn what the user's code may raise, which is anything, into a line with the rank.

        ``what`` has a place for each stage, given by its number, and each tensor's shape.
        """
        try:
            yield
        except (RunError, ScenarioError) as error:  # a line already
            raise RunError(of_rank(self._rank, str(error))) from error
        except Exception as error:
            line = what.format(*(self._worded(thing) for thing in about))
            raise RunError(f"rank {self._rank}: {line}: {told(error)}") from error

    def _worded(self, thing: object) -> str:
        if isinstance(thing, int):
            return f"stage {thing} ({type(self._stages[thing]).__name__})"
        return f"shape {tuple(thing.shape)}" if isinstance(thing, Tensor) else type(thing).__name__

    def backward(self, layers: range) -> None:
        """Run some layers backward, last first, and add their gradient, over n, to the sum."""
        for layer in reversed(layers):
            outputs = self._outputs[layer]
            assert outputs is not None
            if layer == self.num_layers - 1:
                with self._failing(_LOSS_FAILED, outputs), self._precision():
                    loss = self._loss(outputs, self._targets)
                self._losses.add(loss.detach())
                if self._on_loss is not None:
                    self._on_loss(self._losses.count, loss.detach())
                share = loss / n if (n := self.n_grad_accumulation) > 1 else loss
                with self._failing("model: backward of the loss or {} failed", layer):
                    share.backward()  # type: ignore[no-untyped-call]
            else:
                after = self._saved_inputs[layer + 1]
                assert after is not None
                with self._failing("model: backward of {} failed", layer):
                    outputs.backward(after.grad)  # type: ignore[no-untyped-call]
                self._saved_inputs[layer + 1] = None
            self._outputs[layer] = None

    @property
    def losses(self) -> list[float]:
        """Loss of every micro-batch so far; reading it waits for the device."""
        return self._losses.all().tolist()

    @property
    def losses_so_far(self) -> int:
        """How many micro-batches have a loss."""
        return self._losses.count

    def losses_since(self, first: int) -> Tensor:
        """Losses from micro-batch ``first`` on, on the device; one at least must have come."""
        return self._losses.since(first)

    def loss_on(self, inputs: Tensor, targets: Tensor) -> float:
        """Loss of one batch, nothing trained."""
        with torch.no_grad(), self._precision(), _evaluating(self._stages):
            outputs = inputs
            for layer in range(self.num_layers):
                outputs = self._through(layer, outputs)
            with self._failing(_LOSS_FAILED, outputs):
                return float(self._loss(outputs, targets))

    def inner_optimizer(self, layers: range) -> None:
        """AdamW on the mean gradient of the micro-batches, layer by layer."""
        part = self._layout.run(layers)
        gradient = self._gradient[part]
        if self._inner.clip_norm and len(layers) == self.num_layers:
            norm = gradient.norm()
            gradient *= torch.clamp(self._inner.clip_norm / (norm + 1e-6), max=1.0)
        for layer in layers:
            optimizer = self._optimizers[layer]
            if optimizer is None:
                optimizer = self._optimizers[layer] = self._adamw(layer)
            optimizer.lr = self._inner.rate(self._steps[layer] * self.pace)
            optimizer.step()
            self._steps[layer] += 1
        gradient.zero_()

    def _adamw(self, layer: int) -> AdamW:
        own = nn.Parameter(self.theta[self._layout.slices[layer]])
        own.grad = self._gradient[self._layout.slices[layer]]
        return self._inner.adamw(own)

    # -- synchronous data parallel -------------------------------------------------------
    def gradient(self, layers: range, piece: int = 0, pieces: int = 1) -> Flat:
        """Gradient sum of consecutive layers, or one piece of it; reductions write it."""
        return self._view("gradient", self._gradient, layers, piece, pieces)

    def parameters(self, layers: range, piece: int = 0, pieces: int = 1) -> Flat:
        """Parameters of consecutive layers, or one piece of them; collectives write them."""
        return self._view("parameters", self.theta, layers, piece, pieces)

    def _view(self, name: str, of: Tensor, layers: range, piece: int, pieces: int) -> Flat:
        run = self._layout.run(layers)
        count = run.stop - run.start
        part = slice(run.start + count * piece // pieces, run.start + count * (piece + 1) // pieces)
        detail = written(layers) + (f" {piece + 1}/{pieces}" if pieces > 1 else "")
        return Flat(name, detail, of[part], start=part.start)

    def tensors(self, layers: range) -> list[int]:
        """Elements of each parameter of some layers, in the order of the flat vector."""
        return [p.numel() for layer in layers for p in self._parameters_by_layer[layer]]

    def parts(self, buffer: Flat, edges: Sequence[int]) -> Sequence[Flat]:
        """Parts of a buffer between edges, views of its tensor."""
        return parted(buffer, edges)

    def optimizer_shard(self, phase: str, gradients: Sequence[Flat] = ()) -> None:
        """AdamW on this worker's slices, from the reduced sum; see :class:`sim.program.Model`."""
        if gradients:
            self._sharded.zero1(self.theta, self._gradient, gradients)
            return
        at = self.committed_tokens / self._tokens_per_step if self._tokens_per_step else None
        self._sharded.update(self._given(), phase, at)

    # -- outer steps ---------------------------------------------------------------------
    def average_parameters(self, layers: range) -> None:
        """Nothing left to compute: the all-reduce has written the mean in place."""
        self._sharded.written(self.theta, self._layout.of(layers))

    def outer_gradient(self, layers: range, slot: int = 0) -> None:
        """Delta = outer parameters minus local ones."""
        self._outer.gradient(layers, slot)

    def delta(self, layers: range, slot: int = 0) -> Flat:
        """Outer gradients of some layers; one buffer per slot."""
        return self._outer.delta(layers, slot)

    def outer_step(
        self, layers: range, slot: int, lr: float, momentum: float, nesterov: bool, alpha: float
    ) -> None:
        """Outer SGD with the mean in ``slot``; then local = alpha local + (1 - alpha) outer."""
        self._outer.step(layers, slot, lr, momentum, nesterov, alpha)
        self._sharded.written(self.theta, self._layout.of(layers))

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
        self._outer.eager_step(layers, fresh, stale, lr, momentum, nesterov)
        self._sharded.written(self.theta, self._layout.of(layers))

    def begin(self) -> None:
        """Take the parameters that the module has now as those at the last outer step, too."""
        self._outer.restore({"parameters": self.theta})

    # -- what a run is resumed from ------------------------------------------------------
    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all that the next step depends on, but for data and random state.

        Tensors by name, and numbers. Taken between two steps, with nothing in flight. Frozen
        parameters are among them on rank 0 only.
        """
        tensors: dict[str, Tensor] = {
            "theta": self.theta,
            "gradient": self._gradient,
            "losses": self._losses.all(),
        }
        tensors |= {f"outer/{name}": tensor for name, tensor in self._outer.tensors().items()}
        tensors |= module_state.state(self._stages, with_frozen=self._rank == 0)
        for layer, inner in enumerate(self._optimizers):
            if inner is not None:
                tensors |= optimizers.tensors_of(inner, f"inner/{layer}")
        sharded, taken = self._sharded.state()
        tensors |= {f"sharded/{name}": tensor for name, tensor in sharded.items()}
        numbers: dict[str, Any] = {
            "steps": self._steps,
            "count": self._count,
            "tokens": self._tokens,
            "committed_tokens": self.committed_tokens,
            "sharded_taken": taken,
        }
        if self._handed is not None:
            handed, numbers["kept"] = self._handed.state()
            tensors |= {f"handed/{name}": tensor for name, tensor in handed.items()}
        return tensors, numbers

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Resume where :meth:`state` was taken, on a model that was made alike."""
        self.theta.copy_(tensors["theta"])
        self._gradient.copy_(tensors["gradient"])
        self._losses = Losses(self.theta, tensors["losses"])
        self._outer.restore(under("outer", tensors))
        module_state.restore(self._stages, tensors)
        self._steps = list(numbers["steps"])
        for layer, taken in enumerate(self._steps):
            if taken:
                inner = self._optimizers[layer] = self._adamw(layer)
                optimizers.restore(inner, f"inner/{layer}", tensors)
        self._count, self._tokens = numbers["count"], numbers["tokens"]
        self.committed_tokens = numbers["committed_tokens"]
        self._sharded.restore(under("sharded", tensors), numbers["sharded_taken"], self.theta)
        if "kept" in numbers:
            self._handed = Handed(self.theta, written(range(self.num_layers)))
            self._handed.restore(under("handed", tensors), numbers["kept"])

    # -- accumulate while communicating --------------------------------------------------
    def hand_over(self, phase: str) -> None:
        """Give gradient sum and count to the update, and start a new sum."""
        if self._handed is None:
            self._handed = Handed(self.theta, written(range(self.num_layers)))
        self._handed.take(
            self._gradient, self.n_grad_accumulation, self._count, self._tokens, phase
        )
        self._gradient.zero_()
        self._count = self._tokens = 0

    def publish(self, phase: str) -> None:
        """Continue from the gathered parameters."""
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

    def _given(self) -> Handed:
        if self._handed is None:
            raise RuntimeError("nothing was handed over yet: call hand_over first")
        return self._handed


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
