"""ACCO: accumulate while communicating, with an estimate round before each update."""

from __future__ import annotations

from sim.methods.arguments import CommDtype, Looks
from sim.methods.sharded_update import accumulate_during
from sim.program import Program, Worker, keeps_equal


@keeps_equal("parameters")
def acco(
    worker: Worker,
    *,
    comm_dtype: CommDtype | None = None,
    look_every: Looks = "micro_batch",
) -> Program:
    """Compute on one half-batch while the other is communicated; no device idles.

    Both rounds of an update start from the same theta(t):

    1. "estimate": communicate theta~(t+1) = Opt(theta(t), sum_i g~_i(t) / sum_i N~_i(t)) while
       g_i(t) is accumulated at theta(t) over N_i(t) micro-batches.
    2. "update": communicate theta(t+1) = Opt(theta(t), sum_i (g~_i + g_i) / sum_i (N~_i + N_i))
       while g~_i(t+1) is accumulated at theta~(t+1) over N~_i(t+1) micro-batches.

    The optimizer state advances in round 2 only. A worker accumulates at least
    n_grad_accumulation micro-batches per round and continues while the communication is not
    done, so utilization is near 1 by construction and a slow network costs a larger batch per
    update. The horizon is read from the reduced count. The gradients computed while the last
    update was on the wire are not used.

    Parameters
    ----------
    comm_dtype
        Type in which gradients travel; by default the model's param_dtype, in which parameters
        travel.
    look_every
        How often a worker looks whether the communication is done: after every "micro_batch", or
        after every "inner_step" of n_grad_accumulation micro-batches, as ACCO's published code
        does. With one micro-batch they are the same.

    Notes
    -----
    Nabli et al. 2024, "ACCO", arXiv:2406.02613. No warm-up and no gradient clipping.
    """
    model = worker.model
    yield worker.compute(model.accumulate, times=model.n_grad_accumulation)
    while worker.next_round():
        yield from accumulate_during(worker, "estimate", comm_dtype, look_every)
        yield from accumulate_during(worker, "update", comm_dtype, look_every)
