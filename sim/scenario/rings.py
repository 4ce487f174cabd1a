"""In which order a ring passes through the sites."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

Matrix = Sequence[Sequence[float]]

_BRUTE_FORCE = 8


def best_order(bandwidth: Matrix, latency: Matrix) -> tuple[int, ...]:
    """Return the cyclic order whose slowest link is fastest; ties by the sum of latencies.

    All orders are tried for up to 8 sites. Beyond, the nearest neighbour (by the same two
    criteria) from every start, improved by reversing stretches (2-opt) until nothing helps,
    which is usually but not always the best. Of equals the first in the sites' order wins.

    Examples
    --------
    >>> fast, slow = 2.0, 1.0
    >>> best_order([[0, slow, fast, fast], [slow, 0, fast, fast],
    ...             [fast, fast, 0, slow], [fast, fast, slow, 0]], [[0.0] * 4] * 4)
    (0, 2, 1, 3)
    """
    size = len(bandwidth)
    if size <= 2:
        return tuple(range(size))

    def cost(order: Sequence[int]) -> tuple[float, float]:
        edges = [(a, order[(i + 1) % size]) for i, a in enumerate(order)]
        return max(1 / bandwidth[a][b] for a, b in edges), sum(latency[a][b] for a, b in edges)

    if size <= _BRUTE_FORCE:
        return min(((0, *rest) for rest in permutations(range(1, size))), key=cost)
    found = min((_nearest_neighbours(s, bandwidth, latency) for s in range(size)), key=cost)
    best, improved = cost(found), True
    while improved:
        improved = False
        for i in range(1, size - 1):
            for j in range(i + 1, size):
                candidate = found[:i] + found[i : j + 1][::-1] + found[j + 1 :]
                if cost(candidate) < best:
                    found, best, improved = candidate, cost(candidate), True
    start = found.index(0)
    return tuple(found[start:] + found[:start])


def _nearest_neighbours(start: int, bandwidth: Matrix, latency: Matrix) -> list[int]:
    order, left = [start], set(range(len(bandwidth))) - {start}
    while left:
        here = order[-1]
        order.append(min(left, key=lambda b: (1 / bandwidth[here][b], latency[here][b], b)))
        left.remove(order[-1])
    return order
