"""From [model] to sizes: a preset, numbers of parameters, or a decoder's dimensions.

A module of the user's is never imported here: its sizes are written next to it.
"""

from __future__ import annotations

from dataclasses import asdict

from sim.records.scenario import ModelSize
from sim.scenario.context import Context
from sim.scenario.errors import did_you_mean, listed
from sim.scenario.presets import (
    DECODERS,
    MODELS,
    gpt_layers,
    layers_from_parameters,
    swiglu_width,
)
from sim.scenario.schema import DIMENSIONS, ModelSection
from sim.units import format_count

_GPT_KEYS = ("hidden", "layers", "heads", "vocabulary")

# What a user's module reads unless the scenario says otherwise: bytes, this many at a time.
DEFAULT_VOCABULARY = 256
DEFAULT_CONTEXT = 1024


def resolve_model(context: Context) -> ModelSize:
    """Return the sizes of the model; there is no default one."""
    section = context.sections.model
    presets = listed(MODELS)
    if section.kind is None:
        _check_sized(context, section, presets)
    if section.module is not None:
        _check_module(context, section)
    elif section.loss is not None:
        raise context.refuse("model", "loss", text="goes with module; give that as well")
    if section.kind is not None:
        sizes, name = _gpt(context, section)
    elif section.layer_parameters is not None:
        sizes, name = _listed(context, section)
    else:
        sizes, name = _sized(context, section, presets)
    if section.module is not None:
        name = f"{section.module} {format_count(sum(sizes), 3)}"
    parameters = sum(sizes)
    frozen = section.frozen_parameters or 0
    active = section.active_parameters
    if active is None:
        active = parameters + frozen
        whole = "all, trained and frozen" if frozen else "all"
        context.assume("model.active_parameters", f"{format_count(active)} ({whole})")
    elif active > parameters + frozen:
        whose = "trained and frozen ones together" if frozen else "all the model's parameters"
        also = "" if frozen else "; give frozen ones as model.frozen_parameters"
        raise context.refuse(
            "model",
            "active_parameters",
            text=f"must be at most {format_count(parameters + frozen)}, {whose}{also}",
        )
    if section.param_dtype is None:
        context.assume("model.param_dtype", "bf16")
    return ModelSize(name, parameters, active, sizes, section.param_dtype or "bf16", frozen)


def _check_sized(context: Context, section: ModelSection, presets: str) -> None:
    """Refuse what goes only with a decoder, and a model without a size."""
    for key in ("size", "hidden", "heads", "feed_forward"):
        if getattr(section, key) is not None:
            raise context.refuse("model", key, text='goes with kind = "gpt"; give that as well')
    for key in ("vocabulary", "context"):
        if getattr(section, key) is not None and section.module is None:
            raise context.refuse(
                "model", key, text='goes with kind = "gpt" or with module; give one of them as well'
            )
    if (section.name, section.parameters, section.layer_parameters) != (None, None, None):
        return
    if section.module is not None:
        raise context.refuse(
            "model",
            "layer_parameters",
            text="missing; module needs the trained parameters of each of its stages, like "
            "layer_parameters = [1000, 2000]; realrun train names the right ones when they are "
            "wrong",
        )
    raise context.refuse(
        "model",
        text=f'missing; give name = "10B" (--model 10B; a preset: {presets}), or '
        'parameters = "7B" (--model 7B)',
    )


def _check_module(context: Context, section: ModelSection) -> None:
    for key in ("name", "kind"):
        if getattr(section, key) is not None:
            raise context.refuse_key(
                "model", "module", text=f"excludes model.{key}; give only one of them"
            )
    if section.vocabulary is None:
        context.assume("model.vocabulary", f"{DEFAULT_VOCABULARY} (bytes)")
    if section.context is None:
        context.assume("model.context", f"{DEFAULT_CONTEXT} tokens")


def _listed(context: Context, section: ModelSection) -> tuple[tuple[int, ...], str]:
    sizes = section.layer_parameters or ()
    if section.layers is not None:
        raise context.refuse(
            "model", "layers", text=f"layer_parameters has {len(sizes)} already; leave this out"
        )
    if sum(sizes) > 10**18:
        raise context.refuse(
            "model",
            "layer_parameters",
            text=f"makes {format_count(sum(sizes))} parameters; at most 1e18 are possible",
        )
    return sizes, format_count(sum(sizes), 3)


def _sized(context: Context, section: ModelSection, presets: str) -> tuple[tuple[int, ...], str]:
    """Split a number of parameters evenly; the remainder goes to the first layers."""
    layers = section.layers
    if section.name is not None:
        preset = MODELS.get(section.name)
        if preset is None and ":" in section.name:
            raise context.refuse(
                "model",
                "name",
                text="unknown model; a module of your own is named by model.module, with "
                "layer_parameters next to it",
            )
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
            layers = layers_from_parameters(parameters + (section.frozen_parameters or 0))
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


def decoder(section: ModelSection) -> ModelSection:
    """Return the section of a decoder with the dimensions that its ``size`` stands for."""
    size = DECODERS.get(section.size or "")
    if size is None:
        return section
    missing = {key: n for key, n in asdict(size).items() if getattr(section, key) is None}
    return section.model_copy(update=missing)


def _gpt(context: Context, given: ModelSection) -> tuple[tuple[int, ...], str]:
    if given.size is not None and given.size not in DECODERS:
        raise context.refuse(
            "model",
            "size",
            text=f"no decoder of that size; known are {listed(DECODERS, 'and')}"
            f"{did_you_mean(given.size, DECODERS, '')}",
        )
    for key in sorted(DIMENSIONS) if given.size is not None else ():
        if getattr(given, key) is not None:
            raise context.refuse("model", key, text="excludes model.size; give only one of them")
    section = decoder(given)
    for key in _GPT_KEYS:
        if getattr(section, key) is None:
            raise context.refuse(
                "model",
                key,
                text=f'missing; kind = "gpt" needs {listed(_GPT_KEYS, "and")}, or size = "5M"',
            )
    for key in (*_GPT_KEYS, "context"):
        if getattr(given, key) is None and getattr(section, key) is not None:
            context.assume(f"model.{key}", f"{getattr(section, key)} (size {given.size})")
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
