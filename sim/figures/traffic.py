"""Bytes on the wire: of which collectives, and as a function of time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sim.members import SEND, Members, family, is_send, named
from sim.trace.table import Context, Row, Trace, share_key


@dataclass(frozen=True)
class Exchange:
    """All collectives of one operation and dtype in a run that are over as many workers.

    ``smallest_bytes`` and ``largest_bytes`` are sizes of their buffers; ``members`` are those of
    one of the largest, for which ``sent_bytes`` has what each of them puts on the wire; ``count``
    is how many collectives there were.
    """

    operation: str
    dtype: str
    smallest_bytes: float
    largest_bytes: float
    members: Members
    sent_bytes: tuple[float, ...]
    count: int
    per_step: float = 0.0  # in one inner step; filled in by the figures

    def with_others(self, other: Exchange) -> Exchange:
        """Return it with those of another group of as many workers."""
        largest = max(self, other, key=lambda exchange: exchange.largest_bytes)
        return replace(
            largest,
            smallest_bytes=min(self.smallest_bytes, other.smallest_bytes),
            count=self.count + other.count,
        )


def _exchange(row: Row, members: Members, sizes: list[float], share: tuple[float, ...]) -> Exchange:
    """Return all collectives of one group that are of a row's operation and dtype."""
    most, dtype = max(sizes), row.detail.rpartition(" ")[2]
    sent = tuple(each * most for each in share)
    return Exchange(row.operation, dtype, min(sizes), most, members, sent, len(sizes))


class _Kind:
    """Collectives of one operation, dtype and group: what all of them have in common."""

    def __init__(self, row: Row, context: Context) -> None:
        members = named(row.group, len(context.site_of))
        self.key = share_key(row)
        self.mean_share = float(np.mean(context.sent_share.get(self.key, 0.0)))
        self.members, self.workers = len(members), len(context.site_of)
        #: Whose rows count, so that each collective counts once.
        self.counted = members.ranks[0] if members.name else next(iter(context.standing_for))
        self.sizes: list[float] = []


class Sent:
    """What a run sends; ``exchanges`` of the first worker by kind, the methods for an average one.

    Of a collective over some of the workers an average worker sends what its members send, over
    the number of all workers.
    """

    def __init__(self, trace: Trace) -> None:
        context = trace.context
        rank = next(iter(context.standing_for))
        starts: list[float] = []
        stops: list[float] = []
        sent: list[float] = []
        sizes: dict[str, tuple[Row, list[float]]] = {}  # those of the first worker
        kinds: dict[tuple[str, str, str], _Kind] = {}
        of_detail: dict[tuple[str, str, str], _Kind] = {}
        for row, start in trace.on_wire():
            kind = of_detail.get((row.operation, row.detail, row.group))
            if kind is None:
                name = row.operation, row.detail.rpartition(" ")[2], row.group
                kind = kinds[name] = kinds.get(name) or _Kind(row, context)
                of_detail[row.operation, row.detail, row.group] = kind
            if row.rank == rank:
                if not kind.sizes:
                    kind.sizes = sizes.setdefault(kind.key, (row, []))[1]
                kind.sizes.append(row.bytes)
            if row.rank == kind.counted:
                starts.append(start)
                stops.append(row.end_s)
                sent.append(row.bytes * kind.mean_share * kind.members / kind.workers)
        exchanges: dict[tuple[str, str, int], Exchange] = {}
        for key, (row, found) in sizes.items():
            members = named(row.group, len(context.site_of))
            more = _exchange(row, members, found, context.sent_share.get(key, (0.0,)))
            kind_of = SEND if is_send(more.operation) else family(more.operation)
            alike = kind_of, more.dtype, len(members)
            exchanges[alike] = exchanges[alike].with_others(more) if alike in exchanges else more
        self.exchanges = tuple(exchanges.values())
        edges = sorted({*starts, *stops}) or [0.0]
        place = {edge: number for number, edge in enumerate(edges)}
        rates, jumps = [0.0] * len(edges), [0.0] * len(edges)
        longer = []
        for start, stop, size in zip(starts, stops, sent, strict=True):
            first, last = place[start], place[stop]
            if last == first + 1:
                rates[first] += size / (stop - start)
            elif last > first:
                longer.append((first, last, size / (stop - start)))
            else:
                jumps[first] += size
        rate = np.array(rates)
        for first, last, more_rate in longer:
            rate[first:last] += more_rate
        self._edges = np.array(edges)
        between = self._edges[1:] - self._edges[:-1]
        self._sent = np.concatenate([[0.0], np.cumsum(rate[:-1] * between)])
        # A collective that takes no time is spread over nothing: it counts at its instant.
        self._jump = np.cumsum(jumps) if any(jumps) else None

    def _until(self, time: NDArray[np.float64]) -> NDArray[np.float64]:
        flowing = np.interp(time, self._edges, self._sent)
        if self._jump is None:
            return np.asarray(flowing)
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
