"""What a scenario says of memory: frozen records, in bytes. No time depends on them."""

from __future__ import annotations

from dataclasses import dataclass

SHARDINGS = ("none", "zero1", "zero2", "zero3")
"""What a worker's accelerators share out among them: each as the one before, and more."""


@dataclass(frozen=True)
class Convention:
    """Bytes per parameter of each kind of state, and what else the count rests on."""

    name: str
    weights: float
    gradients: float
    #: Adam's moments, and a master copy where there is one.
    optimizer: float
    outer_parameters: float
    outer_momentum: float
    #: Of each outer gradient that is in flight.
    outer_gradients: float
    #: Of a layer's activations, per token and unit of width.
    layer_activations: float = 34.0
    #: Whether buffers that are never needed at the same time share their memory.
    sharing: bool = True
    #: Whether a copy of the parameters is kept by every method, used or not.
    outer_always: bool = False


def convention(name: str, param_dtype: str) -> Convention:
    """Return a convention by its name.

    Parameters
    ----------
    name
        mixed, streaming_diloco or realrun.
    param_dtype
        Type of the parameters: bf16, fp16 or fp32.

    Notes
    -----
    mixed: with 16-bit parameters 2 + 2 + 12 (fp32 master copy, two fp32 moments), as in
    Rajbhandari et al. 2020, "ZeRO", arXiv:1910.02054, and Nabli et al. 2024, "ACCO",
    arXiv:2406.02613, Table 1, where outer state has 16 bits, too. streaming_diloco: weights and
    moments, 12 bytes, as Douillard et al. 2025, arXiv:2501.18512, count them. A layer's activations
    are those of a GPT (Korthikanti et al. 2022, arXiv:2205.05198); realrun's are counted from the
    tensors that its decoder saves for the backward pass where matrices are multiplied in bf16.

    Examples
    --------
    >>> found = convention("mixed", "bf16")
    >>> found.weights + found.gradients + found.optimizer
    16.0
    """
    if name == "streaming_diloco":
        return Convention(name, 4.0, 0.0, 8.0, 4.0, 4.0, 0.0)
    if name == "realrun":
        return Convention(
            name, 4.0, 4.0, 8.0, 4.0, 4.0, 4.0, 57.0, sharing=False, outer_always=True
        )
    narrow = param_dtype != "fp32"
    own = 2.0 if narrow else 4.0
    return Convention(name, own, own, 12.0 if narrow else 8.0, own, own, own)


MIXED = convention("mixed", "bf16")
"""What a scenario in bf16 is counted with that says nothing."""


@dataclass(frozen=True)
class MemoryKeys:
    """How memory is counted, for all sites."""

    convention: Convention = MIXED
    #: Whether outer parameters and momentum are in the host's memory between two uses.
    outer_on_host: bool = False
    #: stored, selective, recomputed or none.
    activations: str = "selective"
    #: Tokens of a micro-batch on one accelerator; None if nobody said.
    micro_batch_tokens: float | None = None
    sequence_tokens: int | None = None
    width: int | None = None
    attention_heads: int | None = None
    vocabulary: int | None = None


@dataclass(frozen=True)
class SiteMemory:
    """One accelerator of a site."""

    #: What it is called in the scenario; "" if nothing is said.
    accelerator: str = ""
    #: Bytes that it may have, ascending: several where the name leaves it open, none if unknown.
    sizes: tuple[float, ...] = ()
    #: What a worker's accelerators share out, one of :data:`SHARDINGS`; None is what is needed.
    sharding: str | None = None
    #: Whether the scenario gives the number of micro-batches of a step.
    micro_batches_given: bool = False
