"""DiLoCo: local training, and an outer optimizer on what the workers moved."""

from __future__ import annotations

from typing import Literal

from sim.methods.arguments import (
    CommDtype,
    Count,
    Delay,
    Exchanged,
    Momentum,
    Rate,
    Seconds,
    SyncEvery,
    of_worker,
)
from sim.methods.exchange import Exchange
from sim.methods.streaming_diloco import streaming_diloco
from sim.program import Equal, Program, Worker, keeps_equal


def _equal(overlap: str, **_: object) -> Equal:
    """Layer by layer the last inner step of a round is taken before the outer one is."""
    return "outer parameters" if overlap == "layer" else "parameters"


@keeps_equal(_equal)
def diloco(
    worker: Worker,
    *,
    sync_every: SyncEvery | tuple[SyncEvery, ...] = 100,
    overlap: Literal["none", "layer"] = "none",
    outer_lr: Rate = 0.7,
    outer_momentum: Momentum = 0.9,
    use_nesterov: bool = True,
    comm_dtype: CommDtype | None = None,
    exchange: Exchanged = "whole",
    bucket_bytes: Count = 25 * 2**20,
    control_round_trips: Delay = 0,
    control_time: Seconds = 0.0,
) -> Program:
    """Take H local steps, average the outer gradients, take one outer step; blocking.

    Every ``sync_every`` (H) inner steps: Delta_m = theta(t-H) - theta_m(t); Delta = mean over
    m; theta(t) = OuterOpt(theta(t-H), Delta), from which every worker continues.

    Parameters
    ----------
    sync_every
        H, inner steps between two outer steps: one number, or one per worker.
    overlap
        "none": reduce after the H-th step. "layer": in the H-th step each layer's inner
        optimizer and reduction follow its backward, and only that layer's next forward waits.
    outer_lr
        Learning rate of the outer optimizer, SGD.
    outer_momentum
        Momentum of the outer optimizer.
    use_nesterov
        Whether that momentum is Nesterov's.
    comm_dtype
        Type in which outer gradients travel; by default the model's param_dtype.
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
    Douillard et al. 2023, "DiLoCo", arXiv:2311.08105, Algorithm 1.
    """
    model = worker.model
    whole = range(model.num_layers)
    if overlap == "layer":
        # One fragment, no delay: the text of Streaming DiLoCo says the rest.
        yield from streaming_diloco(
            worker,
            sync_every=sync_every,
            num_fragments=1,
            fragment_sync_delay=0,
            overlap="layer",
            outer_lr=outer_lr,
            outer_momentum=outer_momentum,
            use_nesterov=use_nesterov,
            comm_dtype=comm_dtype,
            exchange=exchange,
            bucket_bytes=bucket_bytes,
            control_round_trips=control_round_trips,
            control_time=control_time,
        )
        return
    mean = Exchange(
        comm_dtype or model.param_dtype, exchange, bucket_bytes, control_round_trips, control_time
    )
    steps = of_worker(worker.rank, "sync_every", sync_every)
    while worker.next_round(steps=sync_every):
        yield worker.compute(model.inner_step, times=steps)
        yield worker.compute(model.outer_gradient, whole)
        yield from mean.all_reduce(worker, model.delta(whole), whole)
        outer_step = (whole, 0, outer_lr, outer_momentum, use_nesterov, 0.0)
        yield worker.compute(model.outer_step, *outer_step, commits=True)
