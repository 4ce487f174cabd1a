"""Where a step begins: at the marks of the user's, or where the sequence of collectives repeats."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

_LEAST = 3  # repetitions, before anything is said to repeat
_MOST_CALLS = 20_000  # that are searched, the last ones
_NEARLY = 0.9  # of the longest stretch that any period covers
_EXPLAINED = 0.35  # of the deviation of times that a longer period must leave at most
_LONGEST = 512  # times the shortest period


def period(kinds: Sequence[Hashable], gaps: Sequence[float]) -> tuple[int, int, int] | None:
    """Return first call, length and number of the steps in a sequence of calls.

    The shortest period that covers nearly as long a stretch as any other; a multiple of it where
    the calls alone do not tell steps apart (a model that is sent as equal tensors, one by one),
    but the times between them do.

    Parameters
    ----------
    kinds
        What each call is, shape [calls].
    gaps
        Seconds of computation before each call, shape [calls].

    Examples
    --------
    >>> period(["set up", *"aabaabaab"], [1.0] * 10)
    (1, 3, 3)
    >>> period("aaaaaaaaaaaa", [9.0, 1, 1, 1] * 3)
    (0, 4, 3)
    >>> period("abcdefg", [1.0] * 7) is None
    True
    """
    skipped = max(0, len(kinds) - _MOST_CALLS)
    numbers: dict[Hashable, int] = {}
    coded = np.array([numbers.setdefault(kind, len(numbers)) for kind in kinds[skipped:]])
    count = len(coded)
    stretches = {
        length: found
        for length in range(1, count // _LEAST + 1)
        if (found := _longest(coded[length:] == coded[:-length]))[1] + length >= _LEAST * length
    }
    if not stretches:
        return None
    longest = max(found[1] + length for length, found in stretches.items())
    length = next(
        length
        for length, found in stretches.items()
        if found[1] + length >= max(_NEARLY * longest, 1)
    )
    first, matching = stretches[length]
    whole = matching + length
    times = np.asarray(gaps, dtype=float)[skipped + first : skipped + first + whole]
    length *= _multiple(times, length)
    return skipped + first, length, whole // length


def _longest(same: NDArray[np.bool_]) -> tuple[int, int]:
    """Return where the longest run of True begins, and how long it is."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], same.astype(np.int8), [0]])))
    if not len(edges):
        return 0, 0
    begins, ends = edges[::2], edges[1::2]
    which = int((ends - begins).argmax())
    return int(begins[which]), int(ends[which] - begins[which])


def _multiple(times: NDArray[np.float64], length: int) -> int:
    """Return how many periods of calls make one of their times."""

    def left(periods: int) -> float:
        """Mean deviation of the times at the same place of a step from their median."""
        size = periods * length
        rows = times[: len(times) // size * size].reshape(-1, size)
        return float(np.abs(rows - np.median(rows, axis=0)).mean())

    most = min(_LONGEST, len(times) // length // _LEAST)
    if most < 2:
        return 1
    plain = left(1)
    found = 1
    for periods in range(2, most + 1):
        if left(periods) < _EXPLAINED * plain:
            found = periods
            break
    return found


def boundaries(
    first: int,
    length: int,
    count: int,
    usable: Sequence[bool],
    in_flight: Sequence[int],
    gaps: Sequence[float],
) -> list[int]:
    """Return the calls with which steps begin, and the one after the last step.

    A period may begin anywhere. It is taken to begin with a call that is ``usable``, where least
    is in flight, and after the longest computation among those.

    Parameters
    ----------
    first, length, count
        What :func:`period` has found.
    usable
        Whether a step may begin with a call, shape [calls].
    in_flight
        Calls that have been issued before and not yet awaited, shape [calls].
    gaps
        Seconds of computation before each call, shape [calls].

    Examples
    --------
    >>> boundaries(0, 3, 3, [True] * 9, [2, 0, 1] * 3, [1.0] * 9)
    [1, 4, 7]
    """

    def order(place: int) -> tuple[float, float]:
        calls = range(first + place, first + length * count, length)
        flying = float(np.median([in_flight[call] for call in calls]))
        return flying, -float(np.median([gaps[call] for call in calls]))

    places = [place for place in range(length) if usable[first + place]] or list(range(length))
    place = min(places, key=order)
    end = first + length * count
    return list(range(first + place, end + 1, length))
