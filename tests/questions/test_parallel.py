"""Work in other processes: errors keep their kind, and nothing outlives the program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import sleep

import pytest

from sim.processes.parallel import WorkerLostError, unordered
from sim.program import ArgumentError

# As a script of a user's may be: no main guard, and a function of its own.
SCRIPT = """
import os, sys, time
from sim.processes.parallel import unordered

def work(number):
    os.write(1, f"worker {os.getpid()}\\n".encode())  # which is no answer; a line at once
    time.sleep(number)
    return number

for found in unordered(work, [0, 0] if sys.argv[1:] == ["quick"] else [600, 600], jobs=2):
    print("found", found)
"""


def fails(number: int) -> int:
    if number == 3:
        raise ArgumentError("three")
    return number


def lost(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def unwilling(number: int) -> int:
    class Local(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__("cannot be sent")

    raise Local(1, 2)


def test_an_error_keeps_its_kind_and_tells_where_it_was_raised() -> None:
    with pytest.raises(ArgumentError, match="three") as caught:
        list(unordered(fails, range(9), jobs=2))
    (note,) = caught.value.__notes__
    assert "In a worker process" in note
    assert "test_parallel.py" in note


def test_an_error_that_cannot_be_sent_is_told_as_a_text() -> None:
    with pytest.raises(RuntimeError, match="cannot be sent"):
        list(unordered(unwilling, range(2), jobs=1))


def test_a_killed_worker_is_told_with_its_signal() -> None:
    with pytest.raises(WorkerLostError, match="was ended by SIGKILL; the system may have run out"):
        list(unordered(lost, [3], jobs=1))


def test_items_are_asked_for_one_by_one_as_processes_are_free() -> None:
    asked: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            asked.append(number)
            yield number

    with closing(unordered(abs, items(), jobs=1)) as results:
        next(results)
    assert len(asked) < 1000


def test_an_error_of_the_items_is_raised_here() -> None:
    with pytest.raises(ArgumentError):
        list(unordered(abs, map(fails, range(9)), jobs=1))


def script(path: Path, *arguments: str) -> subprocess.Popen[str]:
    path.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, str(path), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def test_a_script_needs_no_main_guard_and_what_a_method_prints_is_no_answer(
    tmp_path: Path,
) -> None:
    out, err = script(tmp_path / "mine.py", "quick").communicate()
    assert out == "found 0\nfound 0\n"
    assert err.count("worker") == 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_the_program(tmp_path: Path, number: signal.Signals) -> None:
    process = script(tmp_path / "mine.py")
    assert process.stderr is not None
    workers = [int(process.stderr.readline().split()[1]) for _ in range(2)]
    process.send_signal(number)
    process.communicate()  # their standard error is this pipe: it ends when they do
    for worker in workers:
        while Path(f"/proc/{worker}/cmdline").exists():
            sleep(0.05)
