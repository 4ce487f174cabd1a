"""Programs whose collectives are over some of the workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sim.program import Program, Worker

Parts = Callable[[int], Sequence[Sequence[int]]]


def neighbours(number: int, workers: int) -> list[tuple[int, ...]]:
    """Return pairs of neighbours in a ring, by turns with the one or the other; one may be left."""
    ring = [(place + number) % workers for place in range(workers)]
    return [tuple(ring[place : place + 2]) for place in range(0, workers, 2)]


def two_levels(worker: Worker, *, sync_every: int, average_every: int) -> Program:
    """Local SGD in pairs that change by round, and over all workers every ``average_every``th."""
    model, number = worker.model, 0
    whole = range(model.num_layers)
    while worker.next_round(steps=sync_every):
        yield worker.compute(model.inner_step, times=sync_every)
        over = None
        if (number + 1) % average_every:
            pairs = neighbours(number, worker.workers)
            over = next(pair for pair in pairs if worker.rank in pair)
        yield worker.all_reduce(model.parameters(whole), model.param_dtype, over=over)
        yield worker.compute(model.average_parameters, whole, commits=True)
        number += 1


def parts_of(workers: int, average_every: int) -> Parts:
    """Return over whom each round of :func:`two_levels` averages."""
    return lambda number: (
        neighbours(number, workers) if (number + 1) % average_every else [tuple(range(workers))]
    )


def around(worker: Worker) -> Program:
    """Send parameters around the ring, next to a collective of all; ranks call in other orders."""
    model, rank = worker.model, worker.rank
    whole = range(model.num_layers)
    after, before = (rank + 1) % worker.workers, (rank - 1) % worker.workers
    while worker.next_round(steps=1):
        yield worker.compute(model.inner_step)
        yield worker.compute(model.outer_gradient, whole)
        parameters, delta = model.parameters(whole), model.delta(whole)
        if rank % 2:
            received = worker.receive(delta, "fp32", source=before)
            sent = worker.send(parameters, "fp32", to=after)
            yield received
            yield sent
            yield worker.all_reduce(parameters, "fp32")
        else:
            sent = worker.send(parameters, "fp32", to=after)
            yield sent
            reduced = worker.all_reduce(parameters, "fp32")
            yield worker.receive(delta, "fp32", source=before)
            yield reduced
        yield worker.compute(model.outer_step, whole, 0, 0.1, 0.5, False, 0.5, commits=True)


def exchanged(worker: Worker, over: tuple[int, ...]) -> Program:
    """Average outer gradients in a background task."""
    model = worker.model
    yield worker.all_reduce(model.delta(range(model.num_layers)), "bf16", over=over)


def at_once(worker: Worker) -> Program:
    """Average outer gradients in pairs of neighbours, and parameters with the other neighbour."""
    model, number = worker.model, 0
    whole = range(model.num_layers)
    while worker.next_round(steps=1):
        one, other = (
            next(pair for pair in neighbours(turn, worker.workers) if worker.rank in pair)
            for turn in (number, number + 1)
        )
        yield worker.compute(model.inner_step)
        yield worker.compute(model.outer_gradient, whole)
        side = worker.spawn(exchanged, one)
        yield worker.all_reduce(model.parameters(whole), "int8", over=other)
        yield side
        yield worker.compute(model.outer_step, whole, 0, 1.0, 0.5, False, 0.5, commits=True)
        number += 1
