"""How the bandwidth of a link varies over time: factors that are constant piece by piece."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import floor, inf


@dataclass(frozen=True)
class Profile:
    """Factors on a link's bandwidth; piece k lasts from ``begins[k]`` to the next one's begin.

    Make one with :meth:`of`. Time 0 is the begin of the run. After ``period`` seconds it begins
    again; without one the last piece lasts for ever. A factor of 0 means that the link is down.
    """

    begins: tuple[float, ...] = (0.0,)
    factors: tuple[float, ...] = (1.0,)
    period: float = inf

    @classmethod
    def of(cls, pieces: Sequence[tuple[float, float]], period: float = inf) -> Profile:
        """Return the profile of (begin, factor) pairs; neighbors of one factor are one piece.

        Examples
        --------
        >>> Profile.of([(0, 0.5), (3600, 0.5)], 86400)
        Profile(begins=(0.0,), factors=(0.5,), period=inf)
        """
        kept = [(0.0, float(pieces[0][1]))]
        for begin, factor in pieces[1:]:
            if factor != kept[-1][1]:
                kept.append((float(begin), float(factor)))
        begins, factors = zip(*kept, strict=True)
        return cls(begins, factors, period if len(kept) > 1 else inf)

    @property
    def constant(self) -> bool:
        """Whether nothing varies."""
        return len(self.factors) == 1

    @property
    def least(self) -> float:
        """The smallest factor."""
        return min(self.factors)

    @property
    def most(self) -> float:
        """The largest factor."""
        return max(self.factors)

    @property
    def mean(self) -> float:
        """The mean over a period; without one, the factor of the last piece."""
        return self._of_a_period / self.period if self.period < inf else self.factors[-1]

    def times(self, factor: float) -> Profile:
        """Return it with all factors multiplied."""
        if factor == 1:
            return self
        return Profile(self.begins, tuple(each * factor for each in self.factors), self.period)

    def shortened(self, factor: float) -> Profile:
        """Return it with all pieces, and the period, that many times shorter."""
        begins = tuple(begin / factor for begin in self.begins)
        return Profile(begins, self.factors, self.period / factor)

    @property
    def shortest(self) -> float:
        """Seconds of the shortest piece; without a period the last one does not end."""
        lengths = [after - before for before, after in pairwise((*self.begins, self.period))]
        if self.period < inf and len(lengths) > 1 and self.factors[0] == self.factors[-1]:
            lengths[0] += lengths.pop()  # one piece, across the end of the period
        return min(lengths)

    def at(self, instant: float) -> tuple[float, float]:
        """Return the factor at an instant, and when its piece ends."""
        cycle, piece = self._place(instant)
        return self.factors[piece], self._end_of(cycle, piece)

    def changes(self, begin: float, work: float) -> list[tuple[float, float]]:
        """Return when something is done that progresses as fast as the factor is large.

        Parameters
        ----------
        begin
            When it begins, in seconds.
        work
            Seconds that it takes at factor 1; more than 0.

        Returns
        -------
        list of (float, float)
            Instants and what is done until then: the begin with 0, every change of the factor on
            the way, and the end, the first instant at which the integral of the factor from the
            begin on is ``work``.
        """
        cycle, piece = self._place(begin)
        points, done, at = [(begin, 0.0)], 0.0, begin
        while True:
            factor, until = self.factors[piece], self._end_of(cycle, piece)
            fits = (until - at) * factor if factor else 0.0
            if factor and work - done <= fits:
                points.append((at + (work - done) / factor, work))
                return points
            done, at = done + fits, until
            points.append((at, done))
            cycle, piece = self._next(cycle, piece)

    def end_of(self, begin: float, work: float) -> float:
        """Return the end that :meth:`changes` finds, past many periods at once.

        Examples
        --------
        >>> night = Profile.of([(0, 1.0), (8, 0.5), (20, 1.0)], 24)
        >>> night.end_of(6.0, 4.0), night.end_of(6.0, 4.0 + 18 * 1000)
        (12.0, 24012.0)
        """
        if work <= 0:
            return begin
        periods = floor(work / self._of_a_period) - 1 if self.period < inf else 0
        if periods > 0:
            begin, work = begin + periods * self.period, work - periods * self._of_a_period
        return self.changes(begin, work)[-1][0]

    def done(self, begin: float, end: float) -> float:
        """Return the integral of the factor from one instant to a later one."""
        cycle, piece = self._place(begin)
        done, at = 0.0, begin
        while True:
            until = self._end_of(cycle, piece)
            if until >= end:
                return done + (end - at) * self.factors[piece]
            done, at = done + (until - at) * self.factors[piece], until
            cycle, piece = self._next(cycle, piece)

    def up_from(self, instant: float) -> float:
        """Return the first instant from that one on at which the link is not down."""
        cycle, piece = self._place(instant)
        while not self.factors[piece]:
            instant = self._end_of(cycle, piece)
            cycle, piece = self._next(cycle, piece)
        return instant

    def _next(self, cycle: int, piece: int) -> tuple[int, int]:
        return (cycle + 1, 0) if piece + 1 == len(self.begins) else (cycle, piece + 1)

    @cached_property
    def _of_a_period(self) -> float:
        """The integral of the factor over a period."""
        edges = (*self.begins, self.period)
        return sum((b - a) * f for (a, b), f in zip(pairwise(edges), self.factors, strict=True))

    def _place(self, instant: float) -> tuple[int, int]:
        """Return the number of the period and of the piece that hold an instant."""
        cycle = floor(instant / self.period) if self.period < inf else 0
        if cycle and instant < cycle * self.period:  # the division was rounded up
            cycle -= 1
        within = instant - cycle * self.period if cycle else instant
        piece = max(0, bisect_right(self.begins, within) - 1)
        while self._end_of(cycle, piece) <= instant:  # rounded down
            cycle, piece = self._next(cycle, piece)
        return cycle, piece

    def _end_of(self, cycle: int, piece: int) -> float:
        last = piece + 1 == len(self.begins)
        if self.period == inf:
            return inf if last else self.begins[piece + 1]
        begun = cycle * self.period
        return (cycle + 1) * self.period if last else begun + self.begins[piece + 1]


def mistake(pieces: Sequence[tuple[float, float]]) -> tuple[int, str] | None:
    """Return which piece is wrong, by its number, and what it must be; None where all are right."""
    if pieces[0][0] != 0:
        return 0, "the first piece must begin at 0, the begin of the run"
    for number, ((before, _), (begin, _)) in enumerate(pairwise(pieces), start=1):
        if begin <= before:
            return number, "must begin after the piece before it"
    if all(factor == 0 for _, factor in pieces):
        return len(pieces) - 1, "all factors are 0: the link would never carry anything"
    return None


UNVARIED = Profile()
"""As given, at all times."""
