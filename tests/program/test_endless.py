"""A program that never ends is stopped in one line, within bounds of time and memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from support.plain_scenario import machine, plain

from sim.program import Program, Worker
from sim.questions import effort
from sim.records.scenario import Run
from sim.runtime import SimulationError, TooLarge, limits, progress, simulate

MANY = 5000


def goes_on(worker: Worker) -> Program:
    while True:
        worker.next_round(steps=1)
        yield worker.compute(worker.model.inner_step)


def computes(worker: Worker) -> Program:
    worker.next_round(steps=1)
    while True:
        yield worker.compute(worker.model.inner_step)


def computes_without_waiting(worker: Worker) -> Program:
    while worker.next_round(steps=1):
        while True:
            worker.compute(worker.model.inner_step)
        yield


def reduces_without_waiting(worker: Worker) -> Program:
    while worker.next_round(steps=1):
        while True:
            worker.all_reduce(worker.model.gradient(range(2)), "fp32")
        yield


def waits_for_the_same(worker: Worker) -> Program:
    worker.next_round(steps=1)
    done = worker.compute(worker.model.inner_step)
    while True:
        yield done


def waits_for_the_same_collective(worker: Worker) -> Program:
    worker.next_round(steps=1)
    done = worker.all_reduce(worker.model.gradient(range(2)), "fp32")
    while True:
        yield done


def idle(worker: Worker) -> Program:
    yield worker.compute(worker.model.inner_step)


def spawns(worker: Worker) -> Program:
    while worker.next_round(steps=1):
        while True:
            worker.spawn(idle)
        yield


def spawns_and_waits(worker: Worker) -> Program:
    worker.next_round(steps=1)
    while True:
        yield worker.spawn(idle)


def spawns_itself(worker: Worker) -> Program:
    worker.next_round(steps=1)
    yield worker.spawn(spawns_itself)


def looks(worker: Worker) -> Program:
    worker.next_round(steps=1)
    while worker.now < 1:
        pass
    yield worker.compute(worker.model.inner_step)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_ROWS", MANY)
    monkeypatch.setattr(limits, "MOST_UNFINISHED", MANY // 2)
    monkeypatch.setattr(progress, "MOST_IN_A_ROUND", MANY)


def test_a_program_that_ignores_the_answer_of_next_round_is_stopped() -> None:
    with pytest.raises(SimulationError, match=r"rank 0: .* 1000 rounds since next_round answered"):
        simulate(plain(goes_on, run=Run(rounds=3)))


@pytest.mark.parametrize("seconds", [1.0, 0.0])
@pytest.mark.parametrize(
    ("program", "says"),
    [
        (computes, "passed 5000 operations in round 1|no time passes"),
        (computes_without_waiting, "2500 operations have been started|passed 5000 operations"),
        (reduces_without_waiting, "2500 operations have been started"),
        (waits_for_the_same, "waited 2500 times for what had ended, and no time passes"),
        (waits_for_the_same_collective, "waited 2500 times for what had ended, and no time passes"),
        (spawns, "2500 operations have been started|passed 5000 operations"),
        (spawns_and_waits, "passed 5000 operations in round 1|no time passes"),
        (spawns_itself, "spawns_itself failed: RecursionError|operations"),
        (looks, "passed 5000 operations in round 1"),
    ],
)
def test_one_that_never_comes_to_its_next_round_is_stopped(
    few: None, program: Callable[..., Program], says: str, seconds: float
) -> None:
    machines = [machine(step_seconds=seconds)] * 2
    with pytest.raises(SimulationError, match=says) as stopped:
        simulate(plain(program, machines=machines, run=Run(rounds=3)))
    assert "\n" not in str(stopped.value)


@pytest.mark.parametrize(
    ("program", "most"),
    [
        (computes, "MOST_ROWS"),
        (looks, "MOST_ROWS"),
        (spawns_and_waits, "MOST_ROWS"),
        (computes_without_waiting, "MOST_UNFINISHED"),
        (reduces_without_waiting, "MOST_UNFINISHED"),
        (spawns, "MOST_UNFINISHED"),
    ],
)
def test_what_it_has_started_until_then_fits_into_two_gigabytes(
    few: None, program: Callable[..., Program], most: str
) -> None:
    whole = 3_000_000 if most == "MOST_ROWS" else 300_000
    asked = plain(program, run=Run(rounds=3))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            simulate(asked)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak / getattr(limits, most) * whole < 2 * 2**30


@pytest.mark.parametrize(
    "program",
    [computes, reduces_without_waiting, waits_for_the_same, spawns, spawns_itself, looks, goes_on],
)
def test_the_estimate_of_what_it_takes_ends(
    program: Callable[..., Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effort, "_MOST_COUNTED", MANY)
    assert effort.effort(plain(program, run=Run(rounds=3))).seconds > 0


def test_real_processes_stop_it_as_well() -> None:
    pytest.importorskip("torch")
    from realrun.errors import RunError
    from realrun.runtime.shared import Limits, Shared
    from realrun.runtime.worker import TorchWorker
    from sim.models.sized import Sized

    asked = plain(goes_on)
    worker = TorchWorker(Shared(0, 1, Sized(asked.model, 1, 1.0), Limits(rounds=2)))
    with pytest.raises(RunError, match="1000 rounds since next_round answered False"):
        worker.drive(goes_on(worker))


@pytest.mark.parametrize("program", [computes, computes_without_waiting, waits_for_the_same])
def test_real_processes_stop_one_that_never_comes_to_its_next_round(
    few: None, program: Callable[..., Program]
) -> None:
    pytest.importorskip("torch")
    from realrun.errors import RunError
    from realrun.runtime.shared import Limits, Shared
    from realrun.runtime.worker import TorchWorker
    from sim.models.sized import Sized

    asked = plain(program)
    worker = TorchWorker(Shared(0, 1, Sized(asked.model, 1, 1.0), Limits(rounds=2)))
    with pytest.raises(RunError, match="begun 5000 operations since it last called next_round"):
        worker.drive(program(worker))


@pytest.mark.parametrize("program", [computes, computes_without_waiting, waits_for_the_same])
def test_a_rehearsal_of_its_memory_ends_as_well(few: None, program: Callable[..., Program]) -> None:
    pytest.importorskip("torch")
    from realrun.model.memory import state_bytes
    from realrun.model.stages import ModelError

    with pytest.raises(ModelError, match="begun 5000 operations since it last called next_round"):
        state_bytes(plain(program), 0)
