"""Collectives over some of the workers: ``over=`` of a program's collectives."""

from __future__ import annotations

from dataclasses import replace

from plain_scenario import plain

from sim.effort import _count
from sim.program import Program, Worker
from sim.runtime import simulate
from sim.scenario.resolved import Collectives, Run, Scenario, Site


def at_two_sites(program, **other) -> Scenario:
    """Three workers: 0 and 2 at the first site, 1 at the second."""
    asked = plain(program, workers=3, run=Run(rounds=2), **other)
    workers = tuple(replace(each, site=each.rank % 2) for each in asked.workers)
    network = replace(asked.network, bandwidth=((1.0, 1.0),) * 2, latency=((0.0, 0.0),) * 2)
    return replace(asked, workers=workers, sites=(Site("a", 2), Site("b", 1)), network=network)


def test_a_program_knows_how_many_workers_there_are_and_which_are_at_its_site() -> None:
    seen = {}

    def looking(worker: Worker) -> Program:
        seen[worker.rank] = worker.workers, worker.site
        while worker.next_round(steps=1):
            yield worker.compute(worker.model.inner_step)

    simulate(at_two_sites(looking))
    assert seen == {0: (3, (0, 2)), 1: (3, (1,)), 2: (3, (0, 2))}


def test_the_effort_of_a_collective_is_that_of_its_members() -> None:
    def averaging(worker: Worker, *, inside: bool) -> Program:
        parameters = worker.model.parameters(range(worker.model.num_layers))
        while worker.next_round(steps=1):
            yield worker.all_reduce(parameters, "fp32", over=worker.site if inside else None)

    def messages(**arguments) -> float:
        gloo = Collectives("gloo")
        return _count(at_two_sites(averaging, arguments=arguments, collectives=gloo)).messages

    assert messages(inside=True) < messages(inside=False)
