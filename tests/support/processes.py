"""Processes of a test that meet over gloo."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, NoReturn

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

PATIENCE_S = 600  # far more than any takes, on a machine that does other things as well
# Imported once, in the process of which all of them are forks: half of what they would compute.
# Only what others wrote, as that process may look for ours in another place.
IMPORTED = [
    "numpy",
    "pandas",
    "pydantic",
    "pytest",
    "hypothesis",
    "torch",
    "torch.distributed",
    "torch._dynamo",
]


def together(
    workers: int, function: Callable[..., None], *arguments: Any, timeout_s: float = 300
) -> None:
    """Call ``function(rank, *arguments)`` in that many processes, which have formed a group.

    Parameters
    ----------
    timeout_s
        Of the group's collectives.
    """
    multiprocessing.set_forkserver_preload(IMPORTED)
    with TemporaryDirectory() as folder:
        # They meet at a file: a port that was free may be taken by the time they come.
        given = (workers, Path(folder) / "store", timeout_s, function, arguments)
        launched = mp.start_processes(
            _member, given, workers, join=False, start_method="forkserver"
        )
        assert launched is not None
        deadline = monotonic() + PATIENCE_S
        try:
            while not launched.join(timeout=1):
                assert monotonic() < deadline, f"{workers} processes have not ended"
        finally:
            for process in launched.processes:
                process.kill()


def _member(
    rank: int,
    workers: int,
    store: Path,
    timeout_s: float,
    function: Callable[..., None],
    arguments: tuple[Any, ...],
) -> NoReturn:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=workers,
        timeout=timedelta(seconds=timeout_s),
    )
    function(rank, *arguments)
    dist.barrier()
    dist.destroy_process_group()
    # gloo's threads may outlive the group. One that asks for the interpreter while that is being
    # taken apart would end the process by SIGABRT, so it is not taken apart.
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)
