"""Answers kept, and computed in processes, so that a curve never delays a figure.

Python computes in one thread at a time, so threads would let a curve of ddp delay the figures of
the chosen point. One process answers for the figures of points; others, as many as there are
cores, for parts of curves. One more draws pictures and writes reports, and keeps the run that both
are of; a point that takes long is computed there, too, so that it is simulated once. All but the
first give way to it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from functools import partial
from typing import Any, Literal, get_args

from sim.processes.cores import cores_allowed
from sim.processes.signals import end_with
from sim.web import answers
from sim.web.answers import Answer, asked
from sim.web.inputs import Point, first

_KILLED = "the process that computes was killed; ask for a smaller run"
MOST_PROCESSES = 8
"""For curves; a page has no more to ask at a time."""
KEPT = 1024
"""Answers that are kept; the one that was asked for least recently goes first."""
Part = Literal["figures", "curves", "pictures"]
"""What computes an answer: the parts do not wait for each other."""


def part_of(function: Callable[..., Answer], chosen: Point) -> Part:
    """Return what computes an answer.

    Examples
    --------
    >>> part_of(answers.point, Point(())), part_of(answers.report, Point(()))
    ('figures', 'pictures')
    """
    of_one_run = function in (answers.point, answers.pictures, answers.report)
    if not of_one_run:
        return "curves"
    return "figures" if function is answers.point and not chosen.slow else "pictures"


class Work:
    """Computes answers, each once.

    Parameters
    ----------
    begun
        What begins the processes of each part; without it, it computes in a thread.
    at_once
        How many answers of curves are computed at the same time.
    """

    def __init__(
        self, begun: Mapping[Part, Callable[[], Executor]] | None = None, at_once: int = 1
    ) -> None:
        self._begun = dict(begun or {})
        self._executors = {part: begin() for part, begin in self._begun.items()}
        self._turns = {part: asyncio.Semaphore(1) for part in get_args(Part)}
        self._turns["curves"] = asyncio.Semaphore(at_once)
        self._kept: OrderedDict[Any, Answer] = OrderedDict()
        self.computed = 0

    async def answer(
        self,
        function: Callable[..., Answer],
        chosen: Point,
        *args: Any,
        left: Callable[[], Awaitable[bool]] | None = None,
    ) -> Answer:
        """Return ``function(chosen, *args)``, kept or computed.

        Parameters
        ----------
        function, chosen, args
            What is asked; of the module :mod:`sim.web.answers`.
        left
            Tells whether nobody waits for the answer any more; asked when its turn comes.
        """
        key, part = (function.__name__, chosen, *args), part_of(function, chosen)
        async with self._turns[part]:  # a process computes one answer at a time
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            if left is not None and await left():
                return {"error": "nobody waits for this answer any more"}
            found = await self._computed(part, function, chosen, *args)
            if found.get("error") == _KILLED:
                return found
            self._kept[key] = found
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return found

    async def _computed(self, part: Part, function: Callable[..., Answer], *args: Any) -> Answer:
        self.computed += 1
        loop = asyncio.get_running_loop()
        executor = self._executors.get(part)
        try:
            return await loop.run_in_executor(executor, asked, function, *args)
        except BrokenExecutor:  # killed, as where memory ends; other questions have answers
            # All that were computed at the same time end so; the first of them begins new ones.
            if self._executors[part] is executor:
                self._executors[part] = self._begun[part]()
            return {"error": _KILLED}

    def close(self) -> None:
        """End the processes, each with the answer that it computes.

        The interpreter waits for them in any case; left to it, it may write to a pipe that the
        thread which ends them has just closed.
        """
        for executor in self._executors.values():
            executor.shutdown(cancel_futures=True)


def in_processes() -> Work:
    """Return work in processes, which end with this one."""
    many = min(cores_allowed(), MOST_PROCESSES)
    return Work(
        {
            "figures": partial(_processes, 1, 0, answers.point),
            "curves": partial(_processes, many, 10, answers.required),
            "pictures": partial(_processes, 1, 10, answers.pictures),
        },
        many,
    )


def _processes(count: int, nice: int, warm: Callable[[Point], Answer]) -> ProcessPoolExecutor:
    """Begin processes, and let each load what its first answer needs."""
    spawn = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(count, spawn, _begin, (os.getpid(), nice))
    for _ in range(count):
        executor.submit(asked, warm, first())
    return executor


def _begin(parent: int, nice: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's Ctrl-C, which ends this one
    end_with(parent)
    if hasattr(os, "nice"):
        os.nice(nice)
