"""All-reduce and reduce-scatter that carry FP4 or int8 (:mod:`realrun.communication.packing`).

Quantize, all-to-all, sum in FP32 in the order of the ranks, quantize, all-gather; E3M0 for
outer gradients, summed in FP32, is that of Douillard et al. 2025, Streaming DiLoCo,
arXiv:2501.18512. Every rank reads the same bytes, so all end with the same bits.

In two halves: :func:`prepare` takes the numbers out of the buffer, in the thread to which the
buffer belongs; :func:`carry_out` does the rest, in any thread, in memory of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from realrun.communication.packing import (
    check,
    check_values,
    on_device,
    pack_into,
    packed_bytes,
    sum_into,
)

OPERATIONS = ("all_reduce", "reduce_scatter")
# Torch 2.13 has renamed it.
all_gather_single = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


@dataclass(frozen=True, eq=False)
class Packed:
    """Own values as they are sent.

    Attributes
    ----------
    operation, dtype, block
        As given to :func:`prepare`.
    elements
        n, values in the buffer.
    bounds
        For every rank, from where up to where it is sent values: whole blocks.
    wire
        One wire per rank, one after the other: uint8, shape [bytes].
    """

    operation: str
    dtype: str
    block: int
    elements: int
    bounds: list[tuple[int, int]]
    wire: Tensor

    def sent(self) -> Tensor:
        """Return what quantization left of this worker's values: fp32, shape [n]."""
        values = torch.empty(self.elements, dtype=torch.float32, device=self.wire.device)
        lengths = (packed_bytes(b - a, self.dtype, self.block) for a, b in self.bounds)
        edges = pairwise([0, *accumulate(lengths)])
        with on_device(self.wire.device):
            for (a, b), (begin, end) in zip(self.bounds, edges, strict=True):
                sum_into(values[a:b], self.wire[None, begin:end], self.dtype, self.block)
        return values


def prepare(
    operation: str,
    values: Tensor,
    dtype: str,
    block: int,
    workers: int,
) -> Packed:
    """Quantize a buffer for every rank; afterwards it may change.

    Parameters
    ----------
    operation
        all_reduce or reduce_scatter.
    values
        Shape [n], the same n on all ranks, floating point, contiguous. Read as fp32.
    dtype
        int8 or fp4.
    block
        Values per scale, counted from the buffer's start.
    workers
        M.

    Raises
    ------
    ValueError
        Another operation; else as :func:`realrun.communication.packing.pack`.
    NotImplementedError
        A device without an implementation.

    Notes
    -----
    With b = ceil(n / block) blocks, rank i sums blocks b i // M up to b (i + 1) // M of an
    all_reduce. Of a reduce_scatter it sums values n i // M up to n (i + 1) // M, as everywhere
    in the methods; scales are counted from the buffer's start, so a block that two slices
    share is sent to both ranks.
    """
    if operation not in OPERATIONS:
        raise ValueError(
            f"{operation} in {dtype}: only {' and '.join(OPERATIONS)} carry int8 and fp4; "
            "send fp32, bf16 or fp16"
        )
    check(dtype, block)
    check_values(values)
    elements = len(values)
    bounds = _bounds(operation, elements, block, workers)
    starts = [0, *accumulate(packed_bytes(b - a, dtype, block) for a, b in bounds)]
    with on_device(values.device):
        wire = values.new_empty(starts[-1], dtype=torch.uint8)
        for (a, b), (begin, end) in zip(bounds, pairwise(starts), strict=True):
            pack_into(wire[begin:end], values[a:b], dtype, block)
    return Packed(operation, dtype, block, elements, bounds, wire)


def _bounds(operation: str, elements: int, block: int, workers: int) -> list[tuple[int, int]]:
    """Which values each rank is sent."""
    if operation == "all_reduce":
        blocks = -(-elements // block)
        edges = [min(elements, block * (blocks * i // workers)) for i in range(workers + 1)]
        return list(pairwise(edges))
    bounds = []
    for a, b in pairwise(elements * i // workers for i in range(workers + 1)):
        first = a // block * block
        # An empty slice needs no block, though it may lie within one.
        bounds.append((first, min(elements, -(-b // block) * block) if b > a else first))
    return bounds


def carry_out(packed: Packed, group: Any, *, mean: bool = False) -> Tensor:
    """Exchange, sum, and for an all_reduce send the sum to all. Blocks the calling thread.

    Parameters
    ----------
    packed
        What :func:`prepare` gave on every rank, for the same operation, n, dtype and block.
    group
        Process group of all M workers that no other thread uses meanwhile: two collectives
        follow each other here, and nothing may come between them.
    mean
        Divide the sum by M before it is quantized for the way back (all_reduce).

    Returns
    -------
    Tensor
        fp32. all_reduce: shape [n], the same bits on all ranks. reduce_scatter: this worker's
        slice, which is not quantized again: nothing travels back.

    Raises
    ------
    RuntimeError
        From the backend: a peer is gone, or the group's timeout has passed.

    Notes
    -----
    Summed over the ranks, the bytes for others exceed 2 (M - 1) wire_bytes(n) of an all_reduce,
    whose slices of the way back are padded to the longest, and (M - 1) wire_bytes(n) of a
    reduce_scatter by less than M (M - 1) blocks: by nothing where all ranks have equally many
    whole blocks.
    """
    dtype, block = packed.dtype, packed.block
    workers, rank = dist.get_world_size(group), dist.get_rank(group)
    lengths = [packed_bytes(b - a, dtype, block) for a, b in packed.bounds]
    first, last = packed.bounds[rank]
    with on_device(packed.wire.device):
        received = packed.wire.new_empty(workers, lengths[rank])
        dist.all_to_all_single(
            received.view(-1), packed.wire, [lengths[rank]] * workers, lengths, group=group
        )
        total = received.new_empty(last - first, dtype=torch.float32)
        sum_into(total, received, dtype, block, workers if mean else 1)
        if packed.operation == "reduce_scatter":
            a, b = (packed.elements * i // workers for i in (rank, rank + 1))
            return total[a - first : b - first]

        # The padding is sent: zeros, so that a run's bytes do not depend on old memory.
        wire = received.new_zeros(max(lengths))
        pack_into(wire[: lengths[rank]], total, dtype, block)
        del received, total
        gathered = wire.new_empty(workers * len(wire))
        all_gather_single(gathered, wire, group=group)
        result = wire.new_empty(packed.elements, dtype=torch.float32)
        for (a, b), length, part in zip(
            packed.bounds, lengths, gathered.view(workers, len(wire)), strict=True
        ):
            sum_into(result[a:b], part[None, :length], dtype, block)
        return result
