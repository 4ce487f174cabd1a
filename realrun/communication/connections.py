"""New connections, with their windows opened, before something is measured over them.

In a lab that has become another network, connections made before continue in bursts as they suited
the old one; but new ones begin with small windows, and a run of some rounds would be over before
a long line is full. A real run lasts hours, over connections that have long been in use.
"""

from __future__ import annotations

from datetime import timedelta
from math import inf
from time import perf_counter
from typing import Any

import torch
import torch.distributed as dist

_BYTES = 2**20  # to each peer: more than gloo sends in one message of what a lab trains
_FASTER = 0.95  # of the fastest before: so much shorter, and windows may still grow
_MOST = 4


_CPU = torch.device("cpu")


def fresh_group(timeout: timedelta, device: torch.device = _CPU) -> Any:
    """Return a process group of all ranks, whose connections are new and in full use."""
    return in_full_use(dist.new_group(timeout=timeout), device)


def in_full_use(group: Any, device: torch.device = _CPU) -> Any:
    """Return a process group after the windows of its connections have opened.

    All ranks send to all others at once, again as long as that gets faster. ``device`` is where
    the backend takes tensors from.
    """
    ranks = dist.get_world_size(group)
    values = torch.zeros(ranks * _BYTES // 4, device=device)
    arrived = torch.empty_like(values)
    fastest = inf
    for _ in range(_MOST):
        begin = perf_counter()
        dist.all_to_all_single(arrived, values, group=group)
        arrived[0].item()  # NCCL only queues
        took = torch.tensor(perf_counter() - begin, device=device)
        dist.all_reduce(took, dist.ReduceOp.MAX, group=group)  # the same everywhere
        if float(took) >= _FASTER * fastest:
            break
        fastest = float(took)
    return group
