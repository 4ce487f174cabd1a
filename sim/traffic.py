"""Bytes on the wire: of which collectives, and as a function of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.trace import Trace


@dataclass(frozen=True)
class Exchange:
    """All collectives of one operation and dtype in a run.

    ``smallest_bytes`` and ``largest_bytes`` are sizes of their buffers; ``sent_bytes`` has what
    each rank puts on the wire for the largest; ``count`` is how many there were.
    """

    operation: str
    dtype: str
    smallest_bytes: float
    largest_bytes: float
    sent_bytes: tuple[float, ...]
    count: int
    per_step: float = 0.0  # in one inner step; filled in by the figures


class Sent:
    """What a run sends; ``exchanges`` by kind, the methods for an average worker."""

    def __init__(self, trace: Trace) -> None:
        context = trace.context
        rank = next(iter(context.standing_for))
        mean_share = {key: float(np.mean(share)) for key, share in context.sent_share.items()}
        pieces: list[tuple[float, float, float]] = []
        sizes: dict[tuple[str, str], tuple[float, float, int]] = {}
        for row, start in trace.on_wire():
            if row.rank == rank:
                size = row.bytes
                kind = row.operation, row.detail.rpartition(" ")[2]
                least, most, count = sizes.get(kind, (size, size, 0))
                sizes[kind] = min(least, size), max(most, size), count + 1
                pieces.append((start, row.end_s, size * mean_share.get(" ".join(kind), 0.0)))
        self.exchanges = tuple(
            Exchange(
                operation,
                dtype,
                least,
                most,
                tuple(
                    share * most for share in context.sent_share.get(f"{operation} {dtype}", (0.0,))
                ),
                count,
            )
            for (operation, dtype), (least, most, count) in sizes.items()
        )
        edges = np.unique([edge for piece in pieces for edge in piece[:2]] or [0.0])
        rate = np.zeros(len(edges))
        jump = np.zeros(len(edges))
        starts, stops, _ = np.array(pieces).reshape(-1, 3).T
        places = zip(
            np.searchsorted(edges, starts).tolist(),
            np.searchsorted(edges, stops).tolist(),
            strict=True,
        )
        for (start, stop, sent), (first, last) in zip(pieces, places, strict=True):
            if last > first:
                rate[first:last] += sent / (stop - start)
            else:
                jump[first] += sent
        # A collective that takes no time is spread over nothing: it counts at its instant.
        self._edges = edges
        self._sent = np.concatenate([[0.0], np.cumsum(rate[:-1] * np.diff(edges))])
        self._jump = np.cumsum(jump)

    def _until(self, time: NDArray[np.float64]) -> NDArray[np.float64]:
        flowing = np.interp(time, self._edges, self._sent)
        index = np.searchsorted(self._edges, time, side="right") - 1
        return np.asarray(flowing + np.where(index >= 0, self._jump[index], 0.0))

    def between(self, begin: float, end: float) -> float:
        """Bytes sent from ``begin`` to ``end``, in seconds."""
        until = self._until(np.array([begin, end]))
        return float(until[1] - until[0])

    def peak(self, begin: float, end: float, span: float) -> float:
        """Most bytes sent in any ``span`` seconds inside the window, over the span."""
        span = min(span, end - begin)
        if span <= 0:
            return 0.0
        inside = self._edges[(self._edges >= begin) & (self._edges <= end)]
        starts = np.clip(np.concatenate([inside, inside - span, [begin]]), begin, end - span)
        return float(np.max(self._until(starts + span) - self._until(starts)) / span)
