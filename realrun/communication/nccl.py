"""What NCCL does where a peer is lost, and how the host hears of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import Work

# What torch does by itself where a peer is lost: NCCL's kernel waits on; a minute after the
# timeout a thread of torch ends the process by a signal. With these, which are read when a
# process group is made, it ends the communicator instead, and at once: what was queued behind it
# runs on with what is there, and the next look is told (`failure`). Torch tells since 2.6.
if _TELLS := hasattr(Work, "get_future_result"):
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "2")
    os.environ.setdefault("TORCH_NCCL_DUMP_ON_TIMEOUT", "0")
    os.environ.setdefault("TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC", "0")

TIMED_OUT = "the timeout has passed"
_WHY = {1: TIMED_OUT, 2: "the connection broke"}  # c10d's WorkResult; 0 is success


def abandon(groups: Iterable[Any]) -> None:
    """Break off what is under way in process groups: else destroying them waits for a peer."""
    broken = {id(made): made for made in groups}
    if not (broken and _TELLS):
        return
    first: Any = dist.group.WORLD
    with suppress(RuntimeError):  # there is a better error to raise
        # As torch does it itself: one after the other they would wait for each other.
        backend = first._get_backend(torch.device("cuda"))
        backend._group_start()
        for made in broken.values():
            made.abort()
        backend._group_end()


def failure(works: Iterable[Any]) -> str:
    """Return why the first of some works of NCCL failed; nothing where none did."""
    for work in works if _TELLS else ():
        told = work.get_future_result()
        if told.done() and told.value():
            return _WHY.get(told.value(), "NCCL does not say why")
    return ""
