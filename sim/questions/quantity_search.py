"""The value of a quantity that reaches a target utilization: every one, or by halving a range."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf, nan

from sim.figures.evaluation import Figures, figures
from sim.program import ArgumentError
from sim.questions.quantities import CHECKED, Quantity, Range, Value
from sim.questions.replications import replicated, replications_of
from sim.records.scenario import Scenario
from sim.runtime import simulate

_FIRST_STEP = 4  # positions


@dataclass(frozen=True)
class Found:
    """Answer for one target.

    ``outcome`` is "reached" (``value`` is the best that does), "any" (so does the best value of
    all, which ``value`` then is) or "not reached" (no value does; ``value`` is the last one tried).
    ``utilization`` and ``figures`` are those of the run with ``value``, ``before`` is the
    utilization with the next better value, which does not reach the target (nan where there is
    none). Where something is random every replication has an answer of its own: this is the
    median of them, and ``low`` and ``high`` are the ends of its interval, the better value first
    (None where no value reaches the target). ``exceptions`` are better values that reach the
    target, too, and worse ones that do not: utilization does not grow from value to value then.
    """

    target: float
    outcome: str
    value: Value
    utilization: float
    before: float
    figures: Figures
    replications: int
    low: Value | None
    high: Value | None
    exceptions: tuple[Value, ...] = ()


def search(scenario: Scenario, targets: Sequence[float], quantity: Quantity) -> list[Found]:
    """Find for each target, a fraction, the best value of a quantity that reaches it.

    Best is the longest round trip, the fewest steps, the shortest delay, the widest type, the
    smallest batch. Where something is random, the median of the replications' answers.

    Raises
    ------
    ArgumentError
        If the scenario has no such quantity, or its method is busy at any value of it.
    """
    offered = quantity.range_in(scenario)
    searches: dict[int, _Search] = {}

    def of(number: int) -> _Search:
        if number not in searches:
            seeded = replace(scenario, replication=scenario.replication + number)
            searches[number] = _Search(quantity.range_in(seeded))
        return searches[number]

    def end(position: float) -> Value | None:
        return offered.value(int(position)) if position < inf else None

    answers = []
    for target in targets:

        def answer(number: int, target: float = target) -> tuple[Found, float]:
            return of(number).answer(target, near=of(0).places.get(target))

        every = replicated(answer, lambda each: each[1], replications_of(scenario))
        (found, place), interval = every.median, every.interval
        answers.append(
            replace(
                found,
                replications=interval.replications,
                low=end(interval.low),
                high=end(interval.high),
                exceptions=of(every.replication).exceptions(target, place),
            )
        )
    return answers


class _Search:
    """The search in one replication; figures are kept by position, so that targets share them."""

    def __init__(self, offered: Range) -> None:
        self._range = offered
        #: Target -> the position that was found.
        self.places: dict[float, int] = {}
        self._figures: dict[int, Figures] = {}

    def _at(self, position: int) -> Figures:
        if position not in self._figures:
            value = self._range.value(position)
            found = figures(simulate(self._range.applied(value)))
            if found.looks and found.hand_overs > 0:
                raise ArgumentError(
                    "computes while it communicates, so it is busy at any "
                    f"{self._range.title}; --of bandwidth says when its communication fits"
                )
            self._figures[position] = found
        return self._figures[position]

    def _reaches(self, position: int, target: float) -> bool:
        return self._at(position).compute_utilization >= target

    def answer(self, target: float, near: int | None) -> tuple[Found, float]:
        """Return the answer and its position, infinite where no value reaches the target.

        ``near`` is what another replication has found.
        """
        offered = self._range

        def reaches(position: int) -> bool:
            return self._reaches(position, target)

        place = least(reaches, offered.last, offered.one_by_one, near)
        if place is not None:
            self.places[target] = place
        outcome = "not reached" if place is None else "reached" if place else "any"
        at = offered.last if place is None else place
        there = self._at(at)
        before = self._at(at - 1).compute_utilization if at else nan
        found = Found(
            target,
            outcome,
            offered.value(at),
            there.compute_utilization,
            before,
            there,
            1,
            None,
            None,
        )
        return found, inf if place is None else float(place)

    def exceptions(self, target: float, found: float) -> tuple[Value, ...]:
        """Return values some way from what was found that contradict it, the better ones first."""
        easier = self._range.easier
        if easier is None or found == inf:
            return ()
        place = int(found)
        positions = {easier(place, each) for factor in CHECKED for each in (factor, 1 / factor)}
        wrong = [
            position
            for position in sorted(positions - {place})
            if 0 <= position <= self._range.last
            and self._reaches(position, target) != (position > place)
        ]
        return tuple(self._range.value(position) for position in wrong)


def least(
    reaches: Callable[[int], bool], last: int, one_by_one: int, near: int | None = None
) -> int | None:
    """Return the least position from 0 to ``last`` that reaches; None where none does.

    The first ``one_by_one`` are tried in order. Then steps double, and the last interval is
    halved, in which positions are taken to reach from the least one on. With ``one_by_one`` 0
    that is taken of all positions, and the range is halved, or what lies around ``near``.

    Examples
    --------
    >>> least(lambda n: n >= 37, 100, 4), least(lambda n: n >= 37, 100, 0)
    (37, 37)
    >>> least(lambda n: n in (2, 50), 100, 4), least(lambda n: n > 100, 100, 4)
    (2, None)
    """
    for position in range(min(one_by_one, last + 1)):
        if reaches(position):
            return position
    low = min(one_by_one, last + 1) - 1
    if low == last:
        return None
    if one_by_one:
        high = min(2 * low + 1, last)
    elif near is None:
        high = last
    else:
        low, high = _around(reaches, near, last)
    while not reaches(high):
        if high == last:
            return None
        low, high = high, min(2 * high + 1, last)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def _around(reaches: Callable[[int], bool], near: int, last: int) -> tuple[int, int]:
    """Return two positions around one near ``near``: the lower does not reach, or is before all.

    The higher one reaches, or is the last of all.
    """
    step, low, high = _FIRST_STEP, near - 1, near
    if reaches(near):
        while low >= 0 and reaches(low):
            high, low, step = low, low - step, 4 * step
        return max(low, -1), high
    while high < last and not reaches(high):
        low, high, step = high, min(high + step, last), 4 * step
    return low, high
