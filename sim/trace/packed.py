"""The rows of a large run, kept as columns: a quarter of the memory that objects take.

While a run is under way its latest rows are objects, as their times are still to be filled in. A
row is packed once its end is known; one that is still open stays an object until it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from sim.trace.row import COLUMNS, Row

TEXTS = ("program", "operation", "detail", "group")
_TIMES = ("begin_s", "end_s", "ready_s", "work_s")  # filled in after the row was made
_DTYPES = {
    "rank": np.dtype(np.int32),
    "call": np.dtype(np.int32),
    "commits": np.dtype(bool),
    **dict.fromkeys(TEXTS, np.dtype(np.int32)),
    **dict.fromkeys(("bytes", "observed", *_TIMES), np.dtype(np.float64)),
}
_VALUES = {name: attrgetter(name) for name in COLUMNS}
_AT_ONCE = 2**16  # rows

Columns = dict[str, NDArray[Any]]


class _Chunk:
    """Rows that were packed together; those that have not ended, by their place."""

    def __init__(self, columns: Columns, waiting: dict[int, Row]) -> None:
        self.columns = columns
        self.waiting = waiting

    def __len__(self) -> int:
        return len(self.columns["rank"])

    def fill_in(self, *, all_of_them: bool) -> None:
        """Write down the times of rows that have ended since, or of all."""
        ended = [
            place for place, row in self.waiting.items() if all_of_them or row.end_s == row.end_s
        ]
        for place in ended:
            row = self.waiting.pop(place)
            for name in _TIMES:
                self.columns[name][place] = getattr(row, name)


class PackedRows(Sequence[Row]):
    """Rows of a run as columns; a row is made when someone asks for it.

    Until :meth:`close` they are in the order in which they were appended, then by rank, and of
    each rank in that order. ``columns`` then has them whole: numpy arrays by the names of a trace's
    columns, in which texts are numbers into ``texts``.

    Examples
    --------
    >>> rows = PackedRows()
    >>> for rank in (1, 0):
    ...     rows.append(Row(rank, "main", "outer_step", "", "", -1, 0.0, 1, 2.0, 3.0))
    >>> rows.close()
    >>> [row.rank for row in rows], rows[1].operation, len(rows.of_rank(1))
    ([0, 1], 'outer_step', 1)
    """

    def __init__(self) -> None:
        self._chunks: list[_Chunk] = []
        self._latest: list[Row] = []
        self._packed = 0
        self._numbers: dict[str, int] = {}
        self._bounds: dict[int, slice] = {}
        self.columns: Columns = {}
        self.texts: list[str] = []

    def append(self, row: Row) -> None:
        """Add a row, whose times may still be filled in."""
        latest = self._latest
        latest.append(row)
        if len(latest) >= _AT_ONCE:
            self._pack()

    def close(self) -> None:
        """Pack what is left, and order all by rank; nothing is appended any more."""
        self._pack()
        chunks = self._chunks
        for chunk in chunks:
            chunk.fill_in(all_of_them=True)
        if not chunks:
            return
        ranks = np.concatenate([chunk.columns.pop("rank") for chunk in chunks])
        order = np.argsort(ranks, kind="stable")
        self.columns = {"rank": ranks[order]}
        for name in COLUMNS[1:]:  # one at a time: both copies of all would be twice the memory
            self.columns[name] = np.concatenate([chunk.columns.pop(name) for chunk in chunks])[
                order
            ]
        self._chunks = []
        found, starts = np.unique(self.columns["rank"], return_index=True)
        ends = [*starts[1:].tolist(), len(ranks)]
        for rank, start, end in zip(found.tolist(), starts.tolist(), ends, strict=True):
            self._bounds[rank] = slice(start, end)

    def number(self, text: str) -> int:
        """Return the number that a text has in the columns; -1 where it does not occur."""
        return self._numbers.get(text, -1)

    def bounds(self, rank: int) -> slice:
        """Return where a rank's rows are in the columns."""
        return self._bounds.get(rank, slice(0, 0))

    def of_rank(self, rank: int) -> list[Row]:
        """Return all rows of one rank."""
        if self._bounds:
            return list(self._made(self.columns, self.bounds(rank)))
        return [row for row in self if row.rank == rank]

    def occurring(self, name: str) -> set[str]:
        """Return the texts that occur in a column."""
        return {self.texts[number] for number in np.unique(self.columns[name]).tolist()}

    def __len__(self) -> int:
        return self._packed + len(self._latest)

    def __iter__(self) -> Iterator[Row]:
        if self.columns:
            yield from self._made(self.columns, slice(0, self._packed))
        for chunk in self._chunks:
            waiting = chunk.waiting
            for place, row in enumerate(self._made(chunk.columns, slice(0, len(chunk)))):
                yield waiting.get(place, row)
        yield from self._latest

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...

    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        if self.columns:
            return next(self._made(self.columns, slice(place, place + 1)))
        for chunk in self._chunks:
            if place < len(chunk):
                waiting = chunk.waiting.get(place)
                return waiting or next(self._made(chunk.columns, slice(place, place + 1)))
            place -= len(chunk)
        return self._latest[place]

    def _pack(self) -> None:
        rows, self._latest = self._latest, []
        for chunk in self._chunks:
            if chunk.waiting:
                chunk.fill_in(all_of_them=False)
        if not rows:
            return
        columns: Columns = {}
        for name, value in _VALUES.items():
            columns[name] = self._column(name, map(value, rows), len(rows))
        waiting = {place: row for place, row in enumerate(rows) if row.end_s != row.end_s}
        self._chunks.append(_Chunk(columns, waiting))
        self._packed += len(rows)

    def _column(self, name: str, values: Iterable[Any], count: int) -> NDArray[Any]:
        if name in TEXTS:
            texts, numbers = list(values), self._numbers
            for text in set(texts) - numbers.keys():
                numbers[text] = len(numbers)
                self.texts.append(text)
            return np.fromiter(map(numbers.__getitem__, texts), np.int32, count)
        if name not in _DTYPES:  # how often may be more than 64 bits hold: then objects
            return np.array(list(values))
        return np.fromiter(values, _DTYPES[name], count)

    def _made(self, columns: Columns, part: slice) -> Iterator[Row]:
        texts = self.texts
        for start in range(part.start, part.stop, _AT_ONCE):
            some = slice(start, min(start + _AT_ONCE, part.stop))
            lists = [
                [texts[number] for number in columns[name][some].tolist()]
                if name in TEXTS
                else columns[name][some].tolist()
                for name in COLUMNS
            ]
            yield from map(Row, *lists)
