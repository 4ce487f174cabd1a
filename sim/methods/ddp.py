"""Synchronous data parallel training."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from math import ceil
from typing import Literal

from sim.methods.arguments import CommDtype, Count
from sim.methods.layer_by_layer import layered_step
from sim.program import (
    Activity,
    ArgumentError,
    Buffer,
    Model,
    Program,
    Worker,
    bytes_per_element,
    keeps_equal,
)

_MOST_PIECES = 100_000  # of one bucket: more would only measure our patience


@keeps_equal("parameters")
def ddp(
    worker: Worker,
    *,
    overlap: Literal["none", "bucket", "layer"] = "bucket",
    bucket_bytes: Count = 25 * 2**20,
    zero1: bool = False,
    comm_dtype: CommDtype | None = None,
    no_sync: bool = True,
    zero1_exchange: Literal["sharded", "torch", "torch_views"] = "sharded",
) -> Program:
    """Average the gradients over all workers in every step, then one optimizer step.

    Every inner step: gradients of n_grad_accumulation micro-batches, a mean over the workers,
    one optimizer step. With ``zero1`` the gradients are reduce-scattered, every worker runs
    the optimizer on its own 1/M of every bucket, and the parameters are all-gathered in the
    same buckets: the same volume.

    Parameters
    ----------
    overlap
        "none": one reduction after the backward pass. "bucket": a bucket's reduction starts
        as the backward of its layers ends, and all are awaited before the optimizer step.
        "layer": one reduction per layer, awaited (and the optimizer applied to that layer)
        just before that layer's forward in the next step, so that only the layer itself waits.
    bucket_bytes
        Consecutive layers share a bucket up to this size; a larger layer is cut into pieces.
    zero1
        Shard the optimizer. Not with overlap = "layer".
    comm_dtype
        Type in which gradients travel; by default the model's param_dtype.
    no_sync
        Whether only the last micro-batch's backward reduces the gradient sum, as within torch's
        ``no_sync()``. Without it every micro-batch's does, and waits for the result. Without it
        not with a sharded exchange, nor with overlap = "layer".
    zero1_exchange
        With zero1, "sharded": reduce-scatter and all-gather. "torch": as torch's
        ``ZeroRedundancyOptimizer`` on DDP, the gradients are all-reduced, and then every worker
        broadcasts the 1/M of the parameters that it has updated, tensor by tensor: half as much
        volume again. "torch_views": with ``parameters_as_bucket_view``, in one broadcast each.

    Notes
    -----
    Li et al. 2020, "PyTorch Distributed", arXiv:2006.15704 (buckets); Rajbhandari et al. 2020,
    "ZeRO", arXiv:1910.02054 (ZeRO-1). Differs from the paper: the buckets' edges are layers
    or even pieces of one layer, not single tensors. Differs from torch: the
    shards are equal slices, and a tensor that lies in two is sent in two parts.
    """
    if zero1 and overlap == "layer":
        raise ArgumentError('zero1 = true goes with overlap = "none" or "bucket", not "layer"')
    sharded = zero1 and zero1_exchange == "sharded"
    if not no_sync and (sharded or overlap == "layer"):
        raise ArgumentError(
            'no_sync = false goes with overlap = "none" or "bucket", and not with zero1, '
            "unless zero1_exchange is one of torch's"
        )
    model = worker.model
    dtype = comm_dtype or model.param_dtype
    if overlap == "layer":
        yield from _per_layer(worker, dtype)
        return
    whole = range(model.num_layers)
    limit = bucket_bytes if overlap == "bucket" else None
    buckets = list(_buckets(model, limit, bytes_per_element(dtype)))
    reduce = worker.reduce_scatter if sharded else worker.all_reduce

    together = model.n_grad_accumulation if no_sync else 1  # micro-batches that one pass sends
    while worker.next_round(steps=1):
        for _ in range(model.n_grad_accumulation // together):
            reductions: list[Activity] = []
            if together > 1:
                yield worker.compute(model.accumulate, times=together - 1)
            yield worker.compute(model.forward, whole)
            for layers, pieces in buckets:
                yield worker.compute(model.backward, layers)
                reductions += [reduce(buffer, dtype, mean=True) for buffer in pieces]
            yield from reductions
        if sharded:
            gradients = [buffer for _, pieces in buckets for buffer in pieces]
            yield worker.compute(model.optimizer_shard, "update", gradients, commits=True)
            gathers = [
                worker.all_gather(model.parameters(layers, piece, len(pieces)), model.param_dtype)
                for layers, pieces in buckets
                for piece in range(len(pieces))
            ]
            yield from gathers
        elif zero1:
            yield worker.compute(
                model.optimizer_shard, "update", [model.gradient(whole)], commits=True
            )
            yield from _broadcasts(worker, by_tensor=zero1_exchange == "torch")
        else:
            yield worker.compute(model.inner_optimizer, whole, commits=True)


def _broadcasts(worker: Worker, *, by_tensor: bool) -> list[Activity]:
    """Send every worker's 1/M of the parameters to all, one after the other."""
    model, workers = worker.model, worker.workers
    whole = range(model.num_layers)
    parameters = model.parameters(whole)
    shards = [parameters.elements * rank // workers for rank in range(workers + 1)]
    edges = {*shards, *(accumulate(model.tensors(whole)) if by_tensor else ())}
    parts = model.parts(parameters, sorted(edges))
    owners = [bisect_right(shards, first) - 1 for first in sorted(edges)[:-1]]
    return [
        worker.broadcast(part, model.param_dtype, root=owner)
        for owner, part in zip(owners, parts, strict=True)
    ]


def _per_layer(worker: Worker, dtype: str) -> Program:
    model = worker.model
    in_flight: dict[int, Activity] = {}

    def start(layer: int) -> Program:
        in_flight[layer] = worker.all_reduce(model.gradient(range(layer, layer + 1)), dtype)
        yield from ()

    def finish(layer: int) -> Program:
        yield in_flight.pop(layer)
        yield worker.compute(model.inner_optimizer, range(layer, layer + 1), commits=True)

    layers = range(model.num_layers)
    while worker.next_round(steps=1):
        before = {layer: (lambda layer=layer: finish(layer)) for layer in in_flight}
        yield from layered_step(
            worker, before=before, send=layers, start=start, optimize_before_send=False
        )
    for layer in sorted(in_flight):
        yield from finish(layer)


def _buckets(
    model: Model, limit: int | None, bytes_per_element: float
) -> Iterator[tuple[range, list[Buffer]]]:
    """Yield, last layer first, runs of layers and the buffers in which their gradients travel."""

    def size(layers: range) -> float:
        return model.gradient(layers).elements * bytes_per_element

    end = model.num_layers
    for first in reversed(range(end)):
        if first > 0 and (limit is None or size(range(first - 1, end)) <= limit):
            continue
        layers = range(first, end)
        pieces = 1 if limit is None else ceil(size(layers) / limit)
        if pieces > _MOST_PIECES:
            raise ArgumentError(
                f"bucket_bytes = {limit}: would cut {size(layers):.0f} bytes into {pieces} pieces; "
                f"at most {_MOST_PIECES} are sent"
            )
        yield layers, [model.gradient(layers, piece, pieces) for piece in range(pieces)]
        end = first
