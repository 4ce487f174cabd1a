"""The communication of one ACCO, DPU or WP round, spawned as a background task."""

from __future__ import annotations

from sim.methods.arguments import CommDtype, Looks
from sim.program import Program, Worker


def sharded_update(worker: Worker, phase: str, comm_dtype: CommDtype | None) -> Program:
    """Reduce what was handed over, run the optimizer on this worker's slice, gather the parameters.

    All-reduce of the counts (micro-batches, tokens), reduce-scatter of the gradient sum,
    optimizer on this worker's 1/M (fp32), all-gather of the parameters: the traffic of one ZeRO-1
    step. ``phase`` tells the model's optimizer which update this is.
    """
    model = worker.model
    yield worker.all_reduce(model.handed_count(), "fp32", mean=False)
    yield worker.reduce_scatter(model.handed_gradient(), comm_dtype or model.param_dtype)
    yield worker.compute(model.optimizer_shard, phase, commits=phase != "estimate")
    yield worker.all_gather(model.handed_parameters(), model.param_dtype)


def accumulate_during(
    worker: Worker, phase: str, comm_dtype: CommDtype | None, look_every: Looks
) -> Program:
    """Hand the gradient sum over, communicate it, and accumulate the next one meanwhile.

    At least n_grad_accumulation micro-batches, and one more (``look_every = "inner_step"``: as many
    more) for as long as the communication is not done: a fast worker contributes more, the device
    never idles. The main program then publishes the parameters that came out.
    """
    model = worker.model
    yield worker.compute(model.hand_over, phase)
    update = worker.spawn(sharded_update, phase, comm_dtype)
    yield worker.compute(model.accumulate, times=model.n_grad_accumulation)
    more = model.n_grad_accumulation if look_every == "inner_step" else 1
    while not update.done:
        yield worker.compute(model.accumulate, times=more)
    yield update
    yield worker.compute(model.publish, phase)
