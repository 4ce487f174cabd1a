"""Results of a user's method are not taken for those of another one of the same name."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sim
from sim.program import Program, Worker
from sim.questions.method_text import text_of
from sim.questions.study import StudyError


def made(steps: int, *, default: int = 1) -> Callable[..., Program]:
    def method(worker: Worker, *, more: int = default) -> Program:
        model = worker.model
        while worker.next_round(steps=steps):
            yield worker.compute(model.inner_step, times=steps)
            for _ in range(more):
                yield worker.all_reduce(model.parameters(range(model.num_layers)), "bf16")

    return method


def whole(worker: Worker) -> Program:
    yield from made(3)(worker)


def test_what_a_function_took_along_is_part_of_it() -> None:
    assert text_of(made(3)) == text_of(made(3))
    assert text_of(made(3)) != text_of(made(4))
    assert text_of(made(3)) != text_of(made(3, default=2))
    assert text_of(whole) == Path(__file__).read_bytes()


CELL = """
def helper():
    return STEPS

def method(worker, *, every=5):
    if every > 5:
        yield from method(worker)
    yield worker.compute(worker.model.inner_step, times=helper())
"""


@pytest.fixture
def typed() -> Iterator[Callable[..., Any]]:
    """Run a cell as a notebook does: its text is kept, and no file holds it."""

    def run(text: str, **names: Any) -> Any:
        place = "<a cell>"
        linecache.cache[place] = (len(text), None, text.splitlines(keepends=True), place)
        names["__name__"] = "a_notebook"
        exec(compile(text, place, "exec"), names)
        return names["method"]

    yield run
    linecache.cache.pop("<a cell>", None)


def test_in_a_notebook_so_are_the_values_and_functions_that_it_names(
    typed: Callable[..., Any],
) -> None:
    first = text_of(typed(CELL, STEPS=3))
    assert text_of(typed(CELL, STEPS=3)) == first
    assert text_of(typed(CELL, STEPS=4)) != first
    assert text_of(typed(CELL.replace("return STEPS", "return 2 * STEPS"), STEPS=3)) != first


def test_a_folder_of_a_sweep_refuses_another_function_of_the_same_name(tmp_path: Path) -> None:
    def sweep(steps: int) -> Any:
        scenario = sim.make_scenario(model="10B", method=made(steps))
        return sim.sweep(scenario, rtt=["10 ms", "20 ms"], out=tmp_path / "swept")

    first = sweep(3).frame()
    assert sweep(3).frame().equals(first)
    with pytest.raises(
        StudyError, match="another text of a method of yours\\); choose another out"
    ):
        sweep(4)


def test_two_functions_of_one_name_are_not_compared() -> None:
    scenario = sim.make_scenario(model="10B")
    with pytest.raises(ValueError, match="two functions have this name; give one of them another"):
        sim.compare(scenario, [made(3), made(4)])
