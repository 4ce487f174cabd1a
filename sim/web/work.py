"""Answers kept, and computed in processes, so that a curve never delays a figure.

Python computes in one thread at a time, so threads would let a curve of ddp delay the figures of
the chosen point. One process answers for points; the others, as many as there are cores, answer
for parts of curves and for pictures, and give way to the first.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from functools import partial
from typing import Any

from sim.processes.cores import cores_allowed
from sim.processes.signals import end_with
from sim.web import answers
from sim.web.answers import Answer, asked
from sim.web.inputs import Point, first

_KILLED = "the process that computes was killed; ask for a smaller run"
MOST_PROCESSES = 8
"""For curves and pictures; a page has no more to ask at a time."""
KEPT = 1024
"""Answers that are kept; the one that was asked for least recently goes first."""


class Work:
    """Computes answers, each once.

    Parameters
    ----------
    points, curves
        What begins a process for figures of points, and the processes for all else; None computes
        in a thread.
    at_once
        How many answers other than points are computed at the same time.
    """

    def __init__(
        self,
        points: Callable[[], Executor] | None = None,
        curves: Callable[[], Executor] | None = None,
        at_once: int = 1,
    ) -> None:
        self._begun = {True: points, False: curves}
        self._executors = {urgent: begun and begun() for urgent, begun in self._begun.items()}
        self._turns = {True: asyncio.Semaphore(1), False: asyncio.Semaphore(at_once)}
        self._kept: OrderedDict[Any, Answer] = OrderedDict()
        self.computed = 0

    async def answer(
        self,
        function: Callable[..., Answer],
        *args: Any,
        urgent: bool,
        left: Callable[[], Awaitable[bool]] | None = None,
    ) -> Answer:
        """Return ``function(*args)``, kept or computed.

        Parameters
        ----------
        function, args
            What is asked; of the module :mod:`sim.web.answers`.
        urgent
            Whether it is computed apart from curves.
        left
            Tells whether nobody waits for the answer any more; asked when its turn comes.
        """
        key = (function.__name__, *args)
        async with self._turns[urgent]:  # a process computes one answer at a time
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            if left is not None and await left():
                return {"error": "nobody waits for this answer any more"}
            found = await self._computed(urgent, function, *args)
            if found.get("error") == _KILLED:
                return found
            self._kept[key] = found
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return found

    async def _computed(self, urgent: bool, function: Callable[..., Answer], *args: Any) -> Answer:
        self.computed += 1
        loop = asyncio.get_running_loop()
        executor = self._executors[urgent]
        try:
            return await loop.run_in_executor(executor, asked, function, *args)
        except BrokenExecutor:  # killed, as where memory ends; other questions have answers
            begun = self._begun[urgent]
            # All that were computed at the same time end so; the first of them begins new ones.
            if begun is not None and self._executors[urgent] is executor:
                self._executors[urgent] = begun()
            return {"error": _KILLED}

    def close(self) -> None:
        """End the processes."""
        for executor in self._executors.values():
            if executor is not None:
                executor.shutdown(wait=False, cancel_futures=True)


def in_processes() -> Work:
    """Return work in processes, which end with this one."""
    others = min(cores_allowed(), MOST_PROCESSES)
    return Work(
        partial(_processes, 1, 0, answers.point),
        partial(_processes, others, 10, answers.pictures),
        others,
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
