"""Levers: what one change of network, machines or method does to the time for equal tokens.

Each lever is the scenario with one thing changed, simulated next to it. Under random timing it is
one replication, with the random streams of the one that the figures are of: two scenarios with the
same workers draw the same factors, so that their difference is that of the change.

A lever of the network or the machines leaves the training as it is, except that a method that
looks at the clock takes other tokens per update. A lever of the method, or of who takes part,
changes what is learned, of which a simulation knows nothing: it is marked ``training_changes``.

The list is data, :data:`ROWS`: a row gives the names, scenarios and settings of its candidates, and
none where it does not apply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite

from sim.figures.egress import with_egress
from sim.figures.evaluation import Figures, figures
from sim.program import ArgumentError
from sim.questions.comparison import budget
from sim.questions.cost import Cost, cost
from sim.questions.effort import effort, effort_of_looking
from sim.questions.lever_candidates import Candidate
from sim.questions.levers_of_method import comm_dtype, delay, overlap, sync_every
from sim.questions.levers_of_network import bandwidth, rtt, slowest_link
from sim.questions.levers_of_sites import (
    balanced,
    computation,
    later_accelerators,
    one_more,
    without,
)
from sim.questions.replications import Prediction, predicted
from sim.records.scenario import Scenario
from sim.runtime import SimulationError, simulate

AT_ONCE_S = 1.0
"""Levers that are foreseen to take less are computed without being asked for."""
_AS_GOOD = 1e-3  # of the time: a longer delay that gains less is not worth it


@dataclass(frozen=True)
class Lever:
    """One change and what comes of it.

    ``change`` is that of the time for equal tokens, relative: -0.5 is half the time. ``setting``
    is how to type it, "" where no option says it. ``lower_bound``: this time, or the one that it is
    compared with, is at least what it says.
    """

    name: str
    seconds: float
    change: float
    utilization: float
    tokens_per_update: float
    tokens_per_update_before: float
    training_changes: bool
    setting: str
    lower_bound: bool = False
    #: Money more than without the change, for equal tokens; None where nothing is priced.
    money_change: float | None = None
    currency: str = ""

    @property
    def other_updates(self) -> bool:
        """Whether an update is of another number of tokens (a nan, undeclared, is not)."""
        before = self.tokens_per_update_before
        return abs(self.tokens_per_update - before) > 0.005 * before


@dataclass(frozen=True)
class Row:
    """One kind of lever; of several candidates the first counts that is as good as any."""

    candidates: Callable[[Scenario], Iterator[Candidate]]
    training_changes: bool = False


def levers(
    scenario: Scenario,
    tokens: float | None = None,
    base: Prediction | None = None,
    *,
    within_s: float = inf,
) -> list[Lever] | None:
    """Return what each lever does, the one that saves most first.

    Parameters
    ----------
    scenario
        What is changed.
    tokens
        For how many tokens the times are; by default its horizon, else 100e9.
    base
        Its own prediction, if there is one already.
    within_s
        Seconds of one processor that all levers together may be foreseen to take.

    Returns
    -------
    list of Lever or None
        None where they are foreseen to take longer. A change that the method refuses is left out;
        so are all where the scenario never gets there (its time is zero or infinite).

    Raises
    ------
    CollectiveMismatch, Deadlock, TooLarge, ArgumentError
        As :func:`sim.runtime.simulate` does, of the scenario as it is.
    """
    if base is None:
        if effort(scenario).seconds > within_s:
            return None
        base = predicted(scenario)
    return levers_of(
        scenario, base.figures, base.replication, tokens or budget(scenario), within_s=within_s
    )


def levers_of(
    scenario: Scenario,
    before: Figures,
    replication: int,
    tokens: float,
    *,
    within_s: float = inf,
) -> list[Lever] | None:
    """As :func:`levers`, for figures that are known, of the replication of that number."""
    base_s = before.time_for(tokens)
    if not 0 < base_s < inf:
        return []
    run = replace(scenario.run, replications=1)
    one = replace(scenario, run=run, replication=replication)
    # What a method that looks at the clock does meanwhile only its own figures tell.
    each_s = effort_of_looking(one, before) if before.looks else 0.0
    foreseen_s = 0.0
    asked: list[tuple[Row, list[Candidate]]] = []
    for row in ROWS:
        found = []
        for candidate in row.candidates(one):
            if isfinite(within_s):
                foreseen_s += max(each_s, effort(candidate.scenario).seconds)
                if foreseen_s > within_s:
                    return None
            found.append(candidate)
        asked.append((row, found))

    spent = cost(scenario, before, tokens)

    def lever(row: Row, candidate: Candidate) -> Lever | None:
        try:
            trace = simulate(candidate.scenario)
            after = figures(trace)
        except (ArgumentError, SimulationError):
            return None
        seconds = after.time_for(tokens)
        if spent.money is not None:
            after = with_egress(after, trace, candidate.scenario)
        return Lever(
            name=candidate.name,
            seconds=seconds,
            change=seconds / base_s - 1,
            utilization=after.compute_utilization,
            tokens_per_update=after.tokens_per_update,
            tokens_per_update_before=before.tokens_per_update,
            training_changes=row.training_changes,
            setting=candidate.setting,
            lower_bound=before.lower_bound or after.lower_bound,
            money_change=_more(spent, cost(candidate.scenario, after, tokens)),
            currency=spent.currency,
        )

    answers = []
    for row, found in asked:
        tried = [each for candidate in found if (each := lever(row, candidate)) is not None]
        if tried:
            best = min(each.change for each in tried)
            answers.append(next(each for each in tried if each.change <= best + _AS_GOOD))
    return sorted(answers, key=lambda each: each.change)


def _more(before: Cost, after: Cost) -> float | None:
    if before.money is None or after.money is None:
        return None
    return after.money - before.money


def within(sensitivity: bool | None) -> float | None:
    """Return the seconds that levers may take; None where they are not wanted.

    Parameters
    ----------
    sensitivity
        Whether they are; None is where they take less than a second.
    """
    if sensitivity is None:
        return AT_ONCE_S
    return inf if sensitivity else None


ROWS: Sequence[Row] = (
    Row(bandwidth),
    Row(slowest_link),
    Row(rtt),
    Row(computation),
    Row(later_accelerators),
    Row(balanced),
    Row(without, training_changes=True),
    Row(one_more, training_changes=True),
    Row(overlap),
    Row(sync_every, training_changes=True),
    Row(delay, training_changes=True),
    Row(comm_dtype, training_changes=True),
)
