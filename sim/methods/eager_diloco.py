"""Eager DiLoCo: own fresh outer gradient mixed with the others' stale ones."""

from __future__ import annotations

from sim.methods.arguments import (
    CommDtype,
    Count,
    Delay,
    Exchanged,
    Momentum,
    Rate,
    Seconds,
    SyncEvery,
)
from sim.methods.exchange import Exchange
from sim.methods.stale_outer_steps import stale_outer_steps
from sim.program import Program, Worker, keeps_equal


@keeps_equal("received")
def eager_diloco(
    worker: Worker,
    *,
    sync_every: SyncEvery | tuple[SyncEvery, ...] = 100,
    outer_sync_delay: Count = 1,
    num_fragments: Count = 1,
    outer_lr: Rate = 0.7,
    outer_momentum: Momentum = 0.9,
    use_nesterov: bool = True,
    comm_dtype: CommDtype | None = None,
    exchange: Exchanged = "whole",
    bucket_bytes: Count = 25 * 2**20,
    control_round_trips: Delay = 0,
    control_time: Seconds = 0.0,
) -> Program:
    """Overlap each all-reduce with a whole round, but use this worker's outer gradient at once.

    Every H inner steps: Delta_m(t) = theta_m(t-H) - theta_m(t) is sent, and
    Delta~_m = Delta(t-kH) + (Delta_m(t) - Delta_m(t-kH)) / M;
    theta_m(t) = OuterOpt(theta_m(t-H), Delta~_m). Missing stale terms are zero, so the first
    k rounds use Delta_m / M. Workers' parameters differ after the step. With a quantized
    comm_dtype both terms of this worker are the dequantized values that were sent.

    Parameters
    ----------
    sync_every
        H, inner steps between two outer steps of one fragment: one number, or one per worker.
    outer_sync_delay
        k, outer rounds between sending and receiving.
    num_fragments
        P, strided fragments with offsets as in Streaming DiLoCo; 1 is the whole model.
    outer_lr
        Learning rate of the outer optimizer, SGD.
    outer_momentum
        Momentum of the outer optimizer, one per worker.
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
    Kale et al. 2025, "Eager Updates", arXiv:2502.12996, Algorithm 1. Differs from the paper:
    at the end each stale mean still in flight is applied with this worker's fresh term zero, which
    brings the workers' parameters together again (exactly, without momentum).
    """
    model = worker.model

    def step(layers: range, sent: int | None, received: int | None) -> Program:
        # What is taken in at the end, with nothing sent, is no new update.
        outer_step = (layers, sent, received, outer_lr, outer_momentum, use_nesterov)
        yield worker.compute(model.eager_outer_step, *outer_step, commits=sent is not None)

    yield from stale_outer_steps(
        worker,
        step,
        sync_every=sync_every,
        rounds=outer_sync_delay,
        num_fragments=num_fragments,
        mean=Exchange(
            comm_dtype or model.param_dtype,
            exchange,
            bucket_bytes,
            control_round_trips,
            control_time,
        ),
    )
