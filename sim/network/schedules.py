"""How each collective algorithm moves bytes: rounds of simultaneous transfers between ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sim.members import family, root_of
from sim.program import QUANTIZED

OPERATIONS = ("all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast")
ALGORITHMS = ("ring", "tree", "halving_doubling", "direct", "hierarchical")
REQUANTIZED = "requantized_ring"  # a ring for int8 and fp4, too; else the same as "ring"
NCCL = "nccl"  # ring or tree by the cost model of :mod:`sim.network.nccl`; here its ring
GLOO = "gloo"  # no form, but :mod:`sim.network.gloo`; here only what it sends to whom


@dataclass(frozen=True)
class Transfers:
    """One round, ``repeat`` times: ``sender[i]`` sends ``share[i]`` of S to ``receiver[i]``."""

    sender: NDArray[np.intp]
    receiver: NDArray[np.intp]
    share: NDArray[np.float64]
    repeat: int = 1


class ToEachOther:
    """One round in which each of some members sends an equal part of S to each other one.

    Read as :class:`Transfers`, which are as many as there are pairs of members.
    """

    repeat = 1

    def __init__(self, ranks: list[int]) -> None:
        self._ranks = ranks

    @property
    def sender(self) -> NDArray[np.intp]:
        """Who sends each."""
        return self._pairs[0]

    @property
    def receiver(self) -> NDArray[np.intp]:
        """Who receives it."""
        return self._pairs[1]

    @cached_property
    def share(self) -> NDArray[np.float64]:
        """Its size, as a fraction of S."""
        count = len(self._ranks)
        return np.full(count * (count - 1), 1 / count)

    @cached_property
    def _pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        ranks = np.array(self._ranks, dtype=np.intp)
        sender, receiver = np.meshgrid(ranks, ranks, indexing="ij")
        apart = sender != receiver
        return sender[apart], receiver[apart]


Schedule = Sequence[Transfers | ToEachOther]
_Rounds = list[Transfers]


def _round(triples: list[tuple[int, int, float]], repeat: int = 1) -> Transfers:
    senders, receivers, shares = zip(*triples, strict=True)
    return Transfers(
        np.array(senders, dtype=np.intp),
        np.array(receivers, dtype=np.intp),
        np.array(shares, dtype=np.float64),
        repeat,
    )


def form_of(operation: str, algorithm: str, dtype: str) -> str:
    """Name the algorithm that really carries an operation, in the words that reports print.

    Examples
    --------
    >>> form_of("all_gather", "tree", "bf16")
    'ring'
    >>> form_of("all_reduce", "ring", "fp4")
    'direct all_to_all and ring all_gather'
    """
    operation = family(operation)
    if algorithm == REQUANTIZED:
        if dtype in QUANTIZED and operation in ("all_reduce", "reduce_scatter"):
            return REQUANTIZED
        algorithm = "ring"
    if algorithm == NCCL:
        algorithm = "ring"
        if operation == "broadcast":
            return "chain"
    if algorithm == GLOO:
        algorithm = "direct" if operation == "reduce_scatter" else "ring"
    if dtype in QUANTIZED and operation == "all_reduce":
        return f"direct all_to_all and {form_of('all_gather', algorithm, 'bf16')} all_gather"
    if operation == "all_to_all" or (dtype in QUANTIZED and operation == "reduce_scatter"):
        return "direct"
    if operation == "broadcast":
        return "direct" if algorithm == "direct" else "tree"
    if algorithm in ("tree", "hierarchical") and operation != "all_reduce":
        return "ring"
    return algorithm


def schedule(operation: str, algorithm: str, dtype: str, members: list[list[int]]) -> Schedule:
    """Rounds of one collective.

    Parameters
    ----------
    operation
        One of ``OPERATIONS``, or a broadcast from another member than the first.
    algorithm
        One of ``ALGORITHMS``, ``REQUANTIZED``, ``NCCL`` or ``GLOO``; where it has no form for the
        operation, see :func:`form_of`.
    dtype
        int8 and fp4 reductions are an all_to_all followed by an all_gather, or a ring that
        quantizes the sum so far again for every transfer of its first half.
    members
        Ranks by site, sites in ring order, ranks of a site in a row. M ranks in all.

    Returns
    -------
    Schedule
        Empty for M = 1. Shares are fractions of the buffer's bytes S.

    Notes
    -----
    Thakur, Rabenseifner, Gropp 2005 (ring, recursive halving and doubling, binomial trees).
    """
    ring = [rank for site in members for rank in site]
    if len(ring) == 1:
        return []
    ranks = sorted(ring)
    if dtype in QUANTIZED and operation == "all_reduce" and algorithm != REQUANTIZED:
        return [ToEachOther(ranks), *schedule("all_gather", algorithm, "bf16", members)]
    form = form_of(operation, algorithm, dtype)
    if family(operation) == "broadcast":
        place = root_of(operation)
        ranks = [*ranks[place:], *ranks[:place]]
        if form == "direct":
            return [_round([(ranks[0], rank, 1.0) for rank in ranks[1:]])]
        if form == "chain":
            return [_round([(a, b, 1.0) for a, b in pairwise(ranks)])]
        return _doubling(ranks) if algorithm == GLOO else _binomial(ranks)
    twice = operation == "all_reduce"
    if form == "direct":
        return [ToEachOther(ranks)] * (2 if twice else 1)
    if form == "tree":
        return [*_reversed(_binomial(ranks)), *_binomial(ranks)]
    if form == "halving_doubling":
        return _halving_doubling(ranks, operation)
    if form == "hierarchical":
        return _hierarchical(members)
    return _ring(ring, 2 * (len(ring) - 1) if twice else len(ring) - 1)


def _ring(ring: list[int], repeat: int, of: float = 1.0) -> _Rounds:
    edges = [(a, b, of / len(ring)) for a, b in zip(ring, ring[1:] + ring[:1], strict=True)]
    return [_round(edges, repeat)]


def _binomial(ranks: list[int]) -> _Rounds:
    """Broadcast of the whole buffer from the first of ``ranks``; empty for one rank."""
    count = len(ranks)
    rounds = []
    distance = 1 << max(0, (count - 1).bit_length() - 1)
    while distance and count > 1:
        pairs = [(i, i + distance) for i in range(0, count, 2 * distance) if i + distance < count]
        rounds.append(_round([(ranks[a], ranks[b], 1.0) for a, b in pairs]))
        distance //= 2
    return rounds


def _doubling(ranks: list[int]) -> _Rounds:
    """Broadcast as gloo does it: to the next first, in every round twice as many send."""
    count = len(ranks)
    rounds = []
    distance = 1
    while distance < count:
        pairs = [(i, i + distance) for i in range(min(distance, count - distance))]
        rounds.append(_round([(ranks[a], ranks[b], 1.0) for a, b in pairs]))
        distance *= 2
    return rounds


def _reversed(rounds: _Rounds) -> _Rounds:
    return [Transfers(r.receiver, r.sender, r.share, r.repeat) for r in reversed(rounds)]


def _halving_doubling(ranks: list[int], operation: str) -> _Rounds:
    count = len(ranks)
    power = 1 << (count.bit_length() - 1)
    surplus = list(range(power, count))
    halving: _Rounds = []
    distance, share = power // 2, 0.5
    while distance:
        halving.append(_round([(ranks[i], ranks[i ^ distance], share) for i in range(power)]))
        distance, share = distance // 2, share / 2
    first = [_round([(ranks[i], ranks[i - power], 1.0) for i in surplus])] if surplus else []
    last = _reversed(first)
    if operation == "reduce_scatter":
        return [*first, *halving, *last]
    if operation == "all_gather":
        return [*first, *_reversed(halving), *last]
    return [*first, *halving, *_reversed(halving), *last]


def _side_by_side(schedules: list[_Rounds]) -> _Rounds:
    """Carry out several schedules of the same length at once."""
    rounds = []
    for parallel in zip(*schedules, strict=True):
        rounds.append(
            Transfers(
                np.concatenate([r.sender for r in parallel]),
                np.concatenate([r.receiver for r in parallel]),
                np.concatenate([r.share for r in parallel]),
                parallel[0].repeat,
            )
        )
    return rounds


def _hierarchical(members: list[list[int]]) -> _Rounds:
    sizes = {len(site) for site in members}
    between = 2 * (len(members) - 1)
    if len(sizes) == 1:
        size = sizes.pop()
        inside = [] if size == 1 else _side_by_side([_ring(site, size - 1) for site in members])
        slices = [[site[k] for site in members] for k in range(size)]
        across = (
            []
            if len(members) == 1
            else _side_by_side([_ring(ranks, between, of=1 / size) for ranks in slices])
        )
        return [*inside, *across, *inside]
    down: list[list[tuple[int, int, float]]] = []
    for site in members:
        for back, r in enumerate(reversed(_binomial(site))):
            if back == len(down):
                down.append([])
            down[back] += zip(r.sender.tolist(), r.receiver.tolist(), r.share.tolist(), strict=True)
    broadcast = [_round(triples) for triples in reversed(down)]
    leaders = _ring([site[0] for site in members], between)
    return [*_reversed(broadcast), *leaders, *broadcast]
