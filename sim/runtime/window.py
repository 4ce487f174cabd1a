"""Over which rounds figures are taken, and how many are simulated to find them.

A method whose communication overlaps whole rounds does not show its pace at once: as long as
there is slack, a backlog on the links or a lead of the faster workers builds up, sometimes for
many rounds. So rounds are simulated until they repeat. Where they do not, because a backlog keeps
growing, the pace of the links is found (:mod:`sim.runtime.backlog`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sim.members import is_control
from sim.records.scenario import Jitter, Scenario
from sim.runtime.backlog import Length, growing, length, pace
from sim.trace.packed import PackedRows
from sim.trace.table import LOOK, ROUND, WAIT, Row, Trace, Window

_MEASURED = 4  # rounds, where nothing is random; a pattern of 2 or 4 rounds fits
_MEASURED_JITTER = 50
MEASURED_LOOKING = 12, 64  # by methods that look at the clock: at least, and if that is cheap
# Such a method ends a round after a whole number of looks. With that many in the rounds that are
# evaluated, one look more or less is 0.03 % of them, and further rounds would not change more.
ENOUGH_LOOKS = 4096
_CHEAP_ROWS = 60_000
_MOST_ROUNDS = 512
_MOST_ROWS = 400_000
_SAME = 1e-6  # relative to a round
_ALIKE = 3  # rounds that took the same time: the next ones may be expected to as well


Longer = Callable[[Sequence[Row], float], int]
"""Takes the rows of a run whose first program has begun all its rounds, and the seconds until
then; returns the number of rounds that the run shall have, the same or a higher one."""
Run = Callable[[Scenario, int, Longer | None], Trace]
"""Simulates a scenario for at most that many rounds."""


def simulate_window(scenario: Scenario, run: Run) -> Trace:
    """Simulate as many rounds as a window needs, and note the window in the trace.

    With ``skip_rounds`` or ``measured_rounds`` given, those rounds; if they reach a horizon in
    rounds, up to the moment at which the last worker has ended it. Otherwise a few more, or twice
    as many, until the last ones repeat: every worker takes the same time for a round, and every
    collective as long from its call to its end as one, two or four rounds before. A result that is
    awaited k rounds after it was sent may let k rounds pass without a wait, so k + 1 rounds have
    to repeat where that is more than four. What never
    repeats is evaluated over the last half and marked as not steady, with the pace that the
    run's totals grow at (:func:`sim.runtime.backlog.pace`). With jitter, as many
    rounds are skipped as the scenario without jitter needs to settle, and 50 are measured. A
    method that looks at the clock need not settle: 12 rounds, or 64 where those have few looks.

    Parameters
    ----------
    run
        Simulates a scenario for at most that many rounds.
    """
    asked = scenario.run
    if asked.skip_rounds is not None or asked.measured_rounds is not None:
        trace = asked_for(scenario, run)
        window = trace.context.window
        assert window is not None
        return trace if window.last == asked.rounds else _checked(trace)
    if scenario.random:
        still = _settled(without_jitter(scenario), run, doubling=True)
        window = still.context.window
        assert window is not None
        spare = len(still.round_begins()) - 1 - window.last
        skip = max(1, window.first)
        trace = run(scenario, skip + _MEASURED_JITTER + spare + 1, None)
        trace = noted(trace, skip, skip + _MEASURED_JITTER, steady=window.steady)
        # Random times of the same mean never make it faster.
        return trace if window.steady else trace.evaluated(round_s=window.round_s, lower_bound=True)
    return _settled(scenario, run)


def asked_for(scenario: Scenario, run: Run) -> Trace:
    """Simulate the rounds that ``skip_rounds`` and ``measured_rounds`` choose, and note them."""
    asked = scenario.run
    skip = 1 if asked.skip_rounds is None else asked.skip_rounds
    measured = asked.measured_rounds or _MEASURED
    # Where workers differ, a round more: who is ahead must not run out of work meanwhile.
    ahead = _unequal(scenario) or scenario.random
    trace = run(scenario, skip + measured + ahead, None)
    if asked.rounds is not None and asked.rounds <= skip + measured:
        return trace.over(Window(skip, asked.rounds, steady=True))
    return noted(trace, skip, skip + measured, steady=True)


def _settled(scenario: Scenario, run: Run, *, doubling: bool = False) -> Trace:
    """Simulate until rounds repeat; ``doubling``: each time at least twice as many.

    What random times take to settle is no shorter than that.
    """
    limit = 1 + _MEASURED + _unequal(scenario)
    runs: list[Length] = []

    def longer(rows: Sequence[Row], now: float) -> int:
        nonlocal limit
        found = _limit_after(rows, now, limit)
        limit = max(found, 2 * limit) if doubling and found > limit else found
        return limit

    while True:
        trace = run(scenario, limit, longer)
        begins = trace.round_begins()
        rounds = len(begins) - 1
        if LOOK in trace.operations:
            cheap = len(trace.rows) < _CHEAP_ROWS
            if rounds == limit and cheap and (more := _looking(trace.rows, limit)):
                limit = more
                continue
            return noted(trace, 1, rounds, steady=True)
        last = last_in_common(trace)
        rows, rank = trace.rows, next(iter(trace.context.standing_for))
        awaited = first_awaited(rows, rank)
        first = max(1, last - _span(awaited))
        if rounds < limit or rounds < 1:  # the horizon came first
            return _checked(noted(trace, first_filled(rows, rank), rounds, steady=True))
        filled = first >= first_filled(rows, rank) and first >= awaited
        if filled and last - first == _span(awaited) and _repeats(trace, first, last):
            return trace.over(Window(first, last, steady=True))
        runs.append(length(trace))
        if limit >= _MOST_ROUNDS or len(trace.rows) > _MOST_ROWS:
            while len(runs) < 3 and (fewer := runs[0].rounds // 2) > 0:
                runs.insert(0, length(run(scenario, fewer, None)))
            first = max(1, last // 2)
            middle, end = begins[[first, last]].max(axis=1)
            round_s, least = pace(runs, float(end - middle) / max(1, last - first))
            trace = noted(trace, first, last, steady=False)
            return trace.evaluated(round_s=round_s, lower_bound=least)
        limit *= 2


def _looking(rows: Sequence[Row], limit: int) -> int:
    """Return the rounds to simulate after ``limit`` ones where a method looks; 0: no more."""
    least, most = MEASURED_LOOKING
    if limit < least:
        return least + 2
    looks = Counter(row.rank for row in rows if row.operation == LOOK)
    return 0 if limit >= most or min(looks.values()) >= ENOUGH_LOOKS else most + 2


def _limit_after(rows: Sequence[Row], now: float, limit: int) -> int:
    """Return a higher limit where it is certain already that so few rounds are not enough.

    The run then continues instead of being begun again. Certain it is where the method looks and
    rounds are cheap, and where one worker stands for all and its rounds took different times, or
    were not filled yet. The rows that the end of the run would add are allowed for.
    """
    if LOOK in {row.operation for row in rows}:
        return _looking(rows, limit) or limit if 2 * len(rows) < _CHEAP_ROWS else limit
    if limit >= _MOST_ROUNDS or 2 * len(rows) > _MOST_ROWS:
        return limit
    begins = [*(row.begin_s for row in rows if row.operation == ROUND), now]
    rank = rows[0].rank
    awaited = first_awaited(rows, rank)
    first = max(1, limit - _span(awaited))
    if len(begins) != limit + 1 or now <= begins[first]:  # of several workers, or no time passed
        return limit
    if first < max(first_filled(rows, rank), awaited):
        return 2 * limit
    times = np.array(begins)
    tolerance = _SAME * (now - begins[first]) / (limit - first)
    if _periods(times[:, None], first, limit, tolerance):
        return limit
    # The first rounds differ, as with a delay: of a few more all can be like the one before.
    took = np.diff(times)
    differ = np.flatnonzero(np.abs(took - took[-1]) > tolerance)
    alike = int(differ[-1]) + 1 if len(differ) else 0
    enough = alike + 1 + _span(awaited)
    return enough if enough > limit and limit - alike >= _ALIKE else 2 * limit


def noted(trace: Trace, first: int, last: int, *, steady: bool) -> Trace:
    """Return a trace whose evaluated rounds are first .. last - 1, as far as all begin them."""
    return trace.over(Window(first, min(last, last_in_common(trace)), steady))


def _checked(trace: Trace) -> Trace:
    """Mark rounds that nobody tried to repeat as not steady where a backlog grows in them."""
    window = trace.context.window
    assert window is not None
    round_s = growing(trace, window.last)
    if round_s is None:
        return trace
    return trace.evaluated(steady=False, round_s=round_s, lower_bound=True)


def last_in_common(trace: Trace) -> int:
    """Last round that all workers entered before the first of them had finished."""
    begins = trace.round_begins()
    if not len(begins):
        return 0
    entered = begins.max(axis=1) <= begins[-1].min() * (1 + 1e-12)
    return max(1, int(np.flatnonzero(entered).max(initial=0)))


def first_filled(rows: Sequence[Row], rank: int) -> int:
    """Round after the first in which an update was committed: until then the pipeline fills.

    A program that declares no update may have none to fill.
    """
    number = -1
    for row in _of_rank(rows, rank):
        if row.rank == rank:
            number += row.operation == ROUND
            if row.commits:
                return max(1, number + 1)
    return 1


def first_awaited(rows: Sequence[Row], rank: int) -> int:
    """Round in which a collective was awaited first; the last one where that is after all rounds.

    Until then a method with a delay does not show what it does when the delay is over. Control
    messages are awaited before anything is sent.
    """
    number = -1
    for row in _of_rank(rows, rank):
        if row.rank == rank and row.program == "main":
            number += row.operation == ROUND
            if row.operation == WAIT and not is_control(row.group):
                return number
    return 0


def _of_rank(rows: Sequence[Row], rank: int) -> Iterable[Row]:
    """Return the rows of a rank, and maybe others."""
    return rows.of_rank(rank) if isinstance(rows, PackedRows) and rows.columns else rows


def _span(awaited: int) -> int:
    """Return how many rounds must repeat where a result is awaited that many after it was sent."""
    return max(_MEASURED, awaited + 1)


def _repeats(trace: Trace, first: int, last: int) -> bool:
    """Whether the rounds first .. last - 1 are like those one, two, four or as many before."""
    begins = trace.round_begins()
    mean = float(begins[last].mean() - begins[first].mean()) / (last - first)
    if mean <= 0:
        return True
    tolerance = _SAME * mean
    lags = _lags(trace)
    if max((max(lag, default=0.0) for each in lags.values() for lag in each), default=0.0) > (
        float(begins[last].min())
    ):
        return False  # nothing that was sent has arrived: whether links keep up is not seen yet
    whole = begins[last] - begins[first]
    if float(np.ptp(whole)) > tolerance:
        return False  # some workers are still gaining on others
    return any(
        all(
            _alike(by_round[number], by_round[number - period], tolerance)
            for by_round in lags.values()
            for number in range(first, last)
        )
        for period in _periods(begins, first, last, tolerance)
    )


def _periods(begins: NDArray[np.float64], first: int, last: int, tolerance: float) -> list[int]:
    """Return after how many rounds, of 1, 2, 4 and all of them, first .. last - 1 repeat."""
    took = begins[1:] - begins[:-1]
    return [
        period
        for period in sorted({1, 2, 4, last - first})
        if period <= first
        and float(np.abs(took[first:last] - took[first - period : last - period]).max())
        <= tolerance
    ]


def _alike(a: list[float], b: list[float], tolerance: float) -> bool:
    return len(a) == len(b) and all(abs(x - y) <= tolerance for x, y in zip(a, b, strict=True))


def _lags(trace: Trace) -> dict[int, list[list[float]]]:
    """Seconds from call to end of each collective, by rank and the round of its call."""
    lags: dict[int, list[list[float]]] = {rank: [] for rank in trace.context.standing_for}
    for row in trace.rows:
        if row.operation == ROUND:
            lags[row.rank].append([])
        elif row.bytes > 0 and lags[row.rank]:
            lags[row.rank][-1].append(row.end_s - row.begin_s)
    return lags


def _unequal(scenario: Scenario) -> bool:
    by_worker = (value for value in scenario.method.arguments.values() if isinstance(value, tuple))
    machines = {worker.machine for worker in scenario.workers}
    return len(machines) > 1 or any(len(set(value)) > 1 for value in by_worker)


def without_jitter(scenario: Scenario) -> Scenario:
    """Return a scenario in which nothing is random."""
    still = [
        replace(worker, machine=replace(worker.machine, jitter=Jitter()))
        for worker in scenario.workers
    ]
    network = scenario.network
    host = replace(network.collectives.host, message_s=0.0)
    network = replace(network, collectives=replace(network.collectives, host=host))
    return replace(scenario, workers=tuple(still), network=network)
