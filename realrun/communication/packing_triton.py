"""The kernels of :mod:`realrun.communication.packing` for CUDA, with the same bits as on a CPU.

Imported where a CUDA tensor is quantized, and only there: Triton is not installed everywhere.
One pass over memory each: packing reads the values once and writes the wire, reading sums any
number of wires in registers. What must round as on a CPU says so (``div_rn``, bits of floats);
products of a level and a scale are exact, so it does not matter whether they are fused.
Triton reads the annotations of a kernel's parameters, so they bear none but ``constexpr``.
"""

from __future__ import annotations

import triton  # type: ignore[import-not-found, unused-ignore]
import triton.language as tl  # type: ignore[import-not-found, unused-ignore]
from torch import Tensor

_TILE = 4096  # values per program


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _pack_kernel(  # type: ignore[no-untyped-def]
    values,
    scales,
    codes,
    elements,
    BLOCK: tl.constexpr,  # noqa: N803
    FP4: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
):
    """Rows are blocks; columns their values, as many as the next power of two."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    at = row[:, None] * BLOCK + column[None, :]
    inside = (column[None, :] < BLOCK) & (at < elements)
    value = tl.load(values + at, mask=inside, other=0.0).to(tl.float32)
    signed = value.to(tl.int32, bitcast=True)
    bits = signed & 0x7FFFFFFF
    # Integers, because a maximum of floats passes over NaN.
    top = tl.max(bits, axis=1)
    finite = top < 0x7F000000
    if not FP4:
        peak = top.to(tl.float32, bitcast=True)
        peak = tl.math.div_rn(peak, tl.full([ROWS], 127.0, tl.float32))
        top = peak.to(tl.int32, bitcast=True)
    # To bf16: to nearest, ties to even; from 2**127 on NaN; below 2**-100 (exponent 27) zero.
    scale = (top + 0x7FFF + ((top >> 16) & 1)) >> 16
    scale = tl.where(finite, scale, 0x7FC0)
    scale = tl.where(scale < (27 << 7), 0, scale)
    wire = scales + 2 * row
    present = row * BLOCK < elements
    tl.store(wire, (scale & 0xFF).to(tl.uint8), mask=present)
    tl.store(wire + 1, (scale >> 8).to(tl.uint8), mask=present)
    usable = finite & (scale > 0)
    reach = tl.where(usable, scale << 16, 0x7F800000).to(tl.float32, bitcast=True)[:, None]
    if FP4:
        level = (bits - (reach * 0.01171875).to(tl.int32, bitcast=True)) >> 23
        lowest = (bits - (reach * 0.0078125).to(tl.int32, bitcast=True)) >> 31
        nibble = (tl.maximum(level, lowest) + 1) | ((signed >> 28) & 8)
        low, high = tl.split(tl.reshape(nibble, (ROWS, COLUMNS // 2, 2)))
        pair = tl.arange(0, COLUMNS // 2)[None, :]
        byte = row[:, None] * (BLOCK // 2) + pair
        inside = (2 * pair < BLOCK) & (2 * byte < elements)
        tl.store(codes + byte, (low | (high << 4)).to(tl.uint8), mask=inside)
    else:
        # Adding 1.5 * 2**23 rounds to an integer, ties to even, and leaves it in the low bits.
        unit = tl.math.div_rn(value, tl.broadcast_to(reach, (ROWS, COLUMNS))) + 12582912.0
        code = unit.to(tl.int32, bitcast=True) & 0xFF
        tl.store(codes + at, code.to(tl.uint8), mask=inside)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _level(nibble):  # type: ignore[no-untyped-def]
    """Value of an fp4 code before scaling."""
    code = nibble & 7
    bits = tl.where(code == 0, 0, (code + 120) << 23) | ((nibble & 8) << 28)
    return bits.to(tl.float32, bitcast=True)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _sum_kernel(  # type: ignore[no-untyped-def]
    out,
    wires,
    elements,
    scale_bytes,
    wire_stride,
    parts,
    divisor,
    BLOCK: tl.constexpr,  # noqa: N803
    FP4: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
):
    """Rows are blocks; columns their values, as many as the next power of two."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    at = row[:, None] * BLOCK + column[None, :]
    inside = (column[None, :] < BLOCK) & (at < elements)
    present = row * BLOCK < elements
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    wire = wires
    for part in range(parts):
        low_byte = tl.load(wire + 2 * row, mask=present, other=0).to(tl.int32)
        high_byte = tl.load(wire + 2 * row + 1, mask=present, other=0).to(tl.int32)
        scale = ((low_byte << 16) | (high_byte << 24)).to(tl.float32, bitcast=True)[:, None]
        codes = wire + scale_bytes
        if FP4:
            pair = tl.arange(0, COLUMNS // 2)[None, :]
            byte_at = row[:, None] * (BLOCK // 2) + pair
            there = (2 * pair < BLOCK) & (2 * byte_at < elements)
            byte = tl.load(codes + byte_at, mask=there, other=0).to(tl.int32)
            value = tl.reshape(tl.join(_level(byte & 15), _level(byte >> 4)), (ROWS, COLUMNS))
        else:
            byte = tl.load(codes + at, mask=inside, other=0)
            value = byte.to(tl.int8, bitcast=True).to(tl.float32)
        value = value * scale
        # Not 0 + value: the first wire's minus zero stays one, as on a CPU.
        total = tl.where(part == 0, value, total + value)
        wire += wire_stride
    total = tl.math.div_rn(total, tl.zeros((ROWS, COLUMNS), tl.float32) + divisor)
    tl.store(out + at, total.to(out.dtype.element_ty), mask=inside)


def _shape(elements: int, block: int) -> tuple[tuple[int], int, int]:
    """Grid, blocks per program, and the power of two that holds a block."""
    columns = max(2, triton.next_power_of_2(block))
    if columns > 1 << 16:
        raise NotImplementedError(f"quantize_block = {block}: at most 65536 on a GPU")
    rows = max(1, _TILE // columns)
    return (triton.cdiv(elements, rows * block),), rows, columns


def pack(wire: Tensor, values: Tensor, dtype: str, block: int) -> None:
    """Quantize ``values`` [n] into ``wire``."""
    if not len(values):
        return
    grid, rows, columns = _shape(len(values), block)
    edge = 2 * -(-len(values) // block)
    _pack_kernel[grid](
        values,
        wire[:edge],
        wire[edge:],
        len(values),
        BLOCK=block,
        FP4=dtype == "fp4",
        ROWS=rows,
        COLUMNS=columns,
    )


def sum_of(out: Tensor, wires: Tensor, dtype: str, block: int, divisor: int) -> None:
    """Write the sum of ``wires`` [parts, bytes], in this order, over ``divisor`` to ``out`` [n]."""
    if not len(out):
        return
    grid, rows, columns = _shape(len(out), block)
    _sum_kernel[grid](
        out,
        wires,
        len(out),
        2 * -(-len(out) // block),
        wires.stride(0),
        len(wires),
        float(divisor),
        BLOCK=block,
        FP4=dtype == "fp4",
        ROWS=rows,
        COLUMNS=columns,
    )
