"""Predictions of what is random: the median of several replications, with an interval.

A *replication* is a run with random streams of its own (jitter, gloo's wake-up latencies). What
is not random is run once. Otherwise the answer is the run of median wall-clock per round, all of
whose figures belong together, and an interval that holds whatever the distribution is: with
``x_1 <= ... <= x_n`` the median of the distribution lies between ``x_k`` and ``x_(n+1-k)`` with
probability

    1 - 2 (C(n, 0) + ... + C(n, k - 1)) / 2^n,

C(n, i) binomial coefficients: each value is below the median with probability 1/2. Five values
cover it with 93.8 % at most, so six are the fewest for 95 %, and seven the fewest of which one is
the median. Seven are run; if the 98.4 % interval from the least to the most is wider than 0.5 % of
the median, two more, and the interval is [x_2, x_8], which covers 96.1 %.

Source: H. A. David and H. N. Nagaraja, Order Statistics, 3rd ed. (2003), section 7.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import comb, inf
from typing import Generic, TypeVar

from sim.figures.egress import with_egress
from sim.figures.evaluation import Figures, figures
from sim.records.scenario import Scenario, Tariff
from sim.runtime import simulate
from sim.trace.table import Trace

T = TypeVar("T")

FEWEST, MOST = 7, 9
NARROW = 0.005
"""Width of the interval, relative to the median, at which no more replications are run."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """Where the median lies, in the unit of what was replicated."""

    #: n, how many replications were run; 1 where nothing is random.
    replications: int
    #: The k-th smallest of their values.
    low: float
    #: The k-th largest.
    high: float

    @property
    def coverage(self) -> float:
        """Probability that the median of the distribution lies in it."""
        return coverage(self.replications, rank_of(self.replications))

    def times(self, factor: float) -> Interval:
        """Return it in another unit."""
        return replace(self, low=self.low * factor, high=self.high * factor)


@dataclass(frozen=True)
class Replicated(Generic[T]):
    """The median of several replications."""

    median: T
    #: Number of the replication that ``median`` is of.
    replication: int
    interval: Interval


@dataclass(frozen=True)
class Prediction:
    """The replication of median wall-clock per evaluated round."""

    figures: Figures
    #: Number of the replication that the figures are of.
    replication: int
    #: Of ``figures.wall_clock_s``.
    interval: Interval
    _trace: Callable[[], Trace]

    @property
    def trace(self) -> Trace:
        """What happened in that replication; unless it was kept it is simulated again."""
        return self._trace()


def coverage(n: int, k: int) -> float:
    """Probability that a median lies between the k-th smallest and k-th largest of n values.

    Examples
    --------
    >>> coverage(7, 1), coverage(9, 2), coverage(5, 1)
    (0.984375, 0.9609375, 0.9375)
    """
    return 1.0 - 2 * sum(comb(n, i) for i in range(k)) / float(2**n)


def rank_of(n: int) -> int:
    """Return the largest k whose interval covers 95 %; 1, the whole range, if none does.

    Examples
    --------
    >>> [rank_of(n) for n in (1, 5, 7, 9, 15, 99)]
    [1, 1, 1, 2, 4, 40]
    """
    found = 1
    while found < (n + 1) // 2 and coverage(n, found + 1) >= CONFIDENCE:
        found += 1
    return found


def replicated(
    run: Callable[[int], T], value: Callable[[T], float], replications: int | None = None
) -> Replicated[T]:
    """Run replications and return the one of median value.

    Parameters
    ----------
    run
        Runs one, by its number from 0 on.
    value
        What they are ordered by.
    replications
        How many, an odd number; by default as many as it takes (see above).
    """
    found: list[tuple[float, int, T]] = []

    def until(count: int) -> None:
        for number in range(len(found), count):
            result = run(number)
            found.append((value(result), number, result))

    until(replications or FEWEST)
    if replications is None and _width(found) > NARROW:
        until(MOST)
    ranked = sorted(found, key=lambda each: each[:2])
    middle, k = len(ranked) // 2, rank_of(len(ranked))
    interval = Interval(len(ranked), ranked[k - 1][0], ranked[-k][0])
    return Replicated(ranked[middle][2], ranked[middle][1], interval)


def _width(found: list[tuple[float, int, T]]) -> float:
    values = sorted(value for value, _, _ in found)
    low, middle, high = values[0], values[len(values) // 2], values[-1]
    if low == high:
        return 0.0
    return (high - low) / middle if 0 < middle < inf else inf


def replications_of(scenario: Scenario) -> int | None:
    """How many to run: one where nothing is random, else as the scenario says."""
    return scenario.run.replications if scenario.random else 1


def predicted(scenario: Scenario, *, replay: Trace | None = None, keep: bool = False) -> Prediction:
    """Predict a scenario's figures.

    Methods are compared under common random numbers: the same replication of two scenarios with
    the same workers draws the same factors.

    Parameters
    ----------
    scenario
        What runs where; ``run.replications`` says how many replications, None as many as it
        takes. They are numbered from ``scenario.replication`` on.
    replay
        As for :func:`sim.runtime.simulate`, in every replication.
    keep
        Whether the traces of all replications are kept until the median is known, for short runs
        whose trace will be asked for. Nine traces of three million rows would not fit into memory.

    Raises
    ------
    CollectiveMismatch, Deadlock, ReplayError, TooLarge, ArgumentError
        As :func:`sim.runtime.simulate` does.
    """
    traces: dict[int, Trace] = {}
    # Counting what leaves each site takes a pass over the trace: where someone pays for it.
    billed = any(site.tariff != Tariff() for site in scenario.sites)

    def run(number: int) -> tuple[Figures, Scenario]:
        one = scenario
        if number:
            one = replace(scenario, replication=scenario.replication + number)
        if not keep:
            traces.clear()
        traces[number] = simulate(one, replay=replay)
        found = figures(traces[number])
        if billed:
            found = with_egress(found, traces[number], scenario)
        return found, one

    found = replicated(run, lambda each: a_round_s(each[0]), replications_of(scenario))
    result, one = found.median
    trace = traces.get(found.replication)

    def again() -> Trace:
        return simulate(one, replay=replay) if trace is None else trace

    interval = found.interval.times(result.window_rounds)
    if interval.replications == 1:
        interval = Interval(1, result.wall_clock_s, result.wall_clock_s)
    return Prediction(result, one.replication, interval, again)


def a_round_s(result: Figures) -> float:
    """Seconds of one evaluated round; 0 where there is none."""
    return result.wall_clock_s / result.window_rounds if result.window_rounds else 0.0
