"""Local SGD: train apart, then average the parameters."""

from __future__ import annotations

from sim.methods.arguments import (
    CommDtype,
    Count,
    Delay,
    Exchanged,
    Seconds,
    Seed,
    Share,
    SyncEvery,
    of_worker,
)
from sim.methods.exchange import Exchange
from sim.methods.participation import participants
from sim.program import Equal, Program, Worker, keeps_equal, operation


@operation("optimizer", seconds=0.0, scales_with="nothing")
def sit_out() -> None:
    """Commit a round's update that this worker neither sends to nor receives."""


def _equal(participation: float, **_: object) -> Equal:
    """Who sits out has older parameters."""
    return "parameters" if participation == 1 else "received"


@keeps_equal(_equal)
def local_sgd(
    worker: Worker,
    *,
    sync_every: SyncEvery | tuple[SyncEvery, ...] = 100,
    participation: Share = 1.0,
    participation_seed: Seed = 0,
    comm_dtype: CommDtype | None = None,
    exchange: Exchanged = "whole",
    bucket_bytes: Count = 25 * 2**20,
    control_round_trips: Delay = 0,
    control_time: Seconds = 0.0,
) -> Program:
    """Take H local steps, then average the parameters over all workers, or over some of them.

    Every ``sync_every`` (H) inner steps: theta = mean over m of theta_m. The same as DiLoCo
    with plain outer SGD at learning rate 1.

    With ``participation`` below 1 a share of the workers trains in each round, and the mean is
    over these. One all-reduce is over them, those that train in the next round, and rank 0, which
    keeps the averaged parameters as a server does; who does not train adds nothing to it. All
    others are idle and send nothing.

    Parameters
    ----------
    sync_every
        H, inner steps between two averages: one number, or one per worker.
    participation
        Share of the workers that train in a round, at least one of them.
    participation_seed
        Which ones: with the number of the round it decides alone.
    comm_dtype
        Type in which parameters travel; by default the model's param_dtype.
    exchange
        How an exchange is cut into all-reduces: "whole", not at all; "bucket", into equal pieces of
        at most bucket_bytes; "tensor", one for each tensor of the model, as torchft does without
        buckets. All are started at once and awaited together.
    bucket_bytes
        Size of one piece where exchange = "bucket".
    control_round_trips
        Round trips of control messages that all members exchange before each exchange may start,
        like a quorum and a commit; training waits for them.
    control_time
        Seconds (or text like "5 ms") that the control messages of an exchange take in addition.

    Notes
    -----
    McMahan et al. 2017, arXiv:1602.05629; Stich 2019, arXiv:1805.09767. Differs from the first
    where not all participate: there is no server, and a participant's download is the end of the
    all-reduce before its round. Clients that are drawn later get the parameters of that time, so
    nothing is sent to them meanwhile.
    """
    model = worker.model
    whole = range(model.num_layers)
    mean = Exchange(
        comm_dtype or model.param_dtype, exchange, bucket_bytes, control_round_trips, control_time
    )
    if participation < 1:
        yield from _some(worker, sync_every, participation, participation_seed, mean)
        return
    steps = of_worker(worker.rank, "sync_every", sync_every)
    while worker.next_round(steps=sync_every):
        yield worker.compute(model.inner_step, times=steps)
        yield from mean.all_reduce(worker, model.parameters(whole), whole)
        yield worker.compute(model.average_parameters, whole, commits=True)


def _some(
    worker: Worker,
    sync_every: SyncEvery | tuple[SyncEvery, ...],
    share: float,
    seed: int,
    mean: Exchange,
) -> Program:
    model, workers = worker.model, worker.workers
    whole, number = range(model.num_layers), 0
    steps = [of_worker(rank, "sync_every", sync_every) for rank in range(workers)]
    training = participants(workers, share, seed, number)
    while worker.next_round(steps=_of_those(training, steps)):
        following = participants(workers, share, seed, number + 1)
        receiving = {0, *training, *following}
        if worker.rank in training:
            yield worker.compute(model.inner_step, times=steps[worker.rank])
        if worker.rank in receiving:
            parameters = model.parameters(whole)
            yield from mean.all_reduce(worker, parameters, whole, over=receiving)
            yield worker.compute(model.average_parameters, whole, commits=True)
        else:
            yield worker.compute(sit_out, commits=True)
        training, number = following, number + 1


def _of_those(training: tuple[int, ...], steps: list[int]) -> tuple[int, ...]:
    """Return every worker's inner steps of a round in which some train."""
    chosen = set(training)
    return tuple(own if rank in chosen else 0 for rank, own in enumerate(steps))
