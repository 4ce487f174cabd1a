"""What one worker sends to another: ``send`` and ``receive`` of a program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.plain_scenario import plain

from sim.models.quadratic import Numbers
from sim.program import ArgumentError, Program, Worker
from sim.records.scenario import Collectives, Scenario
from sim.runtime import CollectiveMismatch, Deadlock, simulate

ALGORITHMS = ["direct", "ring", "tree", "halving_doubling", "hierarchical", "nccl", "gloo"]
SIZE = 100_000
"""Elements of 4 bytes: 4 s at 100 kB/s."""


def buffer(value: float = 0.0, size: int = SIZE) -> Numbers:
    return Numbers("block", "", np.full(size, value))


def asked(program: Callable[..., Program], algorithm: str, **other: Any) -> Scenario:
    return plain(program, collectives=Collectives(algorithm), **other)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_sent_takes_the_link_in_its_direction(algorithm: str) -> None:
    """0 to 1 at 100 kB/s, 1 to 0 at 50; each a latency of 1 s."""
    seen = {}

    def there_and_back(worker: Worker) -> Program:
        while worker.next_round(steps=1):
            for sender in (0, 1):
                if worker.rank == sender:
                    yield worker.send(buffer(), "fp32", to=1 - sender)
                else:
                    yield worker.receive(buffer(), "fp32", source=sender)
                    seen[sender] = worker.now

    plain_links = asked(there_and_back, algorithm, latency=1.0)
    network = replace(plain_links.network, bandwidth=((1e5, 1e5), (5e4, 1e5)))
    simulate(replace(plain_links, network=network), rounds=1)
    # Over gloo the receiver says first that it is ready; the second time it has said so before.
    there = 4 + (2 if algorithm == "gloo" else 1)
    assert seen[0] == pytest.approx(there, abs=0.01)
    assert seen[1] == pytest.approx(there + 8 + 1, abs=0.01)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_both_may_send_first_and_numbers_arrive(algorithm: str) -> None:
    """The two directions are matched apart, whatever else is called between them."""
    found: dict[int, list[float]] = {0: [], 1: []}

    def exchange(worker: Worker) -> Program:
        other, common = 1 - worker.rank, buffer(1.0)
        while worker.next_round(steps=1):
            own = [worker.send(buffer(10.0 * worker.rank + i), "fp32", to=other) for i in range(2)]
            if worker.rank:
                own.append(worker.all_reduce(common, "fp32", mean=False))
            arrived = [buffer(-1.0) for _ in range(2)]
            own += [worker.receive(each, "fp32", source=other) for each in arrived]
            if not worker.rank:
                own.append(worker.all_reduce(common, "fp32", mean=False))
            yield from own
            found[worker.rank] = [each.values[0] for each in (*arrived, common)]

    simulate(asked(exchange, algorithm), rounds=1)
    assert found == {0: [10.0, 11.0, 2.0], 1: [0.0, 1.0, 2.0]}


def test_equal_workers_of_which_one_sends_are_simulated_apart() -> None:
    trace = simulate(asked(one_way, "ring"), rounds=2)
    sent = [row for row in trace.rows if row.bytes]
    assert {(row.rank, row.operation, row.group) for row in sent} == {
        (rank, "send", "main 0 to 1") for rank in (0, 1)
    }


def one_way(worker: Worker) -> Program:
    while worker.next_round(steps=1):
        if worker.rank:
            yield worker.receive(buffer(), "fp32", source=0)
        else:
            yield worker.send(buffer(), "fp32", to=1)


def test_a_send_that_nobody_receives_is_an_error_that_names_both() -> None:
    def sends(worker: Worker) -> Program:
        while worker.next_round(steps=1):
            if not worker.rank:
                yield worker.send(buffer(), "fp32", to=1)
            yield worker.compute(worker.model.inner_step)

    with pytest.raises(Deadlock, match=r"rank 0 .*group main 0 to 1, which rank 1 never issued"):
        simulate(asked(sends, "ring"), rounds=1)

    def unlike(worker: Worker) -> Program:
        while worker.next_round(steps=1):
            if worker.rank:
                yield worker.receive(buffer(size=7), "fp32", source=0)
            else:
                yield worker.send(buffer(), "fp32", to=1)

    with pytest.raises(CollectiveMismatch, match="group main 0 to 1"):
        simulate(asked(unlike, "ring"), rounds=1)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda worker: worker.send(buffer(), "fp32", to=worker.rank), "send: to=0: is this "),
        (lambda worker: worker.send(buffer(), "fp32", to=9), "send: to=9: .*there is no rank 9"),
        (lambda worker: worker.receive(buffer(), "fp32", source=-1), "receive: source=-1: "),
    ],
)
def test_a_mistake_is_a_line(call: Callable[[Worker], Any], said: str) -> None:
    def mistaken(worker: Worker) -> Program:
        while worker.next_round(steps=1):
            yield call(worker)

    with pytest.raises(ArgumentError, match=said):
        simulate(asked(mistaken, "ring"), rounds=1)
