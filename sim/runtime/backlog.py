"""The pace of a run whose links fall behind its workers.

A method that need not wait for what it sends computes on while messages queue on a saturated
link, until its delay is over or the run ends; then what is in flight is awaited. As long as the
queue grows, rounds look as fast as computation. The run as a whole keeps the pace of its links:

    T(n) = T(n0) + (n - n0) w

with T(n) the seconds from the start to the end of the last program of a run of n rounds, n0 the
rounds simulated and w the seconds that a round's messages occupy the links. T(n) holds the time to
drain the queue, so the rule is the same whether the delay or the horizon comes first: a link that
is always busy ends n rounds' messages after n w.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from sim.trace.table import ROUND

if TYPE_CHECKING:
    from sim.trace.table import Trace

_LINEAR = 1e-3  # relative, of the seconds per round
_FEW = 4  # rounds in which a trend can be seen


@dataclass(frozen=True)
class Length:
    """A run of some rounds: seconds to the end of its last collective, and of its programs."""

    rounds: int
    carried_s: float
    total_s: float


def length(trace: Trace) -> Length:
    """Measure one run."""
    carried = max((row.end_s for row in trace.counted_rows() if row.bytes > 0), default=0.0)
    return Length(len(trace.round_begins()) - 1, carried, trace.total_s)


def pace(runs: Sequence[Length], took: float) -> tuple[float, bool]:
    """Return the seconds of a round in the long run, and whether they are only the least.

    The rise, from run to run, of the time at which the last collective ends; ``took`` where that
    is more. They are only the least where the rise still changes, so that another link or delay
    may set the pace later, or where the whole run rises otherwise than its collectives: what is
    computed at the end of the run then grows with it, as far as the method's delay reaches.

    Parameters
    ----------
    runs
        Runs of one scenario that differ in their rounds, ascending.
    took
        Seconds of a round as simulated.

    Examples
    --------
    >>> ended = [Length(n, 2.0 * n, 2.0 * n + 5) for n in (10, 20, 40)]
    >>> pace(ended, 1.5), pace(ended[1:], 1.5)
    ((2.0, False), (2.0, True))
    """
    if len(runs) < 2:
        return took, True
    *before, fewer, most = runs
    more = most.rounds - fewer.rounds
    rise = max(took, (most.carried_s - fewer.carried_s) / more)
    settled = _same((most.total_s - fewer.total_s) / more, rise)
    if before:
        rounds = fewer.rounds - before[-1].rounds
        settled = settled and _same(
            max(took, (fewer.carried_s - before[-1].carried_s) / rounds), rise
        )
    return rise, not (before and settled)


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= _LINEAR * b


def growing(trace: Trace, last: int) -> float | None:
    """Return the seconds of a round at which the links follow, where a backlog grows.

    Parameters
    ----------
    trace
        A run of few rounds.
    last
        The round before which to look.

    Returns
    -------
    float or None
        A round's seconds and the growth of the longest time from a collective's call to its end;
        None where that time does not grow in every round after the first.
    """
    begins = trace.round_begins().max(axis=1, initial=0.0)
    lags = longest_lags(trace)[1:last]
    if len(lags) < _FEW or len(begins) <= last:
        return None
    took = float(begins[last] - begins[1]) / (last - 1)
    steps = [later - earlier for earlier, later in pairwise(lags)]
    if min(steps) <= _LINEAR * took:
        return None
    half = steps[len(steps) // 2 :]
    return took + sum(half) / len(half)


def longest_lags(trace: Trace) -> list[float]:
    """Seconds from call to end of each round's slowest collective, at the first rank."""
    rank = next(iter(trace.context.standing_for))
    lags: list[float] = []
    for row in trace.rows_of(rank):
        if row.program == "main":
            if row.operation == ROUND:
                lags.append(0.0)
            elif row.bytes > 0 and lags:
                lags[-1] = max(lags[-1], row.end_s - row.begin_s)
    return lags
