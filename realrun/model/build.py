"""From [model] to what is trained: the decoder of realrun.model.gpt, or a module of the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from realrun.model import gpt
from realrun.model.replica import Loss
from realrun.model.stages import (
    ModelError,
    check_against,
    find_function,
    layer_parameters,
    load_model,
    stages_of,
    whole_of,
)
from sim.records.scenario import ModelSize
from sim.scenario.models import DEFAULT_CONTEXT, DEFAULT_VOCABULARY
from sim.scenario.schema import ModelSection


@dataclass(frozen=True)
class Built:
    """A model ready to be trained, and what data it takes.

    ``module`` is the whole of which ``stages`` are the parts. ``loss`` maps the last stage's
    output and targets_BT to a scalar, in nats per token unless the user has said otherwise. Tokens
    are below ``vocabulary``; a sequence has ``context``.
    """

    module: nn.Module
    stages: list[nn.Module]
    loss: Loss
    parameters_by_layer: list[list[nn.Parameter]]
    vocabulary: int
    context: int


def check_described(model: ModelSection) -> None:
    """Refuse a model of which only sizes are known.

    Raises
    ------
    ModelError
        With what to give.
    """
    if model.kind is None and model.module is None:
        raise ModelError(
            'model: only sizes are given; to be trained it needs kind = "gpt" and its dimensions '
            '(hidden, layers, heads, vocabulary), or module = "package.module:function"'
        )


def build(
    model: ModelSection, size: ModelSize, *, seed: int = 0, folder: Path | None = None
) -> Built:
    """Make the model that a scenario describes, with the same parameters on every worker.

    Parameters
    ----------
    model
        ``sim.scenario.sections(...).model``.
    size
        What the simulator makes of it; the model must have just these parameters.
    seed
        Of the initial parameters.
    folder
        The scenario's: where a module of the user's is looked for first.

    Raises
    ------
    ModelError
        If only sizes are given, the user's function or loss cannot be used, or the parameters
        are not those of the scenario; then with the line to write.
    """
    check_described(model)
    if model.module is not None:
        return _users(model, model.module, size, seed, folder)
    config = gpt.GPTConfig.from_section(model)
    decoder = gpt.GPT(config, seed=seed)
    decoder.check_against(size)
    return Built(
        decoder,
        decoder.stages(),
        gpt.loss,
        decoder.layer_parameters(),
        config.vocabulary,
        config.context,
    )


def _users(
    model: ModelSection, name: str, size: ModelSize, seed: int, folder: Path | None
) -> Built:
    with about("model.module"):
        made = load_model(name, seed=seed, folder=folder)
        stages = stages_of(made)
        layers = layer_parameters(stages)
        try:
            check_against(layers, size)
        except ModelError as error:
            tensors = [[parameter.numel() for parameter in layer] for layer in layers]
            right = f"layer_parameters = {[sum(layer) for layer in tensors]}"
            if size.layer_tensors:
                right += f" and layer_tensors = {tensors}"
            raise ModelError(f"{name}: {error}; write {right}") from None
    for number, stage in enumerate(stages[:-1]):
        stage.register_forward_hook(_one_tensor(f"model.module: {name}: stage {number}"))
    vocabulary = model.vocabulary or DEFAULT_VOCABULARY
    loss = _logits_checked(name, vocabulary)
    if model.loss is not None:
        with about("model.loss"):
            loss = _scalar_checked(model.loss, find_function(model.loss, folder))
    return Built(whole_of(made), stages, loss, layers, vocabulary, model.context or DEFAULT_CONTEXT)


@contextmanager
def about(key: str) -> Iterator[None]:
    """Say which key a mistake is about."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{key}: {error}") from error


def _one_tensor(stage: str) -> Callable[[nn.Module, object, object], None]:
    """Return a hook that sees whether a stage gives what a gradient can come back through."""

    def check(module: nn.Module, inputs: object, outputs: object) -> None:
        if not isinstance(outputs, Tensor):
            raise ModelError(f"{stage} gives a {type(outputs).__name__}; one tensor is needed")
        if not outputs.is_floating_point():
            raise ModelError(f"{stage} gives {outputs.dtype}; floating point is needed")

    return check


def _logits_checked(name: str, vocabulary: int) -> Loss:
    """Cross-entropy, once it is clear that there are logits for every token."""

    def loss(outputs: Tensor, targets_BT: Tensor) -> Tensor:  # noqa: N803
        given = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        batch = tuple(targets_BT.shape)
        if not isinstance(given, tuple) or given[:-1] != batch or given[-1] < vocabulary:
            raise ModelError(
                f"model.module: {name}: the last stage gives {given}; logits for each token are "
                f"needed, {(*batch, vocabulary)}, or a loss of your own (model.loss)"
            )
        return gpt.loss(outputs, targets_BT)

    return loss


def _scalar_checked(name: str, function: Callable[..., object]) -> Loss:
    """Return the user's loss, which training can only use if it gives one number."""

    def loss(outputs: Tensor, targets_BT: Tensor) -> Tensor:  # noqa: N803
        value = function(outputs, targets_BT)
        if not isinstance(value, Tensor):
            raise ModelError(
                f"model.loss: {name} gives {type(value).__name__}; a torch scalar is needed"
            )
        if value.dim() != 0:
            raise ModelError(
                f"model.loss: {name} gives a tensor of shape {tuple(value.shape)}; a scalar is "
                "needed, like its mean"
            )
        if torch.is_grad_enabled() and not value.requires_grad:
            raise ModelError(f"model.loss: {name} gives a number that does not depend on the model")
        return value

    return loss
