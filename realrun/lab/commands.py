"""Any command in a lab: once per worker, each in its own network namespace.

One loop in one thread hands on what the commands print, counts what they send, and waits for
their ends. All processes are the keeper's (:mod:`realrun.lab.keeper`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO

from realrun.lab.ends import Ran
from realrun.lab.keeper_process import started, wait_for
from realrun.lab.loop import Running
from realrun.lab.run import Lab
from realrun.lab.said import Lines
from realrun.lab.told import environment_of, filled_in


def run(lab: Lab, command: Sequence[str], cores: int, *, plain: bool, aside: bool) -> Ran:
    """Run a command once per worker; return how it ended when all of them have.

    If one fails the others are ended: they are given two seconds to fail themselves, then asked
    with SIGTERM, then killed. Nothing that a command has started outlives this call.

    Parameters
    ----------
    command
        A program and its arguments; ``{rank}`` and ``{address}`` are filled in.
    cores
        Of this machine, which the workers share.
    plain
        Whether lines are printed without the rank.
    aside
        Whether their standard output is printed on standard error, too.

    Raises
    ------
    RunError
        If it could not be started.
    BrokenPipeError
        If nobody reads its output any more.
    """
    workers = lab.topology.workers
    with ExitStack() as parts:
        pipes = [[_pipe(parts) for _ in range(2)] for _ in range(workers)]
        namespaces = [namespace.file for namespace in lab.namespaces]
        asked = {
            "namespaces": namespaces,
            "commands": [
                {
                    "arguments": filled_in(command, rank),
                    "environment": environment_of(lab, rank, cores),
                    "output": pipes[rank][0][1],
                    "errors": pipes[rank][1][1],
                }
                for rank in range(workers)
            ],
        }
        writers = [each[1] for both in pipes for each in both]
        keeper = parts.enter_context(started([*namespaces, *writers]))
        for writer in writers:
            os.close(writer)
        running = Running(lab, command[0], keeper)
        for rank, both in enumerate(pipes):
            for (reader, _), stream in zip(both, _streams(aside=aside), strict=True):
                mark = b"" if plain else b"[%d] " % rank
                running.reads(reader, Lines(stream, mark))
        wait_for(keeper)
        lab.vary()
        try:
            running.begin(json.dumps(asked).encode() + b"\n")
            return running.to_the_end()
        except BrokenPipeError:
            raise
        except BaseException:
            running.drain()
            raise


def _pipe(parts: ExitStack) -> tuple[int, int]:
    reader, writer = os.pipe()
    parts.callback(os.close, reader)
    return reader, writer


def _streams(*, aside: bool) -> tuple[IO[bytes], IO[bytes]]:
    return (sys.stderr if aside else sys.stdout).buffer, sys.stderr.buffer
