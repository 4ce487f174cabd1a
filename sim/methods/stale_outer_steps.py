"""The schedule shared by delayed and eager DiLoCo: averages that arrive k outer rounds late."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from sim.methods.arguments import of_worker
from sim.methods.exchange import Exchange
from sim.methods.fragments import fragments, send_steps
from sim.program import Activity, Program, Worker

Step = Callable[[range, int | None, int | None], Program]
"""What to do for (layers, slot just sent, slot just received); None where there is neither."""


def stale_outer_steps(
    worker: Worker,
    step: Step,
    *,
    sync_every: int | tuple[int, ...],
    rounds: int,
    num_fragments: int,
    mean: Exchange,
) -> Program:
    """Send every fragment's outer gradient each H steps and receive it ``rounds`` (k) rounds later.

    At a fragment's outer step t: send Delta(t), wait for the mean of Delta(t - kH), call
    ``step``. What is in flight at the end is received with one more ``step`` each.
    """
    model = worker.model
    parts = fragments(model.num_layers, num_fragments)
    send_after = send_steps(of_worker(worker.rank, "sync_every", sync_every), len(parts))[1]
    in_flight: list[deque[tuple[int, list[Activity]]]] = [deque() for _ in parts]
    number = 0

    while worker.next_round(steps=sync_every):
        slot = number % (rounds + 1)
        position = 0
        for part, layers in enumerate(parts):
            if send_after[part] > position:
                yield worker.compute(model.inner_step, times=send_after[part] - position)
                position = send_after[part]
            yield worker.compute(model.outer_gradient, layers, slot)
            reductions = yield from mean.start(worker, model.delta(layers, slot), layers)
            in_flight[part].append((slot, reductions))
            received = None
            if len(in_flight[part]) > rounds:
                received, reductions = in_flight[part].popleft()
                yield from reductions
            yield from step(layers, slot, received)
        number += 1

    for _ in range(rounds):
        for part, layers in enumerate(parts):
            if in_flight[part]:
                received, reductions = in_flight[part].popleft()
                yield from reductions
                yield from step(layers, None, received)
