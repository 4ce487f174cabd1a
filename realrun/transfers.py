"""The five collectives as calls of the backend: what is sent, and where the result goes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from realrun.quantize import all_gather_single


class Members:
    """The workers of a process group, as one of them sees them."""

    def __init__(self, group: Any) -> None:
        self.group = group
        self.count, self.rank = dist.get_world_size(), dist.get_rank()
        # A tensor: torch would make one of the number, in every division anew.
        self.divisor = torch.tensor(float(self.count))

    def own_slice(self, elements: int) -> slice:
        """Where this rank's share of a buffer lies."""
        return slice(elements * self.rank // self.count, elements * (self.rank + 1) // self.count)

    def sizes(self, elements: int) -> list[int]:
        """How much of a buffer each rank has."""
        edges = [elements * rank // self.count for rank in range(self.count + 1)]
        return [b - a for a, b in pairwise(edges)]


Form = tuple[Callable[[], Any], Callable[[], object]]
"""What starts a collective, and what writes its result into the buffer once it is there."""


def _all_reduce(members: Members, sent: Tensor, target: Tensor, mean: bool) -> Form:
    def place() -> None:
        if sent is not target:
            target.copy_(sent)
        if mean:
            target.div_(members.divisor)

    return partial(dist.all_reduce, sent, group=members.group, async_op=True), place


def _exchange(members: Members, sent: Tensor) -> tuple[Callable[[], Any], Tensor]:
    """All slices, each to its own rank; what this rank receives has a row for each sender."""
    sizes, count = members.sizes(len(sent)), members.count
    mine = sizes[members.rank]
    received = sent.new_empty(mine * count)
    issue = partial(
        dist.all_to_all_single,
        received,
        sent,
        [mine] * count,
        sizes,
        group=members.group,
        async_op=True,
    )
    return issue, received.view(count, mine)


def _all_to_all(members: Members, sent: Tensor, target: Tensor, mean: bool) -> Form:
    issue, parts = _exchange(members, sent)
    return issue, lambda: target[: parts.numel()].copy_(parts.reshape(-1))


def _reduce_scatter(members: Members, sent: Tensor, target: Tensor, mean: bool) -> Form:
    """An all-to-all of slices and a local sum in the order of the ranks.

    gloo has a whole all-reduce for it, twice what it should cost.
    """
    issue, parts = _exchange(members, sent)

    def place() -> None:
        total = parts[0].clone()
        for part in parts[1:]:
            total += part
        own = target[members.own_slice(len(target))].copy_(total)
        if mean:
            own.div_(members.divisor)

    return issue, place


def _all_gather(members: Members, sent: Tensor, target: Tensor, mean: bool) -> Form:
    sizes, count = members.sizes(len(sent)), members.count
    longest = max(sizes)
    padded = sent.new_zeros(longest)
    padded[: sizes[members.rank]] = sent[members.own_slice(len(sent))]
    gathered = sent.new_empty(longest * count)

    def place() -> None:
        arrived = gathered.view(count, longest)
        for part, size, into in zip(arrived, sizes, torch.split(target, sizes), strict=True):
            into.copy_(part[:size])

    return partial(all_gather_single, gathered, padded, group=members.group, async_op=True), place


def _broadcast(members: Members, sent: Tensor, target: Tensor, mean: bool) -> Form:
    issue = partial(dist.broadcast, sent, src=0, group=members.group, async_op=True)
    return issue, lambda: target.copy_(sent)


FORMS: dict[str, Callable[[Members, Tensor, Tensor, bool], Form]] = {
    "all_reduce": _all_reduce,
    "reduce_scatter": _reduce_scatter,
    "all_gather": _all_gather,
    "all_to_all": _all_to_all,
    "broadcast": _broadcast,
}
