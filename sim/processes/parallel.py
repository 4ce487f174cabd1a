"""A function in other processes, none of which outlives this one.

A worker is a plain subprocess that reads from one pipe and answers on another. It needs no named
semaphore, shared memory or temporary file, so nothing is left however any process ends, and the
program that is running is not imported again: it needs no ``if __name__ == "__main__"``. If one
is killed, the system says by which signal.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar

from sim.processes.signals import end_with

T = TypeVar("T")
R = TypeVar("R")

# Our package is looked for where it is here, and then nowhere else: a sim.py of the user's may lie
# in the working directory.
_PROGRAM = (
    "import pickle, sys; parent, ours, path = pickle.load(sys.stdin.buffer); "
    "sys.path[:] = [ours, *path]; from sim.processes.parallel import serve; "
    "sys.path[:] = path; serve(parent)"
)
_OURS = str(Path(__file__).parents[2])
_NONE_LEFT = object()
_PATIENCE_S = 5.0
_TOO_LITTLE_MEMORY = (getattr(signal, "SIGKILL", None), signal.SIGSEGV, signal.SIGABRT)


class WorkerLostError(Exception):
    """A worker process ended before its work did; the message says how."""


def unordered(
    function: Callable[[T], R], items: Iterable[T], jobs: int
) -> Generator[R, None, None]:
    """Yield ``function(item)`` for every item, as they become ready.

    Each process has one item at a time, and ``items`` is asked for the next when one is free.
    When the generator is closed, or an error leaves it, all of them are ended at once.

    Parameters
    ----------
    function
        Sent by its name if its module can be imported, else as a whole.
    items
        Read in turns, in threads of this process.
    jobs
        Processes.

    Raises
    ------
    WorkerLostError
        If one was killed.
    Exception
        What ``function`` raised, with the worker's traceback as a note.

    Examples
    --------
    >>> sorted(unordered(abs, [-1, 2, -3], jobs=2))
    [1, 2, 3]
    """
    import cloudpickle

    ready: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
    remaining, turn = iter(items), Lock()

    def feed(process: subprocess.Popen[bytes]) -> None:
        try:
            _send(process, (os.getpid(), _OURS, sys.path))
            while True:
                with turn:
                    item = next(remaining, _NONE_LEFT)
                if item is _NONE_LEFT:
                    break
                _send(process, cloudpickle.dumps((function, item)))
                ready.put(_answer(process))
            ready.put((_NONE_LEFT, None))
        except BaseException as error:
            ready.put((None, error))

    processes: list[subprocess.Popen[bytes]] = []
    threads: list[Thread] = []
    try:
        for _ in range(jobs):
            processes.append(_started())
            threads.append(Thread(target=feed, args=(processes[-1],), daemon=True))
            threads[-1].start()
        at_work = jobs
        while at_work:
            result, error = ready.get()
            if error is not None:
                raise error
            if result is _NONE_LEFT:
                at_work -= 1
            else:
                yield result
    finally:
        for process in processes:
            process.kill()
        for thread in threads:
            thread.join()
        for process in processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # what it was being sent
                    pipe.close()  # type: ignore[union-attr]


def _started() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _PROGRAM]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _send(process: subprocess.Popen[bytes], what: object) -> None:
    assert process.stdin is not None
    try:
        pickle.dump(what, process.stdin)
        process.stdin.flush()
    except OSError:
        raise WorkerLostError(_how_it_ended(process)) from None


def _answer(process: subprocess.Popen[bytes]) -> tuple[Any, Any]:
    assert process.stdout is not None
    try:
        answer: tuple[Any, Any] = pickle.load(process.stdout)
    except (EOFError, OSError, pickle.UnpicklingError):
        raise WorkerLostError(_how_it_ended(process)) from None
    return answer


def _how_it_ended(process: subprocess.Popen[bytes]) -> str:
    try:
        status = process.wait(timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:  # it has only closed its pipes
        process.kill()
        status = process.wait()
    if status >= 0:
        return f"worker process {process.pid} ended with status {status}"
    which = signal.Signals(-status)
    why = "; the system may have run out of memory" if which in _TOO_LITTLE_MEMORY else ""
    return f"worker process {process.pid} was ended by {which.name}{why}"


def serve(parent: int) -> None:
    """Answer what process ``parent`` sends, until it stops sending or is gone."""
    end_with(parent)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the terminal sends them to all of us
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    incoming, outgoing = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a program prints is no answer
    import cloudpickle

    with suppress(EOFError, OSError):
        while True:
            sent = pickle.load(incoming)  # bytes: the pipe is in order even if they cannot be read
            try:
                function, item = cloudpickle.loads(sent)
                answer = cloudpickle.dumps((function(item), None))
            except Exception as error:
                answer = _failure(error)
            outgoing.write(answer)
            outgoing.flush()


def _failure(error: Exception) -> bytes:
    """Return an error as an answer: as it is, if it can be sent."""
    import cloudpickle

    text = "".join(traceback.format_exception(error))
    error.add_note(f"In a worker process:\n{text}")
    try:
        answer: bytes = cloudpickle.dumps((None, error))
        pickle.loads(answer)
    except Exception:
        answer = cloudpickle.dumps((None, RuntimeError(text)))
    return answer
