"""From [model] to sizes: a preset, a number of parameters, or a decoder's dimensions."""

from __future__ import annotations

from sim.scenario.context import Context
from sim.scenario.errors import listed
from sim.scenario.presets import MODELS, gpt_layers, layers_from_parameters, swiglu_width
from sim.scenario.resolved import ModelSize
from sim.scenario.schema import ModelSection
from sim.units import format_count

_GPT_KEYS = ("hidden", "layers", "heads", "vocabulary")


def resolve_model(context: Context) -> ModelSize:
    """Return the sizes of the model; there is no default one."""
    section = context.sections.model
    presets = listed(MODELS)
    if section.kind is None:
        for key in ("hidden", "heads", "vocabulary", "feed_forward", "context"):
            if getattr(section, key) is not None:
                raise context.refuse("model", key, text='goes with kind = "gpt"; give that as well')
        if section.name is None and section.parameters is None:
            raise context.refuse(
                "model",
                text=f'missing; give name = "10B" (--model 10B; a preset: {presets}), or '
                'parameters = "7B" (--model 7B)',
            )
    sizes, name = _gpt(context, section) if section.kind else _sized(context, section, presets)
    parameters = sum(sizes)
    active = section.active_parameters
    if active is None:
        active = parameters
        context.assume("model.active_parameters", f"{format_count(active)} (all)")
    elif active > parameters:
        raise context.refuse(
            "model",
            "active_parameters",
            text=f"must be at most {format_count(parameters)}, all the model's parameters",
        )
    if section.param_dtype is None:
        context.assume("model.param_dtype", "bf16")
    return ModelSize(name, parameters, active, sizes, section.param_dtype or "bf16")


def _sized(context: Context, section: ModelSection, presets: str) -> tuple[tuple[int, ...], str]:
    """Split a number of parameters evenly; the remainder goes to the first layers."""
    layers = section.layers
    if section.name is not None:
        preset = MODELS.get(section.name)
        if preset is None:
            raise context.refuse(
                "model",
                "name",
                text=f"unknown model; presets are {presets}; for another size give "
                'parameters = "7B" (--model 7B)',
            )
        parameters, name = preset.parameters, section.name
        if layers is None:
            layers = preset.layers
            context.assume("model.layers", f"{layers} (arXiv:2501.18512, Table 4)")
    else:
        parameters = section.parameters or 0
        name = format_count(parameters)
        if layers is None:
            layers = layers_from_parameters(parameters)
            context.assume(
                "model.layers",
                f"{layers} (rule of thumb: 12 x layers x width^2, width 128 x layers)",
            )
    if layers > parameters:
        raise context.refuse(
            "model", "layers", text=f"must be at most {format_count(parameters)}, the parameters"
        )
    share, longer = divmod(parameters, layers)
    return tuple(share + (layer < longer) for layer in range(layers)), name


def _gpt(context: Context, section: ModelSection) -> tuple[tuple[int, ...], str]:
    for key in _GPT_KEYS:
        if getattr(section, key) is None:
            raise context.refuse(
                "model", key, text=f'missing; kind = "gpt" needs {listed(_GPT_KEYS, "and")}'
            )
    hidden, layers = section.hidden or 0, section.layers or 0
    heads, vocabulary = section.heads or 0, section.vocabulary or 0
    if hidden % heads:
        raise context.refuse(
            "model", "heads", text=f"must divide hidden = {hidden} without remainder"
        )
    feed_forward = section.feed_forward
    if feed_forward is None:
        feed_forward = swiglu_width(hidden)
        context.assume("model.feed_forward", f"{feed_forward} (8/3 of hidden, in steps of 64)")
    sizes = gpt_layers(
        hidden=hidden, layers=layers, vocabulary=vocabulary, feed_forward=feed_forward
    )
    if sum(sizes) > 10**18:
        raise context.refuse(
            "model",
            "hidden",
            text=f"makes {format_count(sum(sizes))} parameters; at most 1e18 are possible",
        )
    return sizes, f"gpt {format_count(sum(sizes), 3)}"
