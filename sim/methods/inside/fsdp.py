"""Fully sharded data parallel training: parameters are gathered layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sim.methods.arguments import CommDtype
from sim.program import Activity, Buffer, Program, Worker


def fsdp(
    worker: Worker,
    *,
    prefetch: bool = True,
    reshard: bool = True,
    comm_dtype: CommDtype | None = None,
) -> Program:
    """Shard everything over all workers; a layer's parameters are gathered when it is needed.

    Every micro-batch: each layer's parameters are all-gathered before its forward and again before
    its backward, and freed after each. In the last micro-batch each layer's gradient is
    reduce-scattered as its backward ends. All reductions are awaited before the optimizer, which
    every worker runs on its own 1/M of every layer.

    Parameters
    ----------
    prefetch
        Whether the next layer's gathering starts before this layer is computed. Without it
        nothing is computed while parameters travel.
    reshard
        Whether parameters are freed between forward and backward (ZeRO-3). The last layer's are
        kept, since backward begins with it. Without it all are kept, and gathered once a
        micro-batch (ZeRO-2).
    comm_dtype
        Type in which gradients travel; by default the model's param_dtype.

    Notes
    -----
    Rajbhandari et al. 2020, "ZeRO", arXiv:1910.02054, section 5.3; Zhao et al. 2023, "PyTorch
    FSDP", arXiv:2304.11277, sections 3.3 and 3.4 (at most two layers are whole at a time). Differs
    from torch's ``fully_shard``: of several micro-batches only the last reduces, as after
    ``set_requires_gradient_sync(False)``; gathering and reducing share one queue, so a reduction
    holds up the gathering that is called after it.

    Between two steps a worker's parameters are new in its own shard alone: what realrun evaluates
    or compares then is a step old elsewhere. At the end all are gathered, and saved whole.

    Bytes per worker and step, with one micro-batch of n bytes, and M workers: 3 (M - 1) / M n with
    reshard, less one layer; 2 (M - 1) / M n without.
    """
    model = worker.model
    dtype = comm_dtype or model.param_dtype
    forward = range(model.num_layers)
    backward = forward[::-1]
    held: dict[int, Activity] = {}

    def gather(layers: Iterable[int]) -> None:
        for layer in layers:
            if layer not in held:
                whole = model.parameters(range(layer, layer + 1))
                held[layer] = worker.all_gather(whole, model.param_dtype)

    def compute(verb: Callable[[range], None], order: range, place: int) -> Program:
        layer = order[place]
        gather([layer])
        yield held[layer]
        if prefetch:
            gather(order[place + 1 : place + 2])
        yield worker.compute(verb, range(layer, layer + 1))

    while worker.next_round(steps=1):
        reductions: list[Activity] = []
        gradients: list[Buffer] = []
        for micro_batches_left in reversed(range(model.n_grad_accumulation)):
            for layer in forward:
                yield from compute(model.forward, forward, layer)
                if reshard and layer != backward[0]:
                    del held[layer]
            for place, layer in enumerate(backward):
                yield from compute(model.backward, backward, place)
                del held[layer]
                if micro_batches_left == 0:
                    gradients.append(model.gradient(range(layer, layer + 1)))
                    reductions.append(worker.reduce_scatter(gradients[-1], dtype, mean=True))
        yield from reductions
        yield worker.compute(model.optimizer_shard, "update", gradients, commits=True)
    gather(forward)
    yield from held.values()
