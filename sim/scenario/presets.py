"""Models and accelerators that are known by name, and what follows from their sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A model size with its depth and the seconds of one inner step."""

    parameters: int
    layers: int
    step_seconds: float


# Douillard et al. 2025, arXiv:2501.18512, Table 4.
MODELS: dict[str, Preset] = {
    "1B": Preset(10**9, 24, 0.1),
    "10B": Preset(10**10, 48, 0.8),
    "100B": Preset(10**11, 108, 4.9),
}


@dataclass(frozen=True)
class Accelerator:
    """Dense peak FLOP/s (no sparsity) in the type that it is trained in, and who says so."""

    peak: float
    dtype: str
    source: str


ACCELERATORS: dict[str, Accelerator] = {
    "A100": Accelerator(312e12, "bf16", "NVIDIA A100 datasheet"),
    "H100": Accelerator(989e12, "bf16", "NVIDIA H100 datasheet, SXM"),
    "H200": Accelerator(989e12, "bf16", "NVIDIA H200 datasheet, SXM"),
    "B200": Accelerator(2250e12, "bf16", "NVIDIA HGX B200 datasheet"),
    "V100": Accelerator(125e12, "fp16", "NVIDIA V100 datasheet, SXM2"),
    "T4": Accelerator(65e12, "fp16", "NVIDIA T4 datasheet"),
    "L4": Accelerator(121e12, "bf16", "NVIDIA L4 datasheet"),
    "L40S": Accelerator(362e12, "bf16", "NVIDIA L40S datasheet"),
    "RTX 4090": Accelerator(165.2e12, "bf16", "NVIDIA Ada architecture whitepaper"),
    "RTX 3090": Accelerator(71e12, "bf16", "NVIDIA GA102 architecture whitepaper"),
    "MI300X": Accelerator(1307.4e12, "bf16", "AMD Instinct MI300X datasheet"),
    "TPU v4": Accelerator(275e12, "bf16", "Google Cloud TPU v4 documentation"),
    "TPU v5e": Accelerator(197e12, "bf16", "Google Cloud TPU v5e documentation"),
    "TPU v5p": Accelerator(459e12, "bf16", "Google Cloud TPU v5p documentation"),
    "TPU v6e": Accelerator(918e12, "bf16", "Google Cloud TPU v6e (Trillium) documentation"),
}

_OTHER_NAMES = {
    "trillium": "TPU v6e",
    "v4": "TPU v4",
    "v5e": "TPU v5e",
    "v5p": "TPU v5p",
    "v6e": "TPU v6e",
    "4090": "RTX 4090",
    "3090": "RTX 3090",
    "h100sxm": "H100",
}


def accelerator(name: str) -> Accelerator | None:
    """Return an accelerator by its name, written in any case, with or without spaces.

    Examples
    --------
    >>> accelerator("tpu-v5e").peak, accelerator("rtx4090").peak, accelerator("H1000")
    (197000000000000.0, 165200000000000.0, None)
    """
    plain = _plain(name)
    known = {_plain(key): value for key, value in ACCELERATORS.items()}
    known |= {key: ACCELERATORS[value] for key, value in _OTHER_NAMES.items()}
    return known.get(plain) or known.get(plain.removeprefix("nvidia").removeprefix("amd"))


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def training_flops_per_token(active_parameters: float) -> float:
    """Return the floating-point operations that training takes for one token: 6 N.

    Parameters
    ----------
    active_parameters
        N, parameters that one token computes with.

    Notes
    -----
    Kaplan et al. 2020, arXiv:2001.08361: 2 N per token forward, 4 N backward. Attention over
    the context is left out, as there.
    """
    return 6 * active_parameters


def step_seconds_from_flops(
    active_parameters: float, batch_tokens: float, accelerators: int, peak: float, mfu: float
) -> float:
    """Return the seconds of one inner step: 6 N D floating-point operations at a share of peak.

    T = 6 N_active tokens / (accelerators x peak x mfu)

    Parameters
    ----------
    active_parameters
        Parameters that one token computes with.
    batch_tokens
        Tokens of one inner step.
    accelerators, peak, mfu
        How many, FLOP/s of each, and the part of it that training reaches.

    Examples
    --------
    >>> round(step_seconds_from_flops(10e9, 2**20, 64, 989e12, 0.40), 3)
    2.485
    """
    flops = training_flops_per_token(active_parameters) * batch_tokens
    return flops / (accelerators * peak * mfu)


def layers_from_parameters(parameters: int) -> int:
    """Return a plausible depth for a model of which only the size is known.

    N = 12 L h^2 (Kaplan et al. 2020, arXiv:2001.08361) with the width h = 128 L, the shape
    of a 7B Llama.

    Examples
    --------
    >>> layers_from_parameters(7 * 10**9), layers_from_parameters(1000)
    (33, 1)
    """
    width = 128.0  # of one layer of depth
    return max(1, round(math.cbrt(parameters / (12 * width**2))))


@dataclass(frozen=True)
class Decoder:
    """Dimensions of a decoder, under the names that ``[model]`` has for them."""

    hidden: int
    layers: int
    heads: int
    vocabulary: int = 256
    context: int = 1024


# Small ones read bytes, so that they can be trained on text that is always there; from 50M on
# they have a vocabulary of 32 Ki tokens.
DECODERS: dict[str, Decoder] = {
    "1M": Decoder(hidden=128, layers=5, heads=4, context=128),
    "2M": Decoder(hidden=192, layers=4, heads=6, context=256),
    "5M": Decoder(hidden=256, layers=6, heads=8, context=256),
    "10M": Decoder(hidden=320, layers=8, heads=5, context=512),
    "20M": Decoder(hidden=448, layers=8, heads=7, context=512),
    "50M": Decoder(hidden=512, layers=10, heads=8, vocabulary=32768),
    "100M": Decoder(hidden=704, layers=13, heads=11, vocabulary=32768),
    "200M": Decoder(hidden=960, layers=15, heads=15, vocabulary=32768),
    "500M": Decoder(hidden=1344, layers=21, heads=21, vocabulary=32768, context=2048),
    "1B": Decoder(hidden=1792, layers=24, heads=14, vocabulary=32768, context=2048),
    "2B": Decoder(hidden=2304, layers=30, heads=18, vocabulary=32768, context=2048),
    "5B": Decoder(hidden=3328, layers=36, heads=26, vocabulary=32768, context=2048),
    "7B": Decoder(hidden=4096, layers=34, heads=32, vocabulary=32768, context=4096),
    "10B": Decoder(hidden=4608, layers=39, heads=36, vocabulary=32768, context=4096),
}
"""Decoders by their size: ``[model] kind = "gpt"``, ``size``."""


def gpt_layers(*, hidden: int, layers: int, vocabulary: int, feed_forward: int) -> tuple[int, ...]:
    """Return the parameters of each layer of a decoder.

    Per layer 4 h^2 (attention) + 3 h f (SwiGLU) + 2 h (two RMSNorms), without biases; the
    embedding (tied to the output) comes with the first layer, the final norm with the last.

    Examples
    --------
    >>> gpt_layers(hidden=64, layers=2, vocabulary=100, feed_forward=192)
    (59776, 53440)
    """
    one = 4 * hidden**2 + 3 * hidden * feed_forward + 2 * hidden
    sizes = [one] * layers
    sizes[0] += vocabulary * hidden
    sizes[-1] += hidden
    return tuple(sizes)


def swiglu_width(hidden: int) -> int:
    """Return 8/3 of the width, rounded up to a multiple of 64.

    Examples
    --------
    >>> swiglu_width(64), swiglu_width(4096)
    (192, 10944)
    """
    return -(-8 * hidden // (3 * 64)) * 64
