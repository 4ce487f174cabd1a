"""Models and accelerators that are known by name, and what follows from their sizes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache


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
    """Dense peak FLOP/s (no sparsity) in the type that it is trained in, and who says so.

    ``memory`` are the sizes in which it is sold, in GB as the source has them, the smallest first.
    """

    peak: float
    dtype: str
    source: str
    memory: tuple[int, ...] = ()


# Of superchips and racks one GPU, as torch and clouds count them. Memory has several sizes where
# a name is sold with more or less of it: NVIDIA's A100, A800, V100 and GH200 datasheets have two;
# B200 has 180 GB in HGX and DGX (1.44 TB of eight) and 192 GB as announced, B300 and GB300 270 and
# 279 GB usable of 288; H20 was renewed with 141 GB.
ACCELERATORS: dict[str, Accelerator] = {
    "A100": Accelerator(312e12, "bf16", "NVIDIA A100 datasheet", (40, 80)),
    "A800": Accelerator(312e12, "bf16", "NVIDIA A800 datasheet", (40, 80)),
    "A10": Accelerator(125e12, "bf16", "NVIDIA A10 datasheet", (24,)),
    "A30": Accelerator(165e12, "bf16", "NVIDIA A30 datasheet", (24,)),
    "A40": Accelerator(149.7e12, "bf16", "NVIDIA A40 datasheet", (48,)),
    "H100": Accelerator(989e12, "bf16", "NVIDIA H100 datasheet, SXM", (80,)),
    "H100 PCIe": Accelerator(756e12, "bf16", "NVIDIA H100 datasheet, PCIe", (80,)),
    "H100 NVL": Accelerator(835e12, "bf16", "NVIDIA H100 datasheet, NVL", (94,)),
    "H800": Accelerator(989e12, "bf16", "NVIDIA H800 datasheet, SXM", (80,)),
    "H20": Accelerator(148e12, "bf16", "NVIDIA H20 datasheet", (96, 141)),
    "H200": Accelerator(989e12, "bf16", "NVIDIA H200 datasheet, SXM", (141,)),
    "H200 NVL": Accelerator(835e12, "bf16", "NVIDIA H200 datasheet, NVL", (141,)),
    "GH200": Accelerator(989e12, "bf16", "NVIDIA GH200 datasheet", (96, 144)),
    "B200": Accelerator(2250e12, "bf16", "NVIDIA HGX B200 datasheet", (180, 192)),
    "B300": Accelerator(2250e12, "bf16", "NVIDIA HGX B300 datasheet", (270, 288)),
    "GB200": Accelerator(2500e12, "bf16", "NVIDIA GB200 NVL72 datasheet, one of 72", (186,)),
    "GB300": Accelerator(2500e12, "bf16", "NVIDIA GB300 NVL72 datasheet, one of 72", (279, 288)),
    "V100": Accelerator(125e12, "fp16", "NVIDIA V100 datasheet, SXM2", (16, 32)),
    "T4": Accelerator(65e12, "fp16", "NVIDIA T4 datasheet", (16,)),
    "L4": Accelerator(121e12, "bf16", "NVIDIA L4 datasheet", (24,)),
    "L40": Accelerator(181e12, "bf16", "NVIDIA L40 datasheet", (48,)),
    "L40S": Accelerator(362e12, "bf16", "NVIDIA L40S datasheet", (48,)),
    "RTX A6000": Accelerator(154.8e12, "bf16", "NVIDIA GA102 architecture whitepaper", (48,)),
    "RTX 6000 Ada": Accelerator(364.2e12, "bf16", "NVIDIA Ada architecture whitepaper", (48,)),
    "RTX 3090": Accelerator(71e12, "bf16", "NVIDIA GA102 architecture whitepaper", (24,)),
    "RTX 4090": Accelerator(165.2e12, "bf16", "NVIDIA Ada architecture whitepaper", (24,)),
    "RTX 5090": Accelerator(209.5e12, "bf16", "NVIDIA RTX Blackwell whitepaper", (32,)),
    "MI250X": Accelerator(383e12, "bf16", "AMD Instinct MI250X datasheet", (128,)),
    "MI300X": Accelerator(1307.4e12, "bf16", "AMD Instinct MI300X datasheet", (192,)),
    "MI325X": Accelerator(1307.4e12, "bf16", "AMD Instinct MI325X datasheet", (256,)),
    "MI355X": Accelerator(2516.6e12, "bf16", "AMD Instinct MI355X datasheet", (288,)),
    "TPU v4": Accelerator(275e12, "bf16", "Google Cloud TPU v4 documentation", (32,)),
    "TPU v5e": Accelerator(197e12, "bf16", "Google Cloud TPU v5e documentation", (16,)),
    "TPU v5p": Accelerator(459e12, "bf16", "Google Cloud TPU v5p documentation", (95,)),
    "TPU v6e": Accelerator(918e12, "bf16", "Google Cloud TPU v6e (Trillium) documentation", (32,)),
    "TPU v7": Accelerator(2307e12, "bf16", "Google Cloud TPU7x (Ironwood) documentation", (192,)),
}

_OTHER_NAMES = {
    "a100pcie": "A100",
    "gb200nvl72": "GB200",
    "gb300nvl72": "GB300",
    "a6000": "RTX A6000",
    "6000ada": "RTX 6000 Ada",
    "rtx6000adageneration": "RTX 6000 Ada",
    "3090": "RTX 3090",
    "4090": "RTX 4090",
    "5090": "RTX 5090",
    "trillium": "TPU v6e",
    "ironwood": "TPU v7",
    "tpu7x": "TPU v7",
    "tpuv5lite": "TPU v5e",
    "tpuv5litepod": "TPU v5e",
    "v5lite": "TPU v5e",
    "v5litepod": "TPU v5e",
    "v4": "TPU v4",
    "v5e": "TPU v5e",
    "v5p": "TPU v5p",
    "v6e": "TPU v6e",
}
_VENDORS = frozenset(
    ["nvidia", "amd", "google", "cloud", "tesla", "geforce", "instinct", "gpu", "graphics"]
)
# What says nothing about the peak: a card's form where only one of its forms is known, memory.
_NEUTRAL = re.compile(r"(sxm\d?|oam|hbm\de?|\d{2,3}gb)*")


@lru_cache(maxsize=1024)  # thousands of sites may have the same
def accelerator(name: str) -> Accelerator | None:
    """Return an accelerator by its name, written in any case, with or without spaces.

    Memory ("80GB", "HBM3") and the forms SXM and OAM may follow; a card of another peak, as
    laptops have, is not known.

    Examples
    --------
    >>> accelerator("tpu-v5e").peak, accelerator("rtx4090").peak, accelerator("H1000")
    (197000000000000.0, 165200000000000.0, None)
    >>> accelerator("NVIDIA A100-SXM4-80GB").peak, accelerator("NVIDIA GeForce RTX 4090 Laptop GPU")
    (312000000000000.0, None)
    """
    plain = _without_vendor(name)
    known = {_plain(key): value for key, value in ACCELERATORS.items()}
    known |= {key: ACCELERATORS[value] for key, value in _OTHER_NAMES.items()}
    for key in sorted(known, key=len, reverse=True):  # A100 before A10
        if plain.startswith(key) and _NEUTRAL.fullmatch(plain[len(key) :]):
            return known[key]
    return None


_MEMORY = re.compile(r"(?<![a-z0-9])(?:hbm\de?)?(\d{2,3})gb", re.IGNORECASE)


def memory_sizes(name: str) -> tuple[float, ...]:
    """Return the bytes of memory that an accelerator of this name may have, ascending.

    One size where the name says it ("A100-SXM4-80GB") or there is only one; none if it is not
    known. GB are taken as 1e9 bytes: chips that hold GiB leave the difference to the context of
    the driver and to fragmentation.

    Examples
    --------
    >>> memory_sizes("A100"), memory_sizes("NVIDIA A100-SXM4-80GB"), memory_sizes("abacus")
    ((40000000000.0, 80000000000.0), (80000000000.0,), ())
    """
    known = accelerator(name)
    if known is None:
        return ()
    written = _MEMORY.search(name)
    sizes = (int(written[1]),) if written else known.memory
    return tuple(1e9 * size for size in sizes)


def _without_vendor(name: str) -> str:
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word not in _VENDORS]
    return "".join(words).removeprefix("nvidia").removeprefix("amd")


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def step_seconds_from_flops(
    flops: float, batch_tokens: float, accelerators: int, peak: float, mfu: float
) -> float:
    """Return the seconds of one inner step: its floating-point operations at a share of peak.

    T = operations per token x tokens / (accelerators x peak x mfu)

    Parameters
    ----------
    flops
        Of one token, :func:`sim.records.flops.flops_per_token`.
    batch_tokens
        Tokens of one inner step.
    accelerators, peak, mfu
        How many, FLOP/s of each, and the part of it that training reaches.

    Examples
    --------
    >>> round(step_seconds_from_flops(6 * 10e9, 2**20, 64, 989e12, 0.40), 3)
    2.485
    """
    return flops * batch_tokens / (accelerators * peak * mfu)


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


def gpt_tensors(
    *, hidden: int, layers: int, vocabulary: int, feed_forward: int
) -> tuple[tuple[int, ...], ...]:
    """Return the elements of each tensor of each layer of a decoder, in the order of its buffers.

    Per layer a norm, query, key and value as one matrix, the attention's output, a norm, gate and
    up as one matrix, and down; the embedding comes before those of the first layer, the final norm
    after those of the last.

    Examples
    --------
    >>> [sum(layer) for layer in gpt_tensors(hidden=64, layers=2, vocabulary=100, feed_forward=192)]
    [59776, 53440]
    """
    h, f = hidden, feed_forward
    found = [[h, 3 * h * h, h * h, h, 2 * h * f, h * f] for _ in range(layers)]
    found[0].insert(0, vocabulary * h)
    found[-1].append(h)
    return tuple(map(tuple, found))


def usual_tensors(parameters: int) -> tuple[int, ...]:
    """Return the elements of each tensor of a layer of which only the size is known.

    A norm, query, key, value and output, a norm, up and down: 12 h^2 + 2 h for the width h (Kaplan
    et al. 2020, arXiv:2001.08361); what rounding leaves is down's.

    Examples
    --------
    >>> usual_tensors(12 * 64**2 + 2 * 64)
    (64, 4096, 4096, 4096, 4096, 64, 16384, 16384)
    """
    width = math.isqrt(1 + 12 * parameters) // 12
    if width == 0:
        return (parameters,)
    square = width * width
    tensors = (width, square, square, square, square, width, 4 * square)
    return (*tensors, parameters - sum(tensors))


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
