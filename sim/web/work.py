"""Answers kept, and computed in two processes, so that a curve never delays a figure.

Python computes in one thread at a time, so threads would let a curve of ddp delay the figures of
the chosen point. One process answers for points, the other for curves and pictures.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any

from sim.processes.signals import end_with
from sim.web.answers import Answer, asked

KEPT = 1024
"""Answers that are kept; the one that was asked for least recently goes first."""


class Work:
    """Computes answers, each once.

    Parameters
    ----------
    points, curves
        Where figures of points, and all else, are computed; None computes in a thread.
    """

    def __init__(self, points: Executor | None = None, curves: Executor | None = None) -> None:
        self._executors = {True: points, False: curves}
        self._kept: OrderedDict[Any, Answer] = OrderedDict()
        self.computed = 0

    async def answer(self, function: Callable[..., Answer], *args: Any, first: bool) -> Answer:
        """Return ``function(*args)``, kept or computed; ``first`` where someone waits for it."""
        key = (function.__name__, *args)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        self.computed += 1
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._executors[first], asked, function, *args)
        self._kept[key] = found
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return found

    def close(self) -> None:
        """End the processes."""
        for executor in self._executors.values():
            if executor is not None:
                executor.shutdown(wait=False, cancel_futures=True)


def in_processes() -> Work:
    """Return work in two processes, which end with this one."""
    return Work(_process(), _process())


def _process() -> ProcessPoolExecutor:
    spawn = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(1, spawn, _begin, (os.getpid(),))
    executor.submit(_warm)
    return executor


def _begin(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's Ctrl-C, which ends this one
    end_with(parent)


def _warm() -> None:
    """Load what the first answer needs."""
    from sim.web.answers import pictures
    from sim.web.inputs import first

    asked(pictures, first())
