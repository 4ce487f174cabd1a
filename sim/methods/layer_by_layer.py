"""One inner step, layer by layer: reductions start and are awaited at their own layer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from sim.program import Program, Worker


def layered_step(
    worker: Worker,
    *,
    before: Mapping[int, Callable[[], Program]],
    send: Collection[int],
    start: Callable[[int], Program],
    optimize_before_send: bool,
) -> Program:
    """Run one inner step and let communication touch single layers.

    Layers between two that communicate run as one computation. Of several micro-batches the
    first forward waits and the last backward sends.

    Parameters
    ----------
    before
        Layer -> program to run just before that layer's first forward (wait for its
        reduction, apply it).
    send
        Layers for which ``start(layer)`` runs as their last backward ends.
    optimize_before_send
        True: the inner optimizer is applied to each layer as its backward ends (this excludes
        clipping by the global norm). False: the caller applies the optimizer.
    """
    model = worker.model
    whole = range(model.num_layers)
    micro_batches = model.n_grad_accumulation

    begin = 0
    if before or micro_batches == 1:
        for layer in sorted(before):
            if layer > begin:
                yield worker.compute(model.forward, range(begin, layer))
            yield from before[layer]()
            begin = layer
        yield worker.compute(model.forward, range(begin, whole.stop))
        micro_batches -= 1
        if micro_batches > 0:
            yield worker.compute(model.backward, whole)
    if micro_batches > 0:
        if micro_batches > 1:
            yield worker.compute(model.accumulate, times=micro_batches - 1)
        yield worker.compute(model.forward, whole)

    end = whole.stop
    for layer in sorted({0, *send}, reverse=True):
        yield worker.compute(model.backward, range(layer, end))
        if optimize_before_send:
            yield worker.compute(model.inner_optimizer, range(layer, end))
        if layer in send:
            yield from start(layer)
        end = layer
