"""FP4 and int8 as bytes: what a quantized number is, and how it is packed.

One block of values shares one scale, a bf16 number that travels with it. Everything is
stated for the values rounded to fp32, and every product below is exact in fp32, so the same
bits come out on any device, in any thread and in numpy (:mod:`sim.models.rounding`).

fp4
    E3M0: one sign bit, three exponent bits, bias 7, no mantissa. ``scale`` is the largest
    magnitude of the block. Code c = 1..7 stands for 2**(c - 7) * scale, code 0 for zero, and
    bit 3 is the sign (code 8, minus zero, equals zero). A value goes to the nearest of
    these; half-way it goes away from zero. Two values make a byte, the first one low.
int8
    ``scale`` is the largest magnitude / 127. Code c = -127..127 stands for c * scale; a value
    goes to rint(value / scale), half-way to even.

Two rules for both: a block whose scale is below 2**-100 is zero (no result depends on how a
device treats subnormal numbers), and a block that holds a NaN, an infinity or a magnitude of
2**127 or more arrives as NaN. It is not an error here, because the one worker that saw it
would leave the others waiting; the NaN shows in the loss everywhere.

On a CPU this is vectorised torch, which shares the caller's threads (``torch.set_num_threads``);
on CUDA it is :mod:`realrun.communication.packing_triton`.

A *wire* is a uint8 tensor: the scales (2 bytes per block), then the codes.
"""

from __future__ import annotations

import importlib
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from sim.program import QUANTIZED, wire_bytes

_LEAST_SCALE = 2.0**-100
_TOO_LARGE = 2.0**127
_CHUNK = 1 << 18  # values worked on at once: temporaries are a few MiB and stay in the cache


def _pairs_of_levels() -> Tensor:
    """For every byte its two fp4 values before scaling, as the bits of one int64. Shape [256]."""
    levels = [0.0] + [2.0 ** (code - 7) for code in range(1, 8)]
    signed = torch.tensor(levels + [-level for level in levels])
    pairs = torch.stack([signed.repeat(16), signed.repeat_interleave(16)], dim=1)
    return pairs.view(torch.int64).view(-1)


_PAIRS = _pairs_of_levels()


def packed_bytes(elements: int, dtype: str, block: int = 256) -> int:
    """Length of a wire: :func:`sim.program.wire_bytes`, rounded up to a whole byte.

    Examples
    --------
    >>> packed_bytes(512, "fp4"), packed_bytes(513, "fp4"), packed_bytes(512, "int8")
    (260, 263, 516)
    """
    check(dtype, block)
    return int(-(-wire_bytes(elements, dtype, block) // 1))


def check(dtype: str, block: int) -> None:
    """Refuse an unknown dtype and a block that cannot be sent."""
    if dtype not in QUANTIZED:
        raise ValueError(f"dtype {dtype!r} is not quantized; expected one of {QUANTIZED}")
    if block < 1:
        raise ValueError(
            f"quantize_block = {block} sends no scales, so nobody could read the numbers: "
            "for a real run give the values per scale, for example 256"
        )
    if dtype == "fp4" and block % 2:
        raise ValueError(
            f"quantize_block = {block}: fp4 packs two values to a byte, so a block must hold "
            "an even number of them"
        )


def _kernels(device: torch.device) -> Any:
    """The Triton kernels for a CUDA device, None for a CPU.

    Raises
    ------
    NotImplementedError
        For any other device, and for CUDA without Triton.
    """
    if device.type == "cpu":
        return None
    if device.type != "cuda":
        raise NotImplementedError(f"int8 and fp4 run on cpu and cuda, not on {device.type}")
    try:
        return importlib.import_module("realrun.communication.packing_triton")
    except ImportError as error:
        raise NotImplementedError(
            f"int8 and fp4 on {device} need Triton, which cannot be imported here: {error}"
        ) from error


def on_device(device: torch.device) -> Any:
    """Make a CUDA device the thread's current one: kernels are launched there."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def pack(values: Tensor, dtype: str, block: int = 256) -> Tensor:
    """Quantize values.

    Parameters
    ----------
    values
        Shape [n], floating point, contiguous, on a CPU or a CUDA device.
    dtype
        int8 or fp4.
    block
        Values per scale; the last block may be shorter.

    Returns
    -------
    Tensor
        The wire: uint8, shape [packed_bytes(n, dtype, block)].

    Raises
    ------
    ValueError
        Unknown dtype, impossible block, values of another shape or kind.
    NotImplementedError
        A device without an implementation.

    Examples
    --------
    >>> wire = pack(torch.tensor([1.0, 0.3, -0.01, 0.0]), "fp4")
    >>> wire.tolist(), unpack(wire, 4, "fp4").tolist()
    ([128, 63, 87, 9], [1.0, 0.25, -0.015625, 0.0])
    """
    check_values(values)
    wire = values.new_empty(packed_bytes(len(values), dtype, block), dtype=torch.uint8)
    pack_into(wire, values, dtype, block)
    return wire


def check_values(values: Tensor) -> None:
    """Refuse tensors that are not flat, contiguous and floating."""
    if values.dim() != 1 or not values.is_floating_point() or not values.is_contiguous():
        raise ValueError(
            "expected a contiguous tensor of floating-point numbers with one axis, got "
            f"shape {list(values.shape)}, stride {values.stride()}, {values.dtype}"
        )


def pack_into(wire: Tensor, values: Tensor, dtype: str, block: int) -> None:
    """As :func:`pack`, into a wire that is there."""
    kernels = _kernels(values.device)
    values = values.detach()
    if kernels is not None:
        kernels.pack(wire, values, dtype, block)
        return
    scales, codes = _parts(wire, len(values), block)
    encode = _encode_fp4 if dtype == "fp4" else _encode_int8
    rows = max(1, _CHUNK // block)
    for first in range(0, len(values), rows * block):
        chunk = values[first : first + rows * block].to(torch.float32)
        short = -len(chunk) % block
        if short:
            chunk = torch.nn.functional.pad(chunk, (0, short))
        scale, code = encode(chunk.view(-1, block))
        at = 2 * (first // block)
        scales[at : at + 2 * len(scale)] = scale.view(torch.uint8)
        at = first // 2 if dtype == "fp4" else first
        room = codes[at : at + len(code)]
        room.copy_(code[: len(room)])


def _parts(wire: Tensor, elements: int, block: int) -> tuple[Tensor, Tensor]:
    """Scales and codes of wires, shape [..., bytes] each, as bytes."""
    edge = 2 * -(-elements // block)
    return wire[..., :edge], wire[..., edge:]


def _scales(peak: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Scales as sent (bf16) and as divisors (fp32: infinite where the block is zero or NaN)."""
    scale = (peak / steps).to(torch.bfloat16)
    scale.masked_fill_(~(peak < _TOO_LARGE), torch.nan)
    scale.masked_fill_(scale < _LEAST_SCALE, 0.0)
    divisor = scale.to(torch.float32)
    return scale, divisor.masked_fill_(~(divisor > 0), torch.inf)[:, None]


def _encode_int8(values: Tensor) -> tuple[Tensor, Tensor]:
    """Scales and codes of fp32 values, shape [blocks, block]."""
    scale, divisor = _scales(values.abs().amax(dim=1), steps=127)
    return scale, (values / divisor).round_().to(torch.int8).view(torch.uint8).view(-1)


def _encode_fp4(values: Tensor) -> tuple[Tensor, Tensor]:
    """Scales and packed codes of fp32 values, shape [blocks, block].

    Positive floats are ordered as their bits are, and (bits(a) - bits(b)) >> 23 is
    floor(log2(a / b)) rounded by nothing. Level 2**k takes the magnitudes from 0.75 * 2**k
    on, so with b = 0.75 * 2**-6 this is the level's code less one; the lowest level starts
    at 2**-7 instead, half-way from zero.
    """
    magnitude = values.abs()
    scale, reach = _scales(magnitude.amax(dim=1), steps=1)
    bits = magnitude.view(torch.int32)
    codes = bits - (reach * (0.75 * 2.0**-6)).view(torch.int32)
    codes >>= 23
    bits -= (reach * 2.0**-7).view(torch.int32)
    bits >>= 31  # -1 below the lowest level, else 0
    torch.maximum(codes, bits, out=codes)
    signs = torch.bitwise_right_shift(values.view(torch.int32), 28, out=bits)
    nibbles = codes.to(torch.int8).add_(1)
    nibbles |= signs.to(torch.int8) & 8
    pairs = nibbles.view(torch.int16).view(-1)
    return scale, (pairs | (pairs >> 4)).to(torch.uint8)


def unpack(wire: Tensor, elements: int, dtype: str, block: int = 256) -> Tensor:
    """Read what :func:`pack` wrote.

    Parameters
    ----------
    wire
        uint8, shape [packed_bytes(elements, dtype, block)].
    elements, dtype, block
        As given to :func:`pack`.

    Returns
    -------
    Tensor
        fp32, shape [elements].

    Raises
    ------
    ValueError
        A wire of another length.
    """
    expected = packed_bytes(elements, dtype, block)
    if wire.dtype != torch.uint8 or list(wire.shape) != [expected]:
        raise ValueError(
            f"{elements} values of {dtype} with quantize_block = {block} are {expected} bytes, "
            f"got shape {list(wire.shape)} of {wire.dtype}"
        )
    out = wire.new_empty(elements, dtype=torch.float32)
    sum_into(out, wire[None], dtype, block)
    return out


def sum_into(out: Tensor, wires: Tensor, dtype: str, block: int, divisor: int = 1) -> None:
    """Sum of several wires in the order given, in FP32, over ``divisor``.

    ``out`` has shape [n] and any floating dtype, ``wires`` shape [parts, bytes].
    """
    kernels = _kernels(wires.device)
    if kernels is not None:
        kernels.sum_of(out, wires, dtype, block, divisor)
        return
    scales, codes = _parts(wires, len(out), block)
    # Copied, because a wire may begin at an odd byte, where no bf16 can be read.
    sent = torch.empty(len(wires), -(-len(out) // block), dtype=torch.bfloat16)
    sent.view(torch.uint8).copy_(scales)
    scale = sent.to(torch.float32)
    decode = _decode_fp4 if dtype == "fp4" else _decode_int8
    rows = max(1, _CHUNK // block)
    for first in range(0, len(out), rows * block):
        place = out[first : first + rows * block]
        blocks = -(-len(place) // block)
        at, to = first, first + len(place)
        if dtype == "fp4":
            at, to = at // 2, -(-to // 2)
        total: Tensor | None = None
        for part in range(len(wires)):
            factor = scale[part, first // block : first // block + blocks]
            values = decode(codes[part, at:to], factor, block)
            total = values if total is None else total.add_(values)
        assert total is not None
        if divisor != 1:
            total /= divisor
        place.copy_(total[: len(place)])


def _decode_int8(codes: Tensor, scale: Tensor, block: int) -> Tensor:
    values = codes.view(torch.int8).to(torch.float32)
    return _scaled(values, scale, block)


def _decode_fp4(codes: Tensor, scale: Tensor, block: int) -> Tensor:
    pairs = torch.index_select(_PAIRS, 0, codes.to(torch.int32))
    return _scaled(pairs.view(torch.float32), scale, block)


def _scaled(values: Tensor, scale: Tensor, block: int) -> Tensor:
    whole = len(values) // block * block
    values[:whole].view(-1, block).mul_(scale[: whole // block, None])
    if whole < len(values):
        values[whole:] *= scale[-1]
    return values
