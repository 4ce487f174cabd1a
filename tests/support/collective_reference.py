"""What collectives over some of four workers leave in buffers, computed with numpy."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from sim.models.rounding import Floats, carried, reduced
from sim.program import QUANTIZED

Kind = tuple[str, str, bool]
"""Operation, dtype, and whether it is a mean."""

PARTS = (((0, 1), (2, 3)), ((1, 2), (0, 3)), ((0, 1, 3), (2,)), ((0, 1, 2, 3),))
KINDS = [
    *product(("all_reduce", "reduce_scatter"), ("fp32", "bf16", *QUANTIZED), (True, False)),
    *product(("all_gather", "broadcast"), ("fp32", "bf16"), (False,)),
]
CASES = list(product(PARTS, KINDS, (1, 250)))
# Slices of equal size: a buffer cannot hold more than it sends.
CASES += product(PARTS, [("all_to_all", dtype, False) for dtype in ("fp32", "bf16")], (12, 240))


def own_values(rank: int, size: int) -> NDArray[np.float32]:
    """Whole numbers so small that their sums are exact in every type but the quantized ones."""
    return np.random.default_rng([rank, size]).integers(-40, 40, size).astype(np.float32)


def received(over: tuple[int, ...], kind: Kind, size: int, block: int) -> Iterator[Floats]:
    """What each member's buffer then holds."""
    operation, dtype, mean = kind
    values = [own_values(rank, size).astype(np.float64) for rank in over]
    sent = [carried(each, dtype, block) for each in values]
    count = len(over)
    slices = [slice(size * i // count, size * (i + 1) // count) for i in range(count)]
    for place, own in enumerate(slices):
        result = values[place].copy()
        if operation == "all_reduce":
            result = reduced(sent, dtype, block, mean=mean)
        elif operation == "reduce_scatter":
            result[own] = reduced(sent, dtype, block, mean=mean, back=False)[own]
        elif operation == "all_gather":
            result = np.concatenate([each[part] for each, part in zip(sent, slices, strict=True)])
        elif operation == "all_to_all":
            result = np.concatenate([each[own] for each in sent])
        else:
            result = sent[0]
        yield result
