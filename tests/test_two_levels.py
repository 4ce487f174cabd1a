"""Averages of pairs, and now and then of everyone: local SGD at two levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from plain_scenario import machine, plain

from sim.program import Program, Worker
from sim.scenario.resolved import Collectives, Scenario, Site
from sim.theory import wall_clock_of_averages

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


def asked(sync_every: int, average_every: int, **other) -> Scenario:
    arguments = {"sync_every": sync_every, "average_every": average_every}
    return plain(two_levels, arguments, collectives=Collectives("ring"), **other)


def test_equal_workers_take_the_time_of_their_steps_and_of_each_ring() -> None:
    """2 (M - 1) (latency + S / (M W)) of pairs, and every third time of all four."""
    scenario = asked(5, 3, workers=4, latency=0.1)
    timing = wall_clock_of_averages(scenario, 7, parts_of(4, 3))
    pair, everyone = 2 * (0.1 + 200 / 2 / 100), 6 * (0.1 + 200 / 4 / 100)
    rounds = 5 * 1.0 + np.array([pair, pair, everyone, pair, pair, everyone, pair])
    begins = np.concatenate([[0], np.cumsum(rounds)])
    np.testing.assert_allclose(timing.round_begins_s, begins[:, None] * np.ones(4), rtol=1e-12)
    assert timing.total_s == pytest.approx(begins[-1])


def test_a_slow_worker_delays_its_partners_first_and_then_theirs() -> None:
    """Nothing is sent in no time: a round begins when the slower one of a pair is there."""
    machines = [machine(1.0), machine(1.0), machine(1.0), machine(4.0)]
    scenario = asked(1, 99, machines=machines, bandwidth=1e15)
    begins = wall_clock_of_averages(scenario, 3, parts_of(4, 99)).round_begins_s
    np.testing.assert_allclose(begins, [[0, 0, 0, 0], [1, 1, 4, 4], [8, 5, 5, 8], [9, 9, 12, 12]])


def test_averages_that_would_share_a_link_are_refused() -> None:
    scenario = asked(1, 99, workers=4)
    workers = tuple(replace(each, site=each.rank % 2) for each in scenario.workers)
    network = replace(scenario.network, bandwidth=((1.0, 1.0),) * 2, latency=((0.0, 0.0),) * 2)
    sites = (Site("a", 2), Site("b", 2))
    crowded = replace(scenario, workers=workers, sites=sites, network=network)
    with pytest.raises(ValueError, match=r"share link .* and slow each other down"):
        wall_clock_of_averages(crowded, 1, parts_of(4, 99))
