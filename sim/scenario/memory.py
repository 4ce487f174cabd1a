"""From [memory] and a site's memory to what is counted; nothing here decides a time."""

from __future__ import annotations

from dataclasses import replace

from sim.records.memory_keys import MemoryKeys, SiteMemory, convention
from sim.records.scenario import ModelSize
from sim.scenario.context import Context
from sim.scenario.models import decoder
from sim.scenario.presets import memory_sizes

_BYTES = {
    "weights": "weight_bytes",
    "gradients": "gradient_bytes",
    "optimizer": "optimizer_bytes",
    "outer_parameters": "outer_parameter_bytes",
    "outer_momentum": "outer_momentum_bytes",
    "outer_gradients": "outer_gradient_bytes",
    "layer_activations": "layer_activation_bytes",
}


def memory_keys(context: Context, size: ModelSize) -> MemoryKeys:
    """Return how memory is counted."""
    section, model = context.sections.memory, decoder(context.sections.model)
    counted = convention(section.convention or "mixed", size.param_dtype)
    given = {field: getattr(section, key) for field, key in _BYTES.items()}
    counted = replace(counted, **{f: value for f, value in given.items() if value is not None})
    tokens = section.micro_batch_tokens
    return MemoryKeys(
        convention=counted,
        outer_on_host=context.sections.train.outer_state == "host",
        activations=section.activations or "selective",
        micro_batch_tokens=None if tokens is None else float(tokens),
        sequence_tokens=section.sequence_tokens or model.context,
        width=section.residual_width or model.hidden,
        attention_heads=section.attention_heads or model.heads,
        vocabulary=model.vocabulary,
    )


def site_memory(context: Context, index: int, accelerator: str) -> SiteMemory:
    """Return what a site says of its accelerators' memory.

    Parameters
    ----------
    index
        Of the ``[[site]]`` table.
    accelerator
        What its workers run on, by name; "" if nothing was said.
    """
    site = context.sections.site[index]
    sizes = memory_sizes(accelerator) if site.memory is None else (site.memory,)
    return SiteMemory(accelerator, sizes, site.sharding, site.n_grad_accumulation is not None)
