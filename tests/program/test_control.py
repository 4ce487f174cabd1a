"""Control messages: what they cost, whom they wait for, and what they do not wait for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.plain_scenario import machine, plain

from sim.figures.evaluation import figures
from sim.program import ArgumentError, Program, Worker
from sim.records.scenario import Network, Scenario
from sim.runtime import simulate
from sim.runtime.errors import Deadlock, SimulationError
from sim.scenario import ScenarioError, load

# One way, by sender and receiver: the slowest pair are the last two, 0.5 + 0.75 s.
LATENCY = ((0.0, 0.125, 0.25), (0.25, 0.0, 0.5), (0.25, 0.75, 0.0))


def unequal(method: Any, arguments: dict[str, Any] | None = None, **other: Any) -> Scenario:
    found = plain(method, arguments, machines=[machine(1.0), machine(1.0), machine(2.0)], **other)
    return replace(found, network=Network(((100.0,) * 3,) * 3, LATENCY))


def diloco(**arguments: Any) -> Scenario:
    return unequal("diloco", {"sync_every": 2, "comm_dtype": "bf16", **arguments})


def test_an_exchange_waits_for_round_trips_of_the_slowest_pair_and_seconds() -> None:
    plainly = simulate(diloco(), rounds=4).total_s
    agreed = simulate(diloco(control_round_trips=2, control_time=0.25), rounds=4).total_s
    assert agreed - plainly == pytest.approx(4 * (2 * 1.25 + 0.25), rel=1e-12)


def test_control_messages_are_waiting_and_exposed_communication_and_send_no_bytes() -> None:
    plainly, agreed = (simulate(diloco(control_round_trips=n), rounds=4) for n in (0, 2))
    for trace in (plainly, agreed):
        sent = sum(row.bytes for row in trace.rows)
        assert sent == sum(row.bytes for row in plainly.rows)
    rows = [row for row in agreed.rows if row.operation == "control"]
    assert len(rows) == 4 * len(agreed.context.standing_for)
    for row in rows:
        assert (row.group, row.times) == ("main control", 2)
        assert row.end_s - row.ready_s == pytest.approx(2.5)
    before, after = (figures(trace).breakdown for trace in (plainly, agreed))
    assert after["exposed_communication"] > before["exposed_communication"]
    assert after["compute"] < before["compute"]


def test_control_messages_pass_a_collective_that_is_on_the_wire() -> None:
    def method(worker: Worker) -> Program:
        model = worker.model
        while worker.next_round(steps=1):
            reduction = worker.all_reduce(model.parameters(range(model.num_layers)), "bf16")
            yield worker.control(1)
            yield worker.compute(model.inner_step)
            yield reduction

    trace = simulate(unequal(method), rounds=1)
    control, reduction = (
        next(row for row in trace.rows if row.operation == name)
        for name in ("control", "all_reduce")
    )
    assert control.end_s == 1.25
    assert reduction.end_s > control.end_s


def test_some_members_wait_for_their_own_slowest_pair() -> None:
    def method(worker: Worker) -> Program:
        while worker.next_round(steps=1):
            if worker.rank < 2:
                yield worker.control(2, over=(0, 1))
            yield worker.compute(worker.model.inner_step)

    rows = [row for row in simulate(unequal(method), rounds=1).rows if row.operation == "control"]
    assert [(row.rank, row.group, row.end_s) for row in rows] == [
        (0, "main control[0,1]", 0.75),
        (1, "main control[0,1]", 0.75),
    ]


def test_who_never_comes_is_named() -> None:
    def method(worker: Worker) -> Program:
        while worker.next_round(steps=1):
            if worker.rank != 1:
                yield worker.control(1)
            yield worker.compute(worker.model.inner_step)

    with pytest.raises(Deadlock, match="which rank 1 never issued"):
        simulate(unequal(method), rounds=1)


@pytest.mark.parametrize(("trips", "seconds"), [(0, 0.0), (1, -1.0), (1, float("inf"))])
def test_control_messages_that_are_none_are_refused(trips: int, seconds: float) -> None:
    def method(worker: Worker) -> Program:
        while worker.next_round(steps=1):
            yield worker.control(trips, seconds)

    with pytest.raises(SimulationError, match="control: "):
        simulate(plain(method), rounds=1)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ArgumentError, match="control_round_trips of at least 1"):
        simulate(diloco(control_time=0.1), rounds=1)
    with pytest.raises(ArgumentError, match="layer by layer"):
        simulate(diloco(control_round_trips=1, overlap="layer"), rounds=1)


def test_a_files_control_time_has_a_unit() -> None:
    settings = ["model.name=10B", "method.name=diloco", "method.control_round_trips=2"]
    asked = load(settings=[*settings, "method.control_time=5 ms"])
    assert asked.method.arguments["control_time"] == 0.005
    with pytest.raises(ScenarioError, match=r"method\.control_time"):
        load(settings=[*settings, "method.control_time=5 parsecs"])


def test_a_delay_is_waited_for_before_rounds_are_evaluated() -> None:
    """What is awaited in the first round is control alone, and no result yet."""
    arguments = {"sync_every": 1, "outer_sync_delay": 12, "control_round_trips": 1}
    window = simulate(unequal("delayed_diloco", arguments)).context.window
    assert window is not None
    assert window.first >= 12
