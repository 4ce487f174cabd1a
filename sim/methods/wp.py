"""WP: weight prediction, the last gradient used twice."""

from __future__ import annotations

from sim.methods.arguments import CommDtype, Looks
from sim.methods.sharded_update import accumulate_during
from sim.program import Program, Worker, keeps_equal


@keeps_equal("parameters")
def wp(
    worker: Worker,
    *,
    comm_dtype: CommDtype | None = None,
    look_every: Looks = "micro_batch",
) -> Program:
    """Communicate the last gradient while the next one is computed at predicted parameters.

    theta(t+1) = Opt(theta(t), g(t-1)) with g = sum_i g_i / sum_i N_i, and the prediction
    theta~(t+2) = Opt(theta(t+1), g(t-1)) with the same gradient again (its optimizer state is
    rolled back); g_i(t+1) is accumulated at theta~(t+2). Only the prediction is gathered: the
    traffic is that of dpu.

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
    Chen et al. 2018, arXiv:1809.02839; a baseline of ACCO, arXiv:2406.02613. Differs from the
    paper: as in ACCO a worker keeps accumulating while the communication is not done.
    """
    model = worker.model
    yield worker.compute(model.accumulate, times=model.n_grad_accumulation)
    while worker.next_round():
        yield from accumulate_during(worker, "predict", comm_dtype, look_every)
