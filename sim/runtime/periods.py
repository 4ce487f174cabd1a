"""Over which rounds figures are taken where links vary: whole periods of their profile.

Rounds within one piece of a profile repeat as if nothing varied, so whether rounds repeat says
nothing. Instead the run is simulated over several periods. Those rounds are evaluated that take
most nearly a whole number of periods; what is left over is a part of one round. A run that is
short enough is simulated whole, and its total is then exact. Where rounds are so short that two
periods would be too many of them, the pieces of the profiles are simulated shorter than they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf

import numpy as np
from numpy.typing import NDArray

from sim.network.gloo import SEGMENT_BYTES
from sim.records.scenario import Scenario
from sim.records.varying import varying
from sim.runtime.backlog import longest_lags
from sim.runtime.errors import TooLarge
from sim.runtime.window import (
    Run,
    asked_for,
    first_awaited,
    first_filled,
    last_in_common,
    noted,
    without_jitter,
)
from sim.trace.table import ROUND, Row, Trace
from sim.units import format_seconds

_FIRST_ROUNDS = 8
_ROUNDS, SEEN = 4, 32  # evaluated and simulated ones at least
FEW = 600  # evaluated rounds, of which a part of one is noticed
PERIODS, _MOST_PERIODS = 2, 64
MOST_ROWS = 100_000  # about a second
_MOST_OF_ALL = 400_000  # where nothing shorter would do
_HOPELESS = 4  # times as many rounds as are affordable: not even begun
_CLOSE = 2e-3  # of the evaluated periods, what the rounds may take more or less
_ROUNDS_OF_A_PIECE = 20  # at least, where pieces are simulated shorter than they are
_SAME_PACE = 1e-2  # relative, of the rounds in a period


def simulate_periods(scenario: Scenario, run: Run, period: float) -> Trace:
    """Simulate as many periods as figures need, and note the evaluated rounds in the trace.

    With ``skip_rounds`` or ``measured_rounds`` given, those rounds. Otherwise two periods, or more
    until the rounds of one are those of the one before and whole rounds come close to whole
    periods; the whole run where that is not much more. Of a profile without a period the whole run.

    Parameters
    ----------
    scenario
        What runs where.
    run
        Simulates a scenario for at most that many rounds.
    period
        Seconds after which all links are as before; infinite where a profile ends.

    Raises
    ------
    TooLarge
        If that would be too many operations.
    """
    if scenario.run.skip_rounds is not None or scenario.run.measured_rounds is not None:
        return asked_for(scenario, run)
    if period == inf:
        return _simulate(scenario, run, period, most_rows=_MOST_OF_ALL)[0]
    if not scenario.random:
        return _simulate(scenario, run, period)[0]
    still, periods = _simulate(without_jitter(scenario), run, period)
    trace, _ = _simulate(scenario, run, period, fixed=periods)
    window = still.context.window
    assert window is not None
    return (
        trace
        if window.steady
        else trace.evaluated(steady=False, round_s=window.round_s, lower_bound=True)
    )


def _simulate(
    scenario: Scenario,
    run: Run,
    period: float,
    fixed: int | None = None,
    shortened: float = 1.0,
    most_rows: int | None = None,
) -> tuple[Trace, int]:
    """Return a run with its evaluated rounds, and over how many periods it was simulated.

    ``fixed`` periods are taken without looking whether they repeat. Of a run of ``shortened``
    periods that is simulated whole all rounds count, so that its total is in proportion.
    """
    periods, most = fixed or PERIODS, most_rows or MOST_ROWS
    while True:
        until = _Until(scenario, period * periods, most, whole=period == inf)
        trace = run(scenario, _FIRST_ROUNDS, until)
        begins = trace.round_begins().max(axis=1, initial=0.0)[: last_in_common(trace) + 1]
        rounds = len(trace.round_begins()) - 1
        horizon = _horizon_rounds(scenario, trace.rows)
        ended = rounds < until.limit or (horizon is not None and rounds >= ceil(horizon - 1e-9))
        if until.too_long and not ended:
            if most_rows is not None:
                raise TooLarge(_too_long(period * shortened))
            return _shorter_or_longer(scenario, run, period, trace, fixed)
        rows, rank = trace.rows, next(iter(trace.context.standing_for))
        first = max(first_filled(rows, rank), first_awaited(rows, rank))
        found = _whole_periods(begins, first, period)
        if ended and (found is None or shortened != 1):
            return noted(trace, first_filled(rows, rank), rounds, steady=True), periods
        if found is None:  # some workers are far behind the one that was first
            periods *= 2
            continue
        growth = _growth(trace, begins, period)
        more = not ended and periods < _MOST_PERIODS and 2 * _work(scenario, rows) < MOST_ROWS
        more = more and fixed is None
        few = found.last - found.first < FEW
        if more and (growth is not None or found.left_over > _CLOSE or few):
            periods *= 2
            continue
        if not ended:
            trace = _to_whole_windows(scenario, run, trace, found)
        trace = noted(trace, found.first, found.last, steady=growth is None or ended)
        if growth is not None and not ended:
            took = float(begins[found.last] - begins[found.first]) / (found.last - found.first)
            trace = trace.evaluated(round_s=took + growth, lower_bound=True)
        return trace, periods


def _shorter_or_longer(
    scenario: Scenario, run: Run, period: float, begun: Trace, fixed: int | None
) -> tuple[Trace, int]:
    """Return a run of which two periods are many rounds: of shorter pieces, or a longer one.

    Where rounds are much shorter than pieces, a piece of a hundred rounds says of them what one
    of thousands does: only the round in which the factor changes is counted too often.
    """
    rounds = len(begun.round_begins()) - 1
    a_round_s = float(begun.round_begins().max()) / rounds
    rows = len(begun.rows) / rounds * PERIODS * period / a_round_s
    shortest = min(profile.shortest for profile in varying(scenario))
    most = int(shortest / (_ROUNDS_OF_A_PIECE * a_round_s))
    shorter = min(most, ceil(rows / (MOST_ROWS / 2)))
    if shorter < 2:
        return _simulate(scenario, run, period, fixed, most_rows=_MOST_OF_ALL)
    asked, network = scenario.run, scenario.network
    changed = replace(
        scenario,
        sites=tuple(
            replace(site, profile=site.profile.shortened(shorter)) for site in scenario.sites
        ),
        network=replace(
            network,
            profile=network.profile.shortened(shorter),
            link_profiles=tuple(
                (name, profile.shortened(shorter)) for name, profile in network.link_profiles
            ),
        ),
        run=replace(
            asked,
            rounds=None if asked.rounds is None else max(1, round(asked.rounds / shorter)),
            steps=None if asked.steps is None else max(1, round(asked.steps / shorter)),
            tokens=None if asked.tokens is None else asked.tokens / shorter,
        ),
    )
    trace, periods = _simulate(
        changed, run, period / shorter, fixed, shortened=shorter, most_rows=_MOST_OF_ALL
    )
    context = replace(
        trace.context,
        horizon_rounds=begun.context.horizon_rounds,
        horizon_tokens=begun.context.horizon_tokens,
    )
    return Trace(trace.rows, context, trace.total_s).evaluated(shortened=float(shorter)), periods


class _Until:
    """Lets a run begin more rounds until they cover some seconds, or until its horizon.

    Attributes
    ----------
    limit
        The rounds that the run may begin.
    too_long
        Whether it came to too many operations before.
    """

    def __init__(self, scenario: Scenario, seconds: float, most_rows: int, *, whole: bool) -> None:
        self._scenario = scenario
        self._most_rows = most_rows
        self._seconds = seconds
        self._whole = whole
        self.limit = _FIRST_ROUNDS
        self.too_long = False

    def __call__(self, rows: Sequence[Row], now: float) -> int:
        rank = rows[0].rank
        a_round = len(rows) / self.limit
        first = max(first_filled(rows, rank), first_awaited(rows, rank))
        begins = [row.begin_s for row in rows if row.operation == ROUND and row.rank == rank]
        end = begins[min(first, len(begins) - 1)] + self._seconds
        horizon = _horizon_rounds(self._scenario, rows)
        affordable = (self._most_rows - len(rows)) / a_round
        if self._whole or (now >= end and self.limit >= first + SEEN):
            if self._whole and horizon is None:
                horizon = 2 * self.limit
            if not self._whole:  # more than is needed, unless that is little
                work = _work(self._scenario, rows)
                affordable = (MOST_ROWS - work) * self.limit / work
            if horizon is not None and self.limit < horizon <= self.limit + affordable:
                self.limit = ceil(horizon)
            else:
                self.too_long = self._whole and horizon is not None and self.limit < horizon
            return self.limit
        missing = (end - now) * self.limit / now if 0 < now < end else self.limit
        more = ceil(min(1.02 * missing + 1, 3.0 * self.limit))
        beyond = self.limit >= SEEN and missing > _HOPELESS * affordable
        if more > affordable or (beyond and not self._whole):
            self.too_long = True
            return self.limit
        self.limit += more
        return self.limit


@dataclass(frozen=True)
class _Found:
    """Evaluated rounds first .. last - 1, and how far they are from whole periods, relative."""

    first: int
    last: int
    left_over: float


def _whole_periods(begins: NDArray[np.float64], first: int, period: float) -> _Found | None:
    """Return rounds that take whole periods as nearly as any; None where there is not one.

    Of several that come close, those that take most periods.
    """
    whole = begins[-1] - begins[min(first, len(begins) - 1)]
    if period == inf or whole < period * (1 - 1e-12):
        return None
    fewest = min(_ROUNDS, len(begins) - 1 - first)
    if whole / (len(begins) - 1 - first) * _ROUNDS > period:  # few rounds in a period, or less
        last = np.arange(first + fewest, len(begins))
        took = begins[last] - begins[first]
        left_over = np.abs(took - np.maximum(1.0, np.round(took / period)) * period) / took
        close = np.flatnonzero(left_over <= max(_CLOSE / 2, left_over.min()))
        return _Found(first, int(last[close[-1]]), float(left_over[close[-1]]))
    found = []
    most = int(whole / period * (1 + 1e-12))
    for periods in range(1, min(most, _MOST_PERIODS) + 1):
        length = periods * period
        ends = begins[first:] + length
        ends = ends[ends <= begins[-1] * (1 + 1e-12)]
        after = np.clip(np.searchsorted(begins, ends), 1, len(begins) - 1)
        nearer = np.abs(begins[after - 1] - ends) < np.abs(begins[after] - ends)
        last = np.where(nearer, after - 1, after)
        left_over = np.abs(begins[last] - ends) / length
        at = int(np.argmin(left_over))
        found.append(_Found(first + at, int(last[at]), float(left_over[at])))
    least = max(_CLOSE / 2, min(each.left_over for each in found))
    return [each for each in found if each.left_over <= least][-1]


def _growth(trace: Trace, begins: NDArray[np.float64], period: float) -> float | None:
    """Return by how much a round's communication falls behind, where the last periods differ.

    None where the last one had as many rounds as the one before, and its longest collective took
    as long from call to end, within a round.
    """
    end = begins[-1]
    edges = [end - 2 * period, end - period, end]
    if edges[0] < 0:
        return None
    before, middle, after = np.interp(edges, begins, np.arange(len(begins)))
    earlier, later = middle - before, after - middle
    if later <= 0:
        return None
    lags = longest_lags(trace)
    parts = [
        max(lags[int(a) : int(b)], default=0.0) for a, b in ((before, middle), (middle, after))
    ]
    rise = parts[1] - parts[0]
    if rise > period / later:
        return float(rise / later)
    return None if abs(later - earlier) <= max(1.0, _SAME_PACE * later) else 0.0


def _to_whole_windows(scenario: Scenario, run: Run, trace: Trace, found: _Found) -> Trace:
    """Return a run from whose end to the horizon it is a whole number of evaluated windows."""
    horizon = _horizon_rounds(scenario, trace.rows)
    if horizon is None or horizon <= found.last:
        return trace
    rounds = found.last + (ceil(horizon - 1e-9) - found.last) % (found.last - found.first)
    return run(scenario, max(rounds, found.last + 1), None)


def _work(scenario: Scenario, rows: Sequence[Row]) -> float:
    """Return rows and gloo's messages, which take as long, of a run so far."""
    if scenario.network.collectives.algorithm != "gloo":
        return float(len(rows))
    least = 2 * len(scenario.workers)
    segments = (max(least, row.bytes / SEGMENT_BYTES) for row in rows if row.bytes > 0)
    return len(rows) + 4 * sum(segments)  # there and back, each asked for


def _horizon_rounds(scenario: Scenario, rows: Sequence[Row]) -> float | None:
    """Return the rounds until the horizon; None without one, or where rounds have no steps."""
    tokens = scenario.horizon_tokens
    if scenario.run.rounds is not None or tokens is None:
        return scenario.run.rounds
    rank = rows[0].rank
    marks = (row.times for row in rows if row.operation == ROUND and row.rank == rank)
    steps = [times for times in marks if times]  # the end of the run is marked with none
    return tokens * len(steps) / (scenario.tokens_per_step * sum(steps)) if steps else None


def _too_long(period: float) -> str:
    if period == inf:
        return (
            f"the links' profile has no period, so that the whole run must be simulated, and that "
            f"is more than {_MOST_OF_ALL:,} operations; give network.profile_period, or "
            "run.skip_rounds and run.measured_rounds for some rounds of it"
        )
    return (
        f"{PERIODS} periods of the links' profile, {format_seconds(period)} each, are more than "
        f"{_MOST_OF_ALL:,} operations; give run.skip_rounds and run.measured_rounds for some of "
        "their rounds"
    )
