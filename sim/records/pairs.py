"""A number for each ordered pair of sites, held once where all pairs have the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Row = tuple[float, ...]


@dataclass(frozen=True)
class Pairs:
    """A table S x S, row = from, column = to, whose diagonal means nothing.

    Make one with :meth:`alike` or :meth:`of`; two tables of the same numbers are then equal. It is
    as long as there are sites and ``pairs[a]`` is a row, made when it is asked for.
    """

    sites: int
    #: The number of every pair; None where pairs differ.
    common: float | None = None
    #: What stands on the diagonal then.
    diagonal: float = 0.0
    #: All numbers, where pairs differ.
    rows: tuple[Row, ...] = ()

    @classmethod
    def alike(cls, sites: int, value: float, diagonal: float) -> Pairs:
        """Return the table of one value for all pairs, as large for two sites as for thousands.

        Examples
        --------
        >>> list(Pairs.alike(3, 5.0, 0.0))
        [(0.0, 5.0, 5.0), (5.0, 0.0, 5.0), (5.0, 5.0, 0.0)]
        """
        return cls(sites, value if sites > 1 else diagonal, diagonal)

    @classmethod
    def of(cls, rows: Sequence[Sequence[float]]) -> Pairs:
        """Return the table that has these rows.

        Examples
        --------
        >>> Pairs.of([[0, 5], [5, 0]]) == Pairs.alike(2, 5, 0)
        True
        """
        value, diagonal = rows[0][-1], rows[0][0]
        sites = len(rows)
        table = cls.alike(sites, value, diagonal)
        if all(tuple(row) == table[site] for site, row in enumerate(rows)):
            return table
        return cls(sites, rows=tuple(tuple(row) for row in rows))

    def __len__(self) -> int:
        return self.sites

    def __getitem__(self, sender: int) -> Row:
        if self.common is None:
            return self.rows[sender]
        place = range(self.sites)[sender]
        return (
            *(self.common,) * place,
            self.diagonal,
            *(self.common,) * (self.sites - place - 1),
        )

    def __iter__(self) -> Iterator[Row]:
        return (self[site] for site in range(self.sites))

    def between(self, sender: int, receiver: int) -> float:
        """Return the number of one pair."""
        return self.rows[sender][receiver] if self.common is None else self.common

    def among(self, sites: Sequence[int]) -> Pairs:
        """Return the table of some of the sites, in that order."""
        if self.common is not None:
            return Pairs.alike(len(sites), self.common, self.diagonal)
        return Pairs.of([[self.rows[a][b] for b in sites] for a in sites])

    def times(self, factor: float) -> Pairs:
        """Return the table with every number multiplied."""
        if self.common is not None:
            return Pairs.alike(self.sites, self.common * factor, self.diagonal * factor)
        return Pairs.of([[value * factor for value in row] for row in self.rows])
