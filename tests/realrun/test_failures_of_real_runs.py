"""Collectives that fail in a real run; no second process is needed here."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from realrun.communication.groups import Collective
from realrun.errors import PeerLostError, RunError
from realrun.runtime.shared import Limits, Shared
from realrun.runtime.worker import TorchWorker
from sim.program import PeerLost, Program
from sim.trace.table import WAIT, Row

LINE = "rank 0: all_reduce, call 0 of group main, failed: Connection closed by peer"


class Broken:
    """A group whose peer is gone."""

    def start(
        self, operation: str, buffer: Any, dtype: str, mean: bool, ended: Any, *_: Any
    ) -> Any:
        def wait() -> None:
            ended(5.0, "")
            raise RuntimeError("Connection closed by peer")

        return Collective(operation, wait, lambda: True, lambda: None)

    def backends(self) -> list[Any]:
        return []


class Verbs:
    """Counts what is computed."""

    def __init__(self) -> None:
        self.computed = 0

    def perform(self, verb: Any, args: Any, kwargs: Any, times: int) -> None:
        verb(*args, **kwargs)

    def accumulate(self) -> None:
        self.computed += 1


def run(program: Callable[[Any], Program]) -> tuple[Verbs, list[Row]]:
    model, groups = Verbs(), {name: Broken() for name in ("main", "reduces", "wrong")}
    shared = Shared(0, 2, model, Limits(rounds=1), groups=groups)  # type: ignore[arg-type]
    worker = TorchWorker(shared)
    worker.drive(program(worker))
    return model, shared.rows


def reduction(worker: Any) -> Any:
    buffer = SimpleNamespace(name="gradient", detail="", elements=4, values=np.zeros(4))
    return worker.all_reduce(buffer, "fp32")


def reduces(worker: Any) -> Program:
    yield reduction(worker)


def test_a_collective_that_fails_is_thrown_into_the_program_that_waits_for_it() -> None:
    def catches(worker: Any) -> Program:
        begun = reduction(worker)
        yield worker.compute(worker.model.accumulate)
        try:
            yield begun
        except PeerLost as error:
            said.append(str(error))
            yield worker.compute(worker.model.accumulate)

    said: list[str] = []
    model, rows = run(catches)
    assert said == [LINE]
    assert model.computed == 2
    assert [row.operation for row in rows] == ["all_reduce", "accumulate", WAIT, "accumulate"]
    assert rows[0].end_s == 5.0
    assert rows[2].begin_s <= rows[2].end_s


def test_what_a_program_does_not_catch_ends_the_run_with_its_line() -> None:
    with pytest.raises(PeerLostError) as caught:
        run(reduces)
    assert str(caught.value) == LINE


def test_a_spawned_program_that_does_not_catch_it_fails_for_who_waits_for_that() -> None:
    def catches(worker: Any) -> Program:
        try:
            yield worker.spawn(reduces)
        except PeerLost:
            yield worker.compute(worker.model.accumulate)

    model, _ = run(catches)
    assert model.computed == 1


def test_an_error_of_a_spawned_program_is_nothing_that_a_program_may_catch() -> None:
    def wrong(worker: Any) -> Program:
        yield worker.compute(worker.model.accumulate)
        raise RunError("no memory left")

    def catches_everything(worker: Any) -> Program:
        try:
            yield worker.spawn(wrong)
        except Exception:
            yield worker.compute(worker.model.accumulate)

    with pytest.raises(RunError, match="no memory left"):
        run(catches_everything)
