"""Which tensors the layers of a model consist of, for what is sent tensor by tensor."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from sim.records.scenario import Method, ModelSize
from sim.scenario.context import Context
from sim.scenario.models import decoder
from sim.scenario.presets import gpt_tensors, swiglu_width, usual_tensors

_OTHERS = {"exchange": "bucket", "zero1_exchange": "torch_views"}


def sends_tensors(method: Method) -> str | None:
    """Return the argument by which a method sends tensor by tensor, if it does."""
    arguments = method.arguments
    if arguments.get("exchange") == "tensor":
        return "exchange"
    if arguments.get("zero1") and arguments.get("zero1_exchange") == "torch":
        return "zero1_exchange"
    return None


def with_tensors(context: Context, size: ModelSize, method: Method) -> ModelSize:
    """Return the model with its tensors, where the method sends them one by one."""
    section = context.sections.model
    given = section.layer_tensors
    if given is not None:
        _check(context, size, given)
    key = sends_tensors(method)
    if key is None:
        return size
    if given is not None:
        return replace(size, layer_tensors=given)
    if section.kind is not None:
        dimensions = decoder(section)
        hidden = dimensions.hidden or 0
        tensors = gpt_tensors(
            hidden=hidden,
            layers=size.layers,
            vocabulary=dimensions.vocabulary or 0,
            feed_forward=dimensions.feed_forward or swiglu_width(hidden),
        )
        return replace(size, layer_tensors=tensors)
    if section.name is not None:
        usual = lru_cache(usual_tensors)
        context.assume(
            "model.layer_tensors",
            "8 in each layer (two norms; query, key, value, output, up and down of width "
            f"{usual(size.layer_parameters[0])[0]}, 12 x width^2)",
        )
        return replace(size, layer_tensors=tuple(map(usual, size.layer_parameters)))
    raise context.refuse(
        "method",
        key,
        text="needs the sizes of the model's tensors, which are not known; give "
        'model.layer_tensors next to model.layer_parameters, or a decoder (model.kind = "gpt"), or '
        f'take "{_OTHERS[key]}"',
    )


def _check(context: Context, size: ModelSize, given: tuple[tuple[int, ...], ...]) -> None:
    """Refuse tensors that are not those of the layers."""
    if context.sections.model.layer_parameters is None:
        raise context.refuse_key(
            "model", "layer_tensors", text="goes with layer_parameters; give that as well"
        )
    if len(given) != size.layers:
        raise context.refuse_key(
            "model",
            "layer_tensors",
            text=f"has {len(given)} lists for {size.layers} layers; one for each",
        )
    for layer, (tensors, expected) in enumerate(zip(given, size.layer_parameters, strict=True)):
        if sum(tensors) != expected:
            raise context.refuse_key(
                "model",
                "layer_tensors",
                text=f"those of layer {layer} have {sum(tensors):,} parameters together, "
                f"layer_parameters says {expected:,}",
            )
