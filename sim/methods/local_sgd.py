"""Local SGD: train apart, then average the parameters."""

from __future__ import annotations

from sim.methods.arguments import SyncEvery, of_worker
from sim.program import Program, Worker, keeps_equal


@keeps_equal("parameters")
def local_sgd(worker: Worker, *, sync_every: SyncEvery | tuple[SyncEvery, ...] = 100) -> Program:
    """Take H local steps, then average the parameters over all workers.

    Every ``sync_every`` (H) inner steps: theta = mean over m of theta_m. The same as DiLoCo
    with plain outer SGD at learning rate 1. Parameters travel in the model's param_dtype.

    Parameters
    ----------
    sync_every
        H, inner steps between two averages: one number, or one per worker.

    Notes
    -----
    McMahan et al. 2017, arXiv:1602.05629; Stich 2019, arXiv:1805.09767.
    """
    model = worker.model
    whole = range(model.num_layers)
    steps = of_worker(worker.rank, "sync_every", sync_every)
    while worker.next_round(steps=sync_every):
        yield worker.compute(model.inner_step, times=steps)
        yield worker.all_reduce(model.parameters(whole), model.param_dtype)
        yield worker.compute(model.average_parameters, whole, commits=True)
