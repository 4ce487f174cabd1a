"""Streaming DiLoCo: fragments in turn, sent while training continues."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Literal, NamedTuple

from sim.methods.arguments import (
    CommDtype,
    Count,
    Delay,
    Exchanged,
    Fraction,
    Momentum,
    Pattern,
    Rate,
    Seconds,
    Spacing,
    SyncEvery,
    of_worker,
)
from sim.methods.exchange import Exchange
from sim.methods.fragments import fragments, send_steps
from sim.methods.layer_by_layer import layered_step
from sim.program import Activity, ArgumentError, Program, Worker, keeps_equal


class _Sent(NamedTuple):
    due: int  # applied after this inner step
    layers: range
    slot: int
    reductions: list[Activity]


@keeps_equal("outer parameters")
def streaming_diloco(
    worker: Worker,
    *,
    sync_every: SyncEvery | tuple[SyncEvery, ...] = 100,
    num_fragments: Count | None = None,
    layers_per_fragment: Count | None = 3,
    fragment_pattern: Pattern = "strided",
    fragment_spacing: Spacing = "exact",
    fragment_sync_delay: Delay | tuple[Delay, ...] = 1,
    fragment_update_alpha: Fraction = 0.0,
    overlap: Literal["none", "layer"] = "none",
    outer_lr: Rate = 0.4,
    outer_momentum: Momentum = 0.9,
    use_nesterov: bool = True,
    comm_dtype: CommDtype | None = None,
    exchange: Exchanged = "whole",
    bucket_bytes: Count = 25 * 2**20,
    control_round_trips: Delay = 0,
    control_time: Seconds = 0.0,
) -> Program:
    """Send one fragment of the layers at a time and apply it tau inner steps later.

    Fragment p has its own offset t_p. After inner step t:

    - (t - t_p) mod H = 0: Delta_{m,p} = theta_p - theta_{m,p}(t); start its all-reduce.
    - (t - t_p - tau) mod H = 0: wait for it; theta_p = OuterOpt(theta_p, Delta_p);
      theta_{m,p} = alpha theta_{m,p} + (1 - alpha) theta_p.

    Parameters
    ----------
    sync_every
        H, inner steps between two outer steps of one fragment: one number, or one per worker,
        whose fragments then leave at its own steps, in the same order.
    num_fragments
        P, fragments of the model; replaces layers_per_fragment.
    layers_per_fragment
        Layers of a fragment: P = ceil(layers / layers_per_fragment).
    fragment_pattern
        "strided": layer l belongs to fragment l mod P. "sequential": a fragment is a run of
        consecutive layers.
    fragment_spacing
        "exact": fragment p leaves after step floor((p+1) H / P) of every H. "nearest": one
        fragment every round(H / P) steps.
    fragment_sync_delay
        tau in inner steps, one number or one per worker; may exceed the period, and several
        sends of one fragment are then in flight and applied in order.
    fragment_update_alpha
        alpha, the weight of the local parameters.
    overlap
        "layer": in the step after which a fragment is sent, the inner optimizer and the
        reduction of each of its layers follow that layer's backward, and its forward in step
        t + 1 + tau waits for it (no clipping by the global norm then).
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
    Douillard et al. 2025, "Streaming DiLoCo", arXiv:2501.18512, Algorithm 2. Left open there,
    settled here: theta_p in Delta is the outer parameters at the last *applied* update, as in
    torchft; the embedding goes with the first layer and the final norm with the last.
    Differs from the paper: alpha is 0 by default, as in torchft (0.5 in the paper).
    """
    model = worker.model
    mean = Exchange(
        comm_dtype or model.param_dtype, exchange, bucket_bytes, control_round_trips, control_time
    )
    if num_fragments is not None:
        layers_per_fragment = None
    parts = fragments(model.num_layers, num_fragments, layers_per_fragment, fragment_pattern)
    tau = of_worker(worker.rank, "fragment_sync_delay", fragment_sync_delay)
    steps = of_worker(worker.rank, "sync_every", sync_every)
    period, send_after = send_steps(steps, len(parts), fragment_spacing)
    periods: int | tuple[int, ...] = period
    per_layer = overlap == "layer"
    if per_layer and control_round_trips:
        raise ArgumentError(
            'control_round_trips goes with overlap = "none": layer by layer there is no one '
            "exchange before which members agree"
        )
    if isinstance(sync_every, tuple):
        schedules = [send_steps(steps, len(parts), fragment_spacing) for steps in sync_every]
        periods = tuple(period for period, _ in schedules)
        together = {tuple(a == b for a, b in pairwise(after)) for _, after in schedules}
        if per_layer and len(together) > 1:
            raise ArgumentError(
                f"sync_every = {min(sync_every)} is less than the {len(parts)} fragments: with "
                'overlap = "layer" the fragments that leave together must be the same on all '
                "workers, whose sync_every differs; give more steps or fewer fragments"
            )
    slots = tau // period + 2  # of one fragment in flight at once
    in_flight: deque[_Sent] = deque()

    def send(layers: range, step: int) -> Program:
        slot = step // period % slots
        yield worker.compute(model.outer_gradient, layers, slot)
        reductions = yield from mean.start(worker, model.delta(layers, slot), layers)
        in_flight.append(_Sent(step + tau, layers, slot, reductions))

    def apply(sent: _Sent) -> Program:
        yield from sent.reductions
        yield worker.compute(
            model.outer_step,
            sent.layers,
            sent.slot,
            outer_lr,
            outer_momentum,
            use_nesterov,
            fragment_update_alpha,
            commits=True,
        )

    def step_by_layers(step: int, leaving: list[range]) -> Program:
        due: dict[int, list[_Sent]] = {}
        while in_flight and in_flight[0].due < step:
            sent = in_flight.popleft()
            due.setdefault(sent.layers.start, []).append(sent)

        def wait_for(arrivals: list[_Sent]) -> Callable[[], Program]:
            def wait() -> Program:
                for sent in arrivals:
                    yield from apply(sent)

            return wait

        yield from layered_step(
            worker,
            before={layer: wait_for(arrivals) for layer, arrivals in due.items()},
            send=[layer for layers in leaving for layer in layers],
            start=lambda layer: send(range(layer, layer + 1), step),
            optimize_before_send=True,
        )

    # Steps of a period (from 1) after which something is sent or applied.
    stops = {*send_after, *((after + tau - 1) % period + 1 for after in send_after), period}
    if per_layer:  # a step to be run layer by layer is also reached by a stop just before it
        stops |= {(stop - 2) % period + 1 for stop in send_after}
        stops |= {(after + tau) % period + 1 for after in send_after}
    leaving_after: dict[int, list[range]] = {stop: [] for stop in sorted(stops)}
    for part, after in zip(parts, send_after, strict=True):
        leaving_after[after].append(part)

    start = 0  # inner steps taken before this round
    while worker.next_round(steps=periods):
        position = 0
        for stop, leaving in leaving_after.items():
            waiting = bool(in_flight) and in_flight[0].due < start + stop
            if per_layer and stop == position + 1 and (leaving or waiting):
                yield from step_by_layers(start + stop, leaving)
            else:
                yield worker.compute(model.inner_step, times=stop - position)
            position = stop
            if per_layer:
                continue
            for layers in leaving:
                yield from send(layers, start + stop)
            while in_flight and in_flight[0].due <= start + stop:
                yield from apply(in_flight.popleft())
        start += period
    while in_flight:
        yield from apply(in_flight.popleft())
