"""DPU: delayed parameter update, with gradients one step old."""

from __future__ import annotations

from sim.methods.arguments import CommDtype, Looks
from sim.methods.sharded_update import accumulate_during
from sim.program import Program, Worker, keeps_equal


@keeps_equal("parameters")
def dpu(
    worker: Worker,
    *,
    comm_dtype: CommDtype | None = None,
    look_every: Looks = "micro_batch",
) -> Program:
    """Communicate the last gradient while the next one is computed at the old parameters.

    theta(t+1) = Opt(theta(t), sum_i g_i(t-1) / sum_i N_i(t-1)), communicated while g_i(t) is
    accumulated at theta(t).

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
    Ren et al. 2021, "ZeRO-Offload", arXiv:2101.06840; a baseline of ACCO, arXiv:2406.02613.
    Differs from the paper: as in ACCO a worker keeps accumulating while the communication
    is not done, so that the two are compared on equal terms.
    """
    model = worker.model
    yield worker.compute(model.accumulate, times=model.n_grad_accumulation)
    while worker.next_round():
        yield from accumulate_during(worker, "update", comm_dtype, look_every)
