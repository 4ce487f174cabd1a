"""Collectives on buffers of sim's vocabulary, started asynchronously on a process group."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from sim.program import QUANTIZED, Buffer

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Collective:
    """One collective under way. ``finish`` waits and puts the result where it belongs."""

    def __init__(
        self, operation: str, work: Any, place: Callable[[], None], ended: Callable[[], None]
    ) -> None:
        self.operation = operation
        self._work = work
        self._place = place
        self._finished = False
        # The moment of the end is the backend's, not that of whoever waits for it.
        work.get_future().add_done_callback(lambda _: ended())

    def ended(self) -> bool:
        """Whether the result has arrived."""
        return bool(self._work.is_completed())

    def finish(self) -> None:
        """Wait for the result and write it into the buffer; a second call does nothing."""
        if not self._finished:
            self._work.wait()
            self._place()
            self._finished = True


def tensor_of(buffer: Buffer) -> torch.Tensor:
    """The flat tensor behind a buffer; numpy buffers share their memory.

    Raises
    ------
    TypeError
        If the buffer holds neither.
    """
    tensor = getattr(buffer, "tensor", None)
    if isinstance(tensor, torch.Tensor):
        return tensor.view(-1)
    values = getattr(buffer, "values", None)
    if isinstance(values, np.ndarray):
        return torch.from_numpy(values)
    raise TypeError(f"buffer {buffer.name} {buffer.detail}: holds no numbers to send")


def start(
    operation: str,
    buffer: Buffer,
    dtype: str,
    group: Any,
    mean: bool,
    ended: Callable[[], None],
) -> Collective:
    """Start a collective on the whole of a buffer.

    Parameters
    ----------
    operation
        all_reduce, reduce_scatter, all_gather, all_to_all or broadcast.
    dtype
        fp32, bf16, fp16: what travels, and what is summed in.
    group
        Process group of all workers.
    mean
        Divide the sum by the number of workers (all_reduce).
    ended
        Called once, by the backend, when the result has arrived.

    Notes
    -----
    gloo carries out reduce_scatter as a whole all-reduce, twice what it should cost; here it
    is an all-to-all of slices and a local sum in the order of the ranks.
    """
    if dtype in QUANTIZED:
        raise NotImplementedError(f"{operation}: {dtype} goes through realrun.quantize")
    target = tensor_of(buffer)
    sent = target.to(DTYPES[dtype], copy=True)
    if hasattr(buffer, "sent"):
        # What the wire's type left of the own values; eager updates need it.
        own = sent.to(target.dtype).clone()
        buffer.sent = own.numpy() if getattr(buffer, "tensor", None) is None else own
    count, rank = dist.get_world_size(group), dist.get_rank(group)
    edges = [len(sent) * i // count for i in range(count + 1)]
    sizes = [b - a for a, b in pairwise(edges)]
    own_slice = slice(edges[rank], edges[rank + 1])

    if operation == "all_reduce":
        work = dist.all_reduce(sent, group=group, async_op=True)

        def place() -> None:
            result = sent.to(target.dtype)
            target.copy_(result / count if mean else result)

        return Collective(operation, work, place, ended)

    if operation in ("reduce_scatter", "all_to_all"):
        mine = sizes[rank]
        inputs = sizes
        received = sent.new_empty(mine * count)
        work = dist.all_to_all_single(
            received, sent, [mine] * count, inputs, group=group, async_op=True
        )

        def place() -> None:
            parts = received.view(count, mine)
            if operation == "all_to_all":
                target[: mine * count].copy_(parts.reshape(-1).to(target.dtype))
                return
            total = parts[0].clone()
            for part in parts[1:]:
                total += part
            target[own_slice].copy_(total.to(target.dtype))

        return Collective(operation, work, place, ended)

    if operation == "all_gather":
        longest = max(sizes)
        padded = sent.new_zeros(longest)
        padded[: sizes[rank]] = sent[own_slice]
        gathered = sent.new_empty(longest * count)
        work = dist.all_gather_into_tensor(gathered, padded, group=group, async_op=True)

        def place() -> None:
            for part, size, start_ in zip(
                gathered.view(count, longest), sizes, edges[:-1], strict=True
            ):
                target[start_ : start_ + size].copy_(part[:size].to(target.dtype))

        return Collective(operation, work, place, ended)

    work = dist.broadcast(sent, src=0, group=group, async_op=True)

    def place_all() -> None:
        target.copy_(sent.to(target.dtype))

    return Collective(operation, work, place_all, ended)
