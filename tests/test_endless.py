"""A program that ignores that the horizon is reached is stopped, in both runtimes."""

from __future__ import annotations

import pytest
from plain_scenario import plain

from sim.program import Program, Worker
from sim.runtime import SimulationError, TooLarge, driver, simulate
from sim.scenario.resolved import Run


def goes_on(worker: Worker) -> Program:
    while True:
        worker.next_round(steps=1)
        yield worker.compute(worker.model.inner_step)


def computes(worker: Worker) -> Program:
    worker.next_round(steps=1)
    while True:
        yield worker.compute(worker.model.inner_step)


def test_a_program_that_ignores_the_answer_of_next_round_is_stopped() -> None:
    with pytest.raises(SimulationError, match=r"rank 0: .* 1000 rounds since next_round answered"):
        simulate(plain(goes_on, run=Run(rounds=3)))


def test_one_that_only_computes_reaches_the_limit_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "MOST_ROWS", 5000)
    with pytest.raises(TooLarge, match="the simulation passed 5000 operations in round 1"):
        simulate(plain(computes, run=Run(rounds=3)))


def test_real_processes_stop_it_as_well() -> None:
    pytest.importorskip("torch")
    from realrun.errors import RunError
    from realrun.process import Limits, Shared
    from realrun.runtime import TorchWorker
    from sim.models import Sized

    asked = plain(goes_on)
    worker = TorchWorker(Shared(0, 1, Sized(asked.model, 1, 1.0), Limits(rounds=2)))
    with pytest.raises(RunError, match="1000 rounds since next_round answered False"):
        worker.drive(goes_on(worker))
