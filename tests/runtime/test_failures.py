"""Activities that fail: who is told, when, and what the trace says."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from support.plain_scenario import plain

from sim.figures.evaluation import figures
from sim.program import PeerLost, Program
from sim.runtime import SimulationError, simulate
from sim.trace.table import WAIT, Row, Trace

WHOLE = range(2)
LOST = "rank 1 is lost"


def fail_later(worker: Any, activity: Any, seconds: float) -> None:
    """Let an activity of the simulator's fail; no scenario says so yet."""
    worker._shared.clock.after(seconds, lambda: activity.fail(PeerLost(LOST)))


def failing_reduction(worker: Any, after: float = 1.0) -> Any:
    """200 bytes at 100 bytes/s: two seconds, if it did not fail."""
    reduction = worker.all_reduce(worker.model.parameters(WHOLE), "bf16")
    if worker.rank == 0:
        fail_later(worker, reduction, after)
    return reduction


def row_of(trace: Trace, operation: str, rank: int = 0) -> Row:
    return next(row for row in trace.rows if (row.operation, row.rank) == (operation, rank))


def caught_by(program: Callable[..., Program]) -> Trace:
    return simulate(plain(program))


def test_a_program_may_catch_the_failure_of_what_it_waits_for() -> None:
    def catches(worker: Any) -> Program:
        try:
            yield failing_reduction(worker)
        except PeerLost as error:
            said.append(str(error))
            yield worker.compute(worker.model.accumulate)

    said: list[str] = []
    trace = caught_by(catches)
    assert said == [LOST]
    assert row_of(trace, "accumulate").begin_s == 1.0
    assert all(row.operation != "accumulate" for row in trace.rows if row.rank == 1)
    assert trace.total_s == 2.0  # the other rank has its result


def test_the_row_of_what_has_failed_ends_at_the_failure() -> None:
    def catches(worker: Any) -> Program:
        with suppress(PeerLost):
            yield failing_reduction(worker)

    trace = caught_by(catches)
    for operation in ("all_reduce", WAIT):
        row = row_of(trace, operation)
        assert (row.begin_s, row.ready_s, row.end_s) == (0.0, 0.0, 1.0)
        assert row_of(trace, operation, rank=1).end_s == 2.0
    assert sum(figures(trace).breakdown.values()) == pytest.approx(1.0)


def test_until_a_failure_the_others_waited_for_the_member_that_never_came() -> None:
    def one_never_calls(worker: Any) -> Program:
        if worker.rank == 0:
            try:
                yield failing_reduction(worker)
            except PeerLost:
                yield worker.compute(worker.model.accumulate)

    trace = caught_by(one_never_calls)
    row = row_of(trace, "all_reduce")
    assert (row.ready_s, row.end_s) == (1.0, 1.0)
    assert figures(trace).overall_breakdown["waiting"] > 0.0


def test_it_is_thrown_where_the_program_waits_however_late() -> None:
    def waits_later(worker: Any) -> Program:
        reduction = failing_reduction(worker)
        yield worker.compute(worker.model.accumulate, times=5)
        assert reduction.done
        try:
            yield reduction
        except PeerLost:
            yield worker.compute(worker.model.accumulate)

    trace = caught_by(waits_later)
    assert [row.end_s for row in trace.rows if (row.operation, row.rank) == ("accumulate", 0)] == [
        5.0,
        6.0,
    ]


def test_what_nobody_catches_ends_the_run_with_its_line() -> None:
    def waits(worker: Any) -> Program:
        yield failing_reduction(worker)

    with pytest.raises(SimulationError) as caught:
        simulate(plain(waits))
    assert str(caught.value) == LOST


def test_what_nobody_waits_for_ends_the_run_as_well() -> None:
    def forgets(worker: Any) -> Program:
        failing_reduction(worker)
        yield worker.compute(worker.model.accumulate, times=5)

    with pytest.raises(SimulationError) as caught:
        simulate(plain(forgets))
    assert str(caught.value) == LOST


def background(worker: Any) -> Program:
    yield failing_reduction(worker)


def test_a_spawned_program_that_does_not_catch_it_fails_for_who_waits_for_that() -> None:
    def spawns(worker: Any) -> Program:
        try:
            yield worker.spawn(background)
        except PeerLost:
            yield worker.compute(worker.model.accumulate)

    trace = caught_by(spawns)
    assert row_of(trace, "accumulate").begin_s == 1.0

    def does_not_catch(worker: Any) -> Program:
        yield worker.spawn(background)

    with pytest.raises(SimulationError, match=LOST):
        simulate(plain(does_not_catch))


def test_what_has_ended_cannot_fail() -> None:
    def fine(worker: Any) -> Program:
        yield failing_reduction(worker, after=3.0)
        yield worker.compute(worker.model.accumulate)

    trace = caught_by(fine)
    assert [row_of(trace, "all_reduce", rank).end_s for rank in (0, 1)] == [2.0, 2.0]
    assert trace.total_s == 3.0
