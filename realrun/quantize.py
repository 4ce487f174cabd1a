"""All-reduce and reduce-scatter that carry FP4 or int8 (:mod:`realrun.packing`).

Quantise, all-to-all, sum in FP32 in the order of the ranks, quantise, all-gather; E3M0 for
outer gradients, summed in FP32, is that of Douillard et al. 2025, Streaming DiLoCo,
arXiv:2501.18512. Every rank reads the same bytes, so all end with the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from realrun.packing import check, check_values, on_device, pack_into, packed_bytes, sum_into


@dataclass(frozen=True)
class Carried:
    """What a quantised collective did besides writing its result.

    Attributes
    ----------
    bytes_on_wire
        Bytes of this rank's that were handed to the backend for other ranks.
    sent
        What quantisation left of the own values, fp32, shape [n]; None where not asked for.
    """

    bytes_on_wire: int
    sent: Tensor | None


def all_reduce(
    buffer: Tensor, dtype: str, block: int, group: Any, *, mean: bool, keep_sent: bool = False
) -> Carried:
    """Sum or mean over a group, quantised both ways, in place. Blocks the calling thread.

    Each rank quantises its buffer and sends slice j to rank j; each sums its slice over the
    ranks in their order in FP32, quantises the sum (or mean) and sends it to all. Every rank
    reads the same bytes, so all end with the same bits.

    Parameters
    ----------
    buffer
        Shape [n], the same n on all ranks, floating point, contiguous. Read as fp32.
    dtype
        int8 or fp4.
    block
        Values per scale, counted from the buffer's start.
    group
        Process group. A call from another thread needs a group that no other thread uses:
        two collectives follow each other here, and nothing may come between them.
    mean
        Divide the sum by the number of ranks before it is quantised for the way back.
    keep_sent
        Also return what the own values became.

    Returns
    -------
    Carried
        With b = ceil(n / block) blocks, rank i's slice is blocks b i // M up to
        b (i + 1) // M. The slices of the way back are padded to the longest. Summed over the
        ranks the bytes exceed 2 (M - 1) wire_bytes(n) by less than M (M - 1) blocks; where
        b is a multiple of M and the last block full, each rank's are exactly
        2 (M - 1) / M wire_bytes(n).

    Raises
    ------
    ValueError, NotImplementedError
        As :func:`pack`, before anything is sent.
    RuntimeError
        From the backend: a peer is gone, or the group's timeout has passed.
    """
    check(dtype, block)
    check_values(buffer)
    workers, rank = dist.get_world_size(group), dist.get_rank(group)
    elements = len(buffer)
    blocks = -(-elements // block)
    edges = [min(elements, block * (blocks * i // workers)) for i in range(workers + 1)]
    bounds = list(pairwise(edges))
    with on_device(buffer.device):
        received, count, sent = _exchange(buffer, bounds, dtype, block, group, keep_sent)
        own = edges[rank + 1] - edges[rank]
        total = received.new_empty(own, dtype=torch.float32)
        sum_into(total, received, dtype, block, workers if mean else 1)

        lengths = [packed_bytes(b - a, dtype, block) for a, b in bounds]
        # The padding is sent: zeros, so that a run's bytes do not depend on old memory.
        wire = received.new_zeros(max(lengths))
        pack_into(wire[: lengths[rank]], total, dtype, block)
        del received, total
        gathered = wire.new_empty(workers * len(wire))
        dist.all_gather_into_tensor(gathered, wire, group=group)
        for (a, b), length, part in zip(
            bounds, lengths, gathered.view(workers, len(wire)), strict=True
        ):
            sum_into(buffer.detach()[a:b], part[None, :length], dtype, block)
    return Carried(count + (workers - 1) * len(wire), sent)


def reduce_scatter(
    buffer: Tensor, dtype: str, block: int, group: Any, *, keep_sent: bool = False
) -> Carried:
    """Sum over a group; each rank's own slice of its buffer holds it. Blocks the thread.

    Parameters are those of :func:`all_reduce`. Rank i's slice is n i // M up to
    n (i + 1) // M, as everywhere in the methods. The sum is FP32 and is not quantised:
    nothing travels back. The rest of the buffer is left as it was.

    Returns
    -------
    Carried
        Scales are counted from the buffer's start, so a block that two slices share is sent
        to both ranks: summed over the ranks the bytes exceed (M - 1) wire_bytes(n) by less
        than M (M - 1) blocks, and by nothing where slices end at blocks.
    """
    check(dtype, block)
    check_values(buffer)
    workers, rank = dist.get_world_size(group), dist.get_rank(group)
    elements = len(buffer)
    slices = list(pairwise(elements * i // workers for i in range(workers + 1)))
    # Whole blocks: an empty slice needs none, though it may lie within one.
    bounds = [
        (a // block * block, min(elements, -(-b // block) * block) if b > a else a // block * block)
        for a, b in slices
    ]
    with on_device(buffer.device):
        received, count, sent = _exchange(buffer, bounds, dtype, block, group, keep_sent)
        first, last = bounds[rank]
        total = received.new_empty(last - first, dtype=torch.float32)
        sum_into(total, received, dtype, block)
        a, b = slices[rank]
        buffer.detach()[a:b].copy_(total[a - first : b - first])
    return Carried(count, sent)


def _exchange(
    buffer: Tensor,
    bounds: list[tuple[int, int]],
    dtype: str,
    block: int,
    group: Any,
    keep_sent: bool,
) -> tuple[Tensor, int, Tensor | None]:
    """Send values ``bounds[j]`` of the buffer to rank j.

    Returns
    -------
    received
        Wires of the own bounds, one row per sender: shape [ranks, bytes].
    bytes_on_wire
        Bytes handed over for others.
    sent
        What quantisation left of the whole buffer, if asked for.
    """
    workers, rank = dist.get_world_size(group), dist.get_rank(group)
    lengths = [packed_bytes(b - a, dtype, block) for a, b in bounds]
    starts = [0, *accumulate(lengths)]
    wire = buffer.new_empty(starts[-1], dtype=torch.uint8)
    sent = torch.empty_like(buffer, dtype=torch.float32) if keep_sent else None
    for (a, b), (begin, end) in zip(bounds, pairwise(starts), strict=True):
        pack_into(wire[begin:end], buffer[a:b], dtype, block)
        if sent is not None:
            sum_into(sent[a:b], wire[None, begin:end], dtype, block)
    received = wire.new_empty(workers, lengths[rank])
    dist.all_to_all_single(received.view(-1), wire, [lengths[rank]] * workers, lengths, group=group)
    return received, len(wire) - lengths[rank], sent
