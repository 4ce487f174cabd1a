"""What arrives of a number that travels in a narrower type: the reference for both runtimes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim.program import DTYPE_BITS, QUANTIZED

Floats = NDArray[np.float64]

_FP4_LEVELS = 2.0 ** np.arange(-6, 1)  # E3M0: codes 1..7; code 0 is zero
_LEAST_SCALE = 2.0**-100  # below it a block is zero: nothing here is subnormal
_TOO_LARGE = 2.0**127  # from here on a block is NaN: nothing overflows


def carried(values: Floats, dtype: str, quantize_block: int = 256) -> Floats:
    """Round ``values`` to what their dtype can carry.

    Parameters
    ----------
    values
        Shape [n].
    dtype
        fp32, bf16, fp16: to nearest, ties to even. int8 and fp4 start from fp32. int8: -127 to
        127 times the scale, which is each block's largest magnitude / 127; a value over the
        scale is rounded to fp32, then to an integer, ties to even. fp4: E3M0, that is zero and
        plus or minus 2^-6 .. 2^0 of the scale, which is each block's largest magnitude, to the
        nearest of them (ties away from zero). Bytes per element: as fp32, since a number says
        nothing of what its compressor leaves out.
    quantize_block
        Values per scale; scales are bf16. 0: one scale for all. A block whose scale is below
        2^-100 is zero; one with a NaN or a magnitude of 2^127 or more arrives as NaN.

    Examples
    --------
    >>> carried(np.array([1.0, 0.3, -0.01, 0.0]), "fp4").tolist()
    [1.0, 0.25, -0.015625, 0.0]
    """
    if dtype == "fp32" or dtype not in DTYPE_BITS:
        return values.astype(np.float32).astype(np.float64)
    if dtype == "fp16":
        return values.astype(np.float16).astype(np.float64)
    if dtype == "bf16":
        return _bf16(values)
    block = quantize_block or max(1, len(values))
    padded = np.zeros(-(-len(values) // block) * block)
    padded[: len(values)] = values.astype(np.float32)
    blocks = padded.reshape(-1, block)
    peak = np.abs(blocks).max(axis=1)
    scale = _bf16(peak / 127 if dtype == "int8" else peak)
    scale[~(peak < _TOO_LARGE)] = np.nan
    scale[scale < _LEAST_SCALE] = 0.0
    scale = scale[:, None]
    unit = np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale > 0)
    if dtype == "int8":
        rounded = np.rint(unit.astype(np.float32)).astype(np.float64)
    else:
        magnitudes = np.concatenate([[0.0], _FP4_LEVELS])
        edges = (magnitudes[1:] + magnitudes[:-1]) / 2
        rounded = np.sign(unit) * magnitudes[np.searchsorted(edges, np.abs(unit), side="right")]
    return np.asarray((rounded * scale).reshape(-1)[: len(values)])


def _bf16(values: Floats) -> Floats:
    bits = values.astype(np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


def reduced(
    sent: Sequence[Floats], dtype: str, quantize_block: int, *, mean: bool, back: bool = True
) -> Floats:
    """Sum or mean of what the workers sent, in the order of their ranks.

    fp32, bf16 and fp16 are summed in that type; int8 and fp4 in fp32, and the result is
    quantized once more for the way back, if there is one (``back``).
    """
    accumulator = dtype if dtype in ("bf16", "fp16") else "fp32"
    total = sent[0]
    for values in sent[1:]:
        total = carried(total + values, accumulator)
    if mean:  # by who receives it, in the buffer's own type; before it is quantized once more
        total = total / len(sent)
    if dtype not in QUANTIZED:
        return total
    return carried(total, dtype if back else accumulator, quantize_block)
