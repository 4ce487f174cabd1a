"""The five collectives as calls of the backend: what is sent, and where the result goes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from realrun.communication.quantize import all_gather_single
from sim.members import Members, family, root_of


class Peers:
    """The members of a collective, as one of them sees them: how many, and which it is itself."""

    def __init__(self, members: Members, rank: int) -> None:
        self.ranks, self.count, self.place = members.ranks, len(members), members.place(rank)
        # A tensor: torch would make one of the number, again in every division.
        self.divisor = torch.tensor(float(self.count))

    def own_slice(self, elements: int) -> slice:
        """Where this member's share of a buffer lies."""
        return slice(elements * self.place // self.count, elements * (self.place + 1) // self.count)

    def sizes(self, elements: int) -> list[int]:
        """How much of a buffer each member has."""
        edges = [elements * place // self.count for place in range(self.count + 1)]
        return [b - a for a, b in pairwise(edges)]


Form = tuple[Callable[[Any], Any], Callable[[], object]]
"""What starts a collective on a process group, and what then writes its result into the buffer."""


def _all_reduce(peers: Peers, sent: Tensor, target: Tensor, mean: bool) -> Form:
    def place() -> None:
        if sent is not target:
            target.copy_(sent)
        if mean:
            target.div_(peers.divisor)

    return lambda group: dist.all_reduce(sent, group=group, async_op=True), place


def _exchange(peers: Peers, sent: Tensor) -> tuple[Callable[[Any], Any], Tensor]:
    """All slices, each to its own member; what this one receives has a row for each sender."""
    sizes, count = peers.sizes(len(sent)), peers.count
    mine = sizes[peers.place]
    received = sent.new_empty(mine * count)

    def issue(group: Any) -> Any:
        outs = [mine] * count
        return dist.all_to_all_single(received, sent, outs, sizes, group=group, async_op=True)

    return issue, received.view(count, mine)


def _all_to_all(peers: Peers, sent: Tensor, target: Tensor, mean: bool) -> Form:
    issue, parts = _exchange(peers, sent)
    return issue, lambda: target[: parts.numel()].copy_(parts.reshape(-1))


def _reduce_scatter(peers: Peers, sent: Tensor, target: Tensor, mean: bool) -> Form:
    """An all-to-all of slices and a local sum in the order of the ranks.

    gloo has a whole all-reduce for it, twice what it should cost.
    """
    issue, parts = _exchange(peers, sent)

    def place() -> None:
        total = parts[0].clone()
        for part in parts[1:]:
            total += part
        own = target[peers.own_slice(len(target))].copy_(total)
        if mean:
            own.div_(peers.divisor)

    return issue, place


def _all_gather(peers: Peers, sent: Tensor, target: Tensor, mean: bool) -> Form:
    sizes, count = peers.sizes(len(sent)), peers.count
    longest = max(sizes)
    padded = sent.new_zeros(longest)
    padded[: sizes[peers.place]] = sent[peers.own_slice(len(sent))]
    gathered = sent.new_empty(longest * count)

    def place() -> None:
        arrived = gathered.view(count, longest)
        for part, size, into in zip(arrived, sizes, torch.split(target, sizes), strict=True):
            into.copy_(part[:size])

    return lambda group: all_gather_single(gathered, padded, group=group, async_op=True), place


def _broadcast(peers: Peers, sent: Tensor, target: Tensor, mean: bool, place: int = 0) -> Form:
    def issue(group: Any) -> Any:
        return dist.broadcast(sent, src=peers.ranks[place], group=group, async_op=True)

    return issue, lambda: target.copy_(sent)


FORMS: dict[str, Callable[[Peers, Tensor, Tensor, bool], Form]] = {
    "all_reduce": _all_reduce,
    "reduce_scatter": _reduce_scatter,
    "all_gather": _all_gather,
    "all_to_all": _all_to_all,
    "broadcast": _broadcast,
}


def form(operation: str, peers: Peers, sent: Tensor, target: Tensor, mean: bool) -> Form:
    """Return how an operation is started and its result placed."""
    if root := root_of(operation):
        return _broadcast(peers, sent, target, mean, root)
    return FORMS[family(operation)](peers, sent, target, mean)
