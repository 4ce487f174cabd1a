"""The recommended setting, its alternatives, what binds and what to change next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from sim.network.links import Links
from sim.planning.asked import Asked
from sim.planning.limits import Limits, largest
from sim.planning.predictions import Predictions
from sim.planning.search import NOT_FITTING, Candidate, Point, Search
from sim.planning.settings import (
    ALGORITHM,
    BATCHES,
    EXCLUSIVE,
    ORDER,
    STEPS_BY_SITE,
    Setting,
    balanced_steps,
)
from sim.planning.space import Axes, axes_of
from sim.program import ArgumentError
from sim.questions.comparison import budget
from sim.questions.target_search import Requirement, required
from sim.questions.variations import links as link_names
from sim.records.scenario import Scenario
from sim.scenario.balance import BALANCED
from sim.scenario.method import parameters_of, per_worker

NEAR = 1.01
"""Where no setting reaches the target: times the least time, of what is taken for as fast."""
_NAMED = 3
_WORTH = 0.002  # relative gain of a change that is worth a line


@dataclass(frozen=True)
class Change:
    """One value of the recommended setting exchanged for another one."""

    key: str
    before: Any
    after: Any
    point: Point
    #: The limits that the changed setting is beyond.
    beyond: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Answer of a search; every point is for ``tokens`` tokens."""

    target: float
    tokens: float
    limits: Limits
    #: The setting that asks least of the training among those that reach the target; where none
    #: does, among those that take at most 1 % longer than the fastest. Of those that learn as it
    #: does, the fastest.
    recommended: Point
    #: Whether it reaches the target.
    reached: bool
    #: The setting of least time that no limit excludes; among equals, of fewest tokens per update.
    fastest: Point
    #: The one that sends fewest bytes, of those that meet what the recommended one must meet;
    #: among equals the fastest.
    leanest: Point
    #: The setting of least money that no limit excludes; None where nothing is priced.
    cheapest: Point | None
    #: All settings of which no other is better in time, tokens per update and bytes.
    front: tuple[Point, ...]
    #: The scenario's own method, as it was given.
    given: Point
    #: Single values to change next, the largest gain first.
    changes: tuple[Change, ...]
    #: What the recommended setting waits for: "link", "site" or "accelerators"; and its name.
    binds: tuple[str, str]
    #: The bandwidth at which the recommended setting reaches a target that it misses.
    needed: Requirement | None
    #: All settings that were simulated.
    points: tuple[Point, ...]
    #: How many settings there are, and how many of them the limits left.
    considered: int
    admissible: int
    #: How many settings each limit excluded.
    excluded: Mapping[str, int]
    #: Keys that were varied of the recommended setting's method.
    searched: tuple[str, ...]

    @property
    def simulated(self) -> int:
        """How many settings were simulated."""
        return len(self.points)

    @property
    def assumed(self) -> dict[str, str]:
        """What nobody gave and what was not searched either, for the recommended setting."""
        found = {*self.searched}
        found |= {f"method.{EXCLUSIVE[key[7:]]}" for key in found if key[7:] in EXCLUSIVE}
        return {key: text for key, text in self.recommended.scenario.assumed if key not in found}


class NothingAdmissibleError(ValueError):
    """The limits exclude every setting."""


def plan(
    asked: Asked,
    target: float = 0.95,
    tokens: float | None = None,
    limits: Limits | None = None,
    *,
    axes: Mapping[str, Axes] | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    predictions: Predictions | None = None,
) -> Plan:
    """Search methods and their settings.

    Parameters
    ----------
    asked
        What is searched, and from where.
    target
        Compute utilization to reach, a fraction.
    tokens
        Budget; by default the horizon's, else that of comparisons.
    limits
        What excludes a setting; by default :class:`Limits`.
    axes
        Method -> what is varied of it, in place of :func:`sim.planning.space.axes_of`.
    on_progress
        Called with settings simulated, and settings that may have to be.
    predictions
        What simulates them; by default this process.

    Raises
    ------
    NothingAdmissibleError
        If no setting is within the limits; the message says which excluded how many.
    """
    limits = limits or Limits()
    bases, given = asked.bases, asked.given
    tokens = tokens or budget(given)
    if axes is None:
        axes = {method: axes_of(base, asked.fixed, limits) for method, base in bases.items()}
    predictions = predictions or Predictions()
    search = Search(bases, axes, limits, tokens, on_progress, predictions)
    fastest = search.fastest()
    if fastest is None:
        causes = ", ".join(f"{number:,} for {why}" for why, number in largest(search.excluded))
        if NOT_FITTING in search.excluded:
            causes += "; bandwise memory shows what would fit"
        raise NothingAdmissibleError(
            f"none of {search.considered:,} settings is within the limits (excluded: {causes})"
        )
    recommended = search.first(
        lambda each: each.gentleness,
        lambda each: each.utilization >= target,
        lambda point: point.utilization >= target,
    )
    reached = recommended is not None
    slowest = fastest.token_s * NEAR if recommended is None else inf

    def possible(each: Candidate) -> bool:
        return each.token_s <= slowest and (not reached or each.utilization >= target)

    def enough(point: Point) -> bool:
        return point.token_s <= slowest and (not reached or point.utilization >= target)

    # Where times are random a run may be shorter than its bound: then the fastest is left.
    recommended = (
        recommended or search.first(lambda each: each.gentleness, possible, enough) or fastest
    )
    recommended = search.quickest_alike(recommended, possible, enough)
    leanest = search.leanest(possible, enough) or recommended
    front = tuple(search.front())
    fastest = search.gentlest_as_fast(fastest)
    cheapest = search.cheapest()
    changes = _changes(search, bases, recommended, axes)
    changes = (*_balancing(search, asked, recommended), *changes)
    chosen = [p for p in (recommended, fastest, leanest, cheapest) if p is not None]
    last = [*(point.scenario for point in chosen if point.scenario.random), given]
    finals = {id(point): _settled(point, predictions, last) for point in chosen}
    recommended, fastest, leanest = (finals[id(p)] for p in (recommended, fastest, leanest))
    cheapest = None if cheapest is None else finals[id(cheapest)]
    needed = None
    if not reached and recommended.figures.lost_to != "waiting" and link_names(given):
        run = replace(recommended.scenario.run, replications=1)  # searched, as all settings are
        needed = required(replace(recommended.scenario, run=run), [target])[0]
    return Plan(
        target=target,
        tokens=tokens,
        limits=limits,
        recommended=recommended,
        reached=reached,
        fastest=fastest,
        leanest=leanest,
        cheapest=cheapest,
        front=front,
        given=_as_given(search, given, predictions),
        changes=changes,
        binds=binding(recommended, search.links(recommended.scenario)),
        needed=needed,
        considered=search.considered,
        admissible=len(search.candidates),
        points=tuple(search.points),
        excluded=search.excluded,
        searched=tuple(axes[recommended.setting.method]),
    )


def _settled(point: Point, predictions: Predictions, following: Sequence[Scenario]) -> Point:
    """Return it predicted with all replications."""
    if not point.scenario.random:
        return point
    return replace(point, prediction=predictions.of(point.scenario, following))


def _as_given(search: Search, given: Scenario, predictions: Predictions) -> Point:
    bare = Setting(given.method.name)
    return Point(search.candidate(given, bare), predictions.of(given), search.tokens)


def _changes(
    search: Search, bases: Mapping[str, Scenario], from_: Point, axes: Mapping[str, Axes]
) -> tuple[Change, ...]:
    """Return what a change of each value would give, beyond the limits as well."""
    base, varied = bases[from_.setting.method], axes[from_.setting.method]
    promising = [
        (key, value, candidate)
        for key, values in varied.items()
        if key != ORDER and _matters(from_, key)
        for value, candidate in _promising(search, base, from_, key, values)
    ]
    faster: dict[str, list[tuple[Any, Point]]] = {}
    for number, (key, value, candidate) in enumerate(promising, 1):
        point = search.simulated(candidate, (other for *_, other in promising[number:]))
        if point.token_s < from_.token_s * (1 - _WORTH):
            faster.setdefault(key, []).append((value, point))
    found = [_nearest(search, from_, key, varied[key], points) for key, points in faster.items()]
    return tuple(sorted(found, key=lambda change: change.point.token_s))


def _matters(from_: Point, key: str) -> bool:
    """Whether another value of a key is another setting: buckets are, where they are sent."""
    overlap = from_.scenario.method.arguments.get("overlap")
    return key != "method.bucket_bytes" or overlap == "bucket"


def _promising(
    search: Search, base: Scenario, from_: Point, key: str, values: Sequence[Any]
) -> Iterator[tuple[Any, Candidate]]:
    """Yield the values of a key whose bounds say that they may be faster."""
    before = from_.setting.get(key)
    for value in values:
        if value == before:
            continue
        try:
            candidate = search.candidate(base, from_.setting.with_value(key, value))
        except ArgumentError:
            continue
        if key == ALGORITHM and search.no_faster(
            candidate.scenario, from_.scenario, from_.candidate.kind
        ):
            continue
        if candidate.sharpen() and candidate.token_s < from_.token_s * (1 - _WORTH):
            yield value, candidate


def _nearest(
    search: Search,
    from_: Point,
    key: str,
    values: Sequence[Any],
    faster: Sequence[tuple[Any, Point]],
) -> Change:
    """Return the nearest value that gains nearly as much as any."""
    before = from_.setting.get(key)
    enough = min(point.token_s for _, point in faster) * NEAR
    place = list(values).index(before) if before in values else 0
    after, point = min(
        ((value, point) for value, point in faster if point.token_s <= enough),
        key=lambda each: abs(list(values).index(each[0]) - place),
    )
    return Change(key, before, after, point, _beyond(search, point))


def _beyond(search: Search, point: Point) -> tuple[str, ...]:
    """Return the limits that a point is beyond."""
    large = search.limits.too_large(
        point.scenario, point.tokens_per_update, looks=point.candidate.looks
    )
    short = "" if search.fits(point.scenario) else NOT_FITTING
    return (*search.limits.beyond(point.scenario), *filter(None, [large, short]))


def _balancing(search: Search, asked: Asked, from_: Point) -> list[Change]:
    """Return what batches or inner steps with which no site waits would give, the best first."""
    found = []
    for key, base in _balanced_bases(asked, from_):
        setting = from_.setting.with_value(key, BALANCED)
        try:
            candidate = search.candidate(base, setting)
        except ArgumentError:
            continue
        point = search.simulated(candidate)
        if point.token_s < from_.token_s * (1 - _WORTH):
            found.append(Change(key, "as given", BALANCED, point, _beyond(search, point)))
    return sorted(found, key=lambda change: change.point.token_s)


def _balanced_bases(asked: Asked, from_: Point) -> Iterator[tuple[str, Scenario]]:
    """Yield what may be balanced of a setting: the key, and the scenario it is applied to."""
    method = from_.setting.method
    if asked.balanced is not None:
        yield BATCHES, asked.balanced[method]
    base, arguments = asked.bases[method], from_.scenario.method.arguments
    takes = parameters_of(base.method.program).annotations
    most = arguments.get("sync_every")
    if "method.sync_every" in asked.fixed or not isinstance(most, int):
        return
    if not per_worker(takes["sync_every"]) or arguments.get("fragment_spacing") == "nearest":
        return
    steps = balanced_steps(base, most)
    if min(steps) > 0 and len(set(steps)) > 1:
        yield STEPS_BY_SITE, base


def binding(point: Point, links: Links) -> tuple[str, str]:
    """Return what a setting waits for most: the link, the site, or the accelerators themselves.

    A link is the one that the largest collective fills most.
    """
    figures, scenario = point.figures, point.scenario
    lost = figures.breakdown[figures.lost_to]
    if lost < 0.005:
        return "accelerators", ""
    if figures.lost_to == "waiting":
        waits = [spent["waiting"] for spent in figures.breakdown_by_worker]
        site = scenario.workers[waits.index(min(waits))].site
        return "site", scenario.sites[site].name
    if figures.lost_to != "exposed_communication" or not figures.exchanges:
        return figures.lost_to, ""
    largest = max(figures.exchanges, key=lambda each: each.largest_bytes)
    cost = links.cost(largest.operation, largest.dtype, largest.largest_bytes, largest.members)
    if cost.latency_s > cost.transmit_s or not len(cost.links):
        return "latency", ""
    fullest = cost.use.max()
    names = [
        links.name_of(int(number))
        for number, use in zip(cost.links, cost.use, strict=True)
        if use >= fullest * (1 - 1e-6)
    ]
    shown = ", ".join(names[:_NAMED])
    left = len(names) - _NAMED
    return "link", f"{shown} and {left} more, alike" if left > 0 else shown
