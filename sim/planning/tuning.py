"""Each method with its own best setting, so that methods are compared at their best."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from sim.planning.asked import typed_keys
from sim.planning.decision import NEAR
from sim.planning.limits import Limits
from sim.planning.search import Point, Search
from sim.planning.settings import Setting
from sim.planning.space import axes_of
from sim.questions.comparison import budget
from sim.records.scenario import Scenario
from sim.scenario.document import Document


def tuned(
    bases: Mapping[str, Scenario],
    *,
    fixed: Collection[str] = (),
    limits: Limits | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, tuple[Setting, Scenario]]:
    """Return every method's own setting, found in the same way for all.

    That is the one which asks least of the training among those that take at most 1 % longer than
    the method's fastest within the limits. A method of which no setting is within them keeps what
    it was given.

    Parameters
    ----------
    bases
        Method -> scenario of it.
    fixed
        Keys that keep their values.
    limits
        By default those of a plan, with every method named.
    on_progress
        Called with settings simulated and settings that may have to be.
    """
    limits = limits or Limits(named=tuple(bases))
    return {
        method: _of_one(method, base, fixed, limits, on_progress) for method, base in bases.items()
    }


def tuned_cases(
    document: Document,
    cases: Mapping[str, Scenario],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, Scenario], dict[str, str]]:
    """Return the cases with each method's own best setting, and how to type what was found.

    What ``document`` says was typed keeps its value.
    """
    found = tuned(cases, fixed=typed_keys(document), on_progress=on_progress)
    words = {
        name: setting.typed() + ("" if setting.values else " (as given: no other is allowed)")
        for name, (setting, _) in found.items()
    }
    return {name: scenario for name, (_, scenario) in found.items()}, words


def _of_one(
    method: str,
    base: Scenario,
    fixed: Collection[str],
    limits: Limits,
    on_progress: Callable[[int, int], None],
) -> tuple[Setting, Scenario]:
    axes = {method: axes_of(base, fixed, limits)}
    search = Search({method: base}, axes, limits, budget(base), on_progress)
    fastest = search.fastest()
    if fastest is None:
        return Setting(method), base
    slowest = fastest.token_s * NEAR

    def near(point: Point) -> bool:
        return point.token_s <= slowest

    best = search.first(lambda each: each.gentleness, lambda each: each.token_s <= slowest, near)
    found = best or fastest
    return found.setting, replace(found.scenario, run=base.run)
