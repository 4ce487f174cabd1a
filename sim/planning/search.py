"""Settings simulated in the order of their bounds, until no other can be better.

Every setting is rehearsed (:mod:`sim.planning.rehearsal`), which bounds its time from below. A
setting is simulated only if its bound leaves it a chance, so what is found is the best of all of
them to :data:`TOLERANCE`, although most were never simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from heapq import heappop, heappush, nsmallest
from math import inf
from typing import Any

from sim.figures.evaluation import Figures
from sim.network.links import Links
from sim.planning.evidence import learns_as
from sim.planning.limits import Limits
from sim.planning.money import price_per_second, priced
from sim.planning.predictions import AT_ONCE, Predictions
from sim.planning.rehearsal import Bounds, rehearsed
from sim.planning.settings import ALGORITHM, Setting, staleness, width
from sim.planning.space import METHODS, Axes, settings_of
from sim.program import ArgumentError
from sim.questions.cost import cost
from sim.questions.memory import memory
from sim.questions.replications import Prediction
from sim.records.scenario import Scenario
from sim.runtime import SimulationError

TOLERANCE = 1e-3
"""Relative difference in time below which a setting is not looked for."""

EQUAL = 1e-9
"""Relative difference in time below which two settings are as fast as each other.

Settings that wait for nothing take the time of the computation, summed in different orders: that
leaves differences of about 1e-14. Of what a model can say, 1e-9 is a millisecond in ten days.
"""

NOT_FITTING = "more memory than the accelerators have"

PLAINEST = {"overlap": "none"}
MOVED = ("method.overlap", "method.bucket_bytes", "method.fragment_sync_delay")
"""Arguments that move communication in time and change neither what is trained nor its bytes."""


def _preferred(method: str) -> int:
    return METHODS.index(method) if method in METHODS else len(METHODS)


def _but_algorithm(values: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Any], ...]:
    return tuple(pair for pair in values if pair[0] != ALGORITHM)


class Candidate:
    """A setting that no limit excludes, and its bounds.

    Parameters
    ----------
    setting
        The setting.
    scenario
        It, applied.
    kind
        A rehearsal of a setting that differs in :data:`MOVED` alone, so that it trains and sends
        the same: its ``least_token_s``, ``most_utilization``, tokens and bytes hold for this one.
    rehearse
        Rehearses a scenario.
    """

    def __init__(
        self,
        setting: Setting,
        scenario: Scenario,
        kind: Bounds,
        rehearse: Callable[[Scenario], Bounds],
    ) -> None:
        self.setting, self.scenario, self.kind = setting, scenario, kind
        self._rehearse = rehearse
        #: Seconds per token, at least.
        self.token_s = kind.least_token_s
        #: Compute utilization, at most.
        self.utilization = kind.most_utilization
        self.sharp = False

    @property
    def looks(self) -> bool:
        """Whether the method looks at the clock."""
        return self.kind.looks

    @property
    def least_money(self) -> float:
        """What it costs per token, at least: its least time and its egress."""
        return self._per_second * self.token_s + self.kind.egress_money_per_token

    @cached_property
    def _per_second(self) -> float:
        return price_per_second(self.scenario)

    def sharpen(self) -> bool:
        """Rehearse the setting itself, for sharper bounds; False if it cannot be run."""
        if not self.sharp:
            try:
                bound = self._rehearse(self.scenario)
            except ArgumentError:
                return False
            self.token_s, self.utilization, self.sharp = bound.token_s, bound.utilization, True
        return True

    @cached_property
    def learned(self) -> tuple[Any, ...]:
        """What may change what is learned, the least change first; equal settings learn alike.

        Tokens per update, then staleness, then the wire's precision, then the method, where
        trainings measured a difference.
        """
        return (
            round(self.kind.tokens_per_update, 3),
            staleness(self.scenario),
            -width(self.scenario),
            _preferred(learns_as(self.scenario.method.name)),
        )

    @cached_property
    def gentleness(self) -> tuple[Any, ...]:
        """By which the setting that asks least of the training comes first.

        What is ``learned``, then whether layers are applied one by one (which excludes clipping by
        the global norm), then bytes.
        """
        method = self.scenario.method
        return (
            *self.learned,
            method.arguments.get("overlap") == "layer",
            _preferred(method.name),
            self.kind.sent_per_token,
            len(self.setting.values),
            str(self.setting.values),
        )

    @property
    def leanness(self) -> tuple[Any, ...]:
        """By which the setting that sends least comes first; what is not known comes last."""
        return (self.looks, self.kind.sent_per_token, *self.gentleness)


@dataclass(frozen=True)
class Point:
    """A setting that was simulated, for a number of tokens."""

    candidate: Candidate
    prediction: Prediction
    tokens: float

    @property
    def setting(self) -> Setting:
        """The setting."""
        return self.candidate.setting

    @property
    def scenario(self) -> Scenario:
        """The scenario that was simulated."""
        return self.candidate.scenario

    @property
    def figures(self) -> Figures:
        """Its figures."""
        return self.prediction.figures

    @property
    def learned(self) -> tuple[Any, ...]:
        """As of a candidate, with the tokens per update that came out."""
        return (round(self.tokens_per_update, 3), *self.candidate.learned[1:])

    @property
    def gentleness(self) -> tuple[Any, ...]:
        """As of a candidate, with the tokens per update that came out."""
        return (round(self.tokens_per_update, 3), *self.candidate.gentleness[1:])

    @property
    def leanness(self) -> tuple[Any, ...]:
        """As of a candidate."""
        return (*self.candidate.leanness[:2], *self.gentleness)

    @property
    def seconds(self) -> float:
        """Time for the tokens, at the evaluated rounds' rate."""
        return self.figures.time_for(self.tokens)

    @property
    def money(self) -> float | None:
        """What it costs for the tokens; None where nothing is priced."""
        return cost(self.scenario, self.figures, self.tokens).money

    @property
    def token_s(self) -> float:
        """Seconds per token."""
        return self.figures.time_for(1.0)

    @property
    def utilization(self) -> float:
        """Compute utilization."""
        return self.figures.compute_utilization

    @property
    def tokens_per_update(self) -> float:
        """Tokens of all workers per committed update."""
        return self.figures.tokens_per_update

    @property
    def sent_per_token(self) -> float:
        """Bytes that a worker sends per token of all workers, on average."""
        tokens = self.figures.window_tokens
        return self.figures.sent_bytes_per_worker / tokens if tokens else 0.0


class Search:
    """The settings of several methods on one scenario.

    Parameters
    ----------
    bases
        Method -> scenario of it, which differ in the method alone.
    axes
        Method -> what is varied of it.
    limits
        What excludes a setting.
    tokens
        Budget for which times are stated.
    on_progress
        Called with settings simulated and, roughly, settings to simulate.
    predictions
        What simulates them.
    """

    def __init__(
        self,
        bases: Mapping[str, Scenario],
        axes: Mapping[str, Axes],
        limits: Limits,
        tokens: float,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
        predictions: Predictions | None = None,
    ) -> None:
        self.limits, self.tokens, self._on_progress = limits, tokens, on_progress
        self._predictions = predictions or Predictions()
        self._links: dict[tuple[Any, ...], Links] = {}
        self._points: dict[Setting, Point] = {}
        self._alike: dict[str, Prediction] = {}
        self._fitting: dict[tuple[Any, ...], bool] = {}
        self._memory_known = any(
            site.memory.sizes for base in bases.values() for site in base.sites
        )
        #: Settings in all, and how many each text of a limit has excluded.
        self.considered = 0
        self.excluded: dict[str, int] = {}
        self.candidates = [
            candidate
            for method, base in bases.items()
            for candidate in self._candidates(base, axes[method])
        ]

    @property
    def points(self) -> list[Point]:
        """All that was simulated."""
        return list(self._points.values())

    def links(self, scenario: Scenario) -> Links:
        """Return the links that scenarios of the same collectives share, with their costs."""
        collectives = scenario.network.collectives
        key = collectives.algorithm, collectives.order
        if key not in self._links:
            self._links[key] = Links(scenario)
        return self._links[key]

    def candidate(self, base: Scenario, setting: Setting) -> Candidate:
        """Return a setting with its bounds, whatever the limits are.

        Raises
        ------
        ArgumentError
            If its arguments exclude each other.
        """
        scenario = setting.applied(base)
        return Candidate(setting, scenario, self._rehearse(scenario), self._rehearse)

    def _rehearse(self, scenario: Scenario) -> Bounds:
        return rehearsed(scenario, self.links(scenario))

    def _rehearse_what_fits(self, scenario: Scenario) -> Bounds:
        """Rehearse a scenario whose workers fit into their accelerators, or may.

        Raises
        ------
        ArgumentError
            If they do not, or the method's arguments exclude each other.
        """
        if self._memory_known and not self.fits(scenario):
            self._exclude(NOT_FITTING)
            raise ArgumentError(NOT_FITTING)
        return self._rehearse(scenario)

    def fits(self, scenario: Scenario) -> bool:
        """Whether the workers fit into memory; also where that is not known."""
        arguments = scenario.method.name, tuple(sorted(scenario.method.arguments.items(), key=str))
        if arguments not in self._fitting:
            try:
                self._fitting[arguments] = memory(scenario).fits is not False
            except SimulationError:  # a program that needs the times of a run
                self._fitting[arguments] = True
        return self._fitting[arguments]

    def simulated(self, candidate: Candidate, following: Iterable[Candidate] = ()) -> Point:
        """Simulate a setting once, in one replication; those that ``follow`` may be next."""
        known = self._points.get(candidate.setting)
        if known is not None:
            return known
        alike = candidate.scenario.sha256  # a value that is the default's, too
        if alike in self._alike:
            prediction = self._alike[alike]
        else:
            next_ones = (_once(each.scenario) for each in following)
            prediction = self._predictions.of(_once(candidate.scenario), next_ones)
            self._alike[alike] = prediction
            self._on_progress(len(self._alike), len(self.candidates))
        known = self._points[candidate.setting] = Point(candidate, prediction, self.tokens)
        return known

    def allowed(self, point: Point) -> bool:
        """Whether what came out keeps the limits, too."""
        figures = point.figures
        return not self.limits.too_large(
            point.scenario, figures.tokens_per_update, looks=point.candidate.looks
        )

    def _candidates(self, base: Scenario, axes: Axes) -> Iterable[Candidate]:
        """Yield what may be simulated; of algorithms those that none other is faster than."""
        kinds: dict[tuple[Any, ...], Bounds | None] = {}
        algorithms: dict[tuple[Any, ...], list[tuple[Scenario, Bounds]]] = {}
        for setting in settings_of(base, axes):
            self.considered += 1
            scenario = setting.applied(base)
            if beyond := self.limits.beyond(scenario):
                self._exclude(beyond[0])
                continue
            alike = tuple(pair for pair in setting.values if pair[0] not in MOVED)
            if alike not in kinds:
                kinds[alike] = self._kind(
                    scenario, algorithms.setdefault(_but_algorithm(alike), [])
                )
            kind = kinds[alike]
            if kind is None:  # another algorithm is as fast and sends no more
                continue
            if self.limits.too_large(scenario, kind.tokens_per_update, looks=kind.looks):
                self._exclude("more tokens per update than the limit")
                continue
            yield Candidate(setting, scenario, kind, self._rehearse_what_fits)

    def _kind(self, scenario: Scenario, others: list[tuple[Scenario, Bounds]]) -> Bounds | None:
        """Rehearse a kind of setting, unless another algorithm makes it pointless."""
        if any(self.no_faster(scenario, *other) for other in others):
            return None
        # However it overlaps, it trains and sends the same: rehearse it where that is quickest.
        arguments = scenario.method.arguments
        plain = {name: value for name, value in PLAINEST.items() if name in arguments}
        method = replace(scenario.method, arguments={**arguments, **plain})
        kind = self._rehearse(replace(scenario, method=method))
        others.append((scenario, kind))
        return kind

    def _exclude(self, why: str) -> None:
        self.excluded[why] = self.excluded.get(why, 0) + 1

    def no_faster(self, scenario: Scenario, other: Scenario, kind: Bounds) -> bool:
        """Whether no collective is faster than with another algorithm, nor sends less.

        A run with collectives that take no less time takes no less time.
        """
        here, there = self.links(scenario), self.links(other)
        for operation, dtype, size, members in kind.calls:
            mine = here.cost(operation, dtype, size, members).seconds
            if mine < there.cost(operation, dtype, size, members).seconds * (1 - TOLERANCE):
                return False
            sent = here.sent_share(operation, dtype, members).mean()
            if sent < there.sent_share(operation, dtype, members).mean() * (1 - TOLERANCE):
                return False
        return True

    # -- questions -------------------------------------------------------------------------
    def _by_bound(
        self,
        hopeless: Callable[[Candidate], bool],
        bound: Callable[[Candidate], float] = lambda candidate: candidate.token_s,
    ) -> Iterable[Point]:
        """Simulate candidates, the least sharp bound first, and yield what came out of each.

        Those that are ``hopeless``, which is asked again whenever something is known, are left out.
        """
        queue = [(bound(each), each.gentleness, each) for each in self.candidates]
        queue.sort(key=lambda each: each[:2])  # a sorted list is a heap
        while queue:
            _, gentleness, candidate = heappop(queue)
            if hopeless(candidate):
                continue
            if candidate.sharp:
                yield self.simulated(candidate, _first_of(queue, hopeless))
            elif candidate.sharpen():
                heappush(queue, (bound(candidate), gentleness, candidate))

    def fastest(
        self,
        possible: Callable[[Candidate], bool] = lambda candidate: True,
        reached: Callable[[Point], bool] = lambda point: True,
    ) -> Point | None:
        """Return the setting of least time, of all or of some as in :meth:`first`."""
        best: Point | None = None

        def hopeless(candidate: Candidate) -> bool:
            late = best is not None and candidate.token_s >= best.token_s * (1 - TOLERANCE)
            return late or not possible(candidate)

        for point in self._by_bound(hopeless):
            if not (self.allowed(point) and reached(point)):
                continue
            if best is None or point.token_s < best.token_s:
                best = point
        return best

    def cheapest(self) -> Point | None:
        """Return the setting of least money, to :data:`TOLERANCE`; None where nothing is priced."""
        least = inf

        def hopeless(candidate: Candidate) -> bool:
            return candidate.least_money * self.tokens >= least * (1 - TOLERANCE)

        if not self.candidates or not priced(self.candidates[0].scenario):
            return None
        for point in self._by_bound(hopeless, lambda each: each.least_money):
            spent = point.money
            if self.allowed(point) and spent is not None:
                least = min(least, spent)
        known = [(point.money, point) for point in self.points if self.allowed(point)]
        found = [(_told_apart(spent), point) for spent, point in known if spent is not None]
        return min(found, key=lambda each: (each[0], each[1].gentleness))[1] if found else None

    def gentlest_as_fast(self, fastest: Point) -> Point:
        """Return what asks least, of the simulated settings that are as fast to :data:`EQUAL`.

        After :meth:`front`, which simulates whatever has fewer tokens per update or bytes.
        """
        alike = [
            point
            for point in self.points
            if point.token_s <= fastest.token_s * (1 + EQUAL) and self.allowed(point)
        ]
        return min(alike, key=_fewest)

    def quickest_alike(
        self,
        first: Point,
        possible: Callable[[Candidate], bool],
        reached: Callable[[Point], bool],
    ) -> Point:
        """Return the fastest setting that learns as one does: the gentlest to :data:`TOLERANCE`.

        Parameters
        ----------
        first
            The setting; the first by gentleness of those that are ``reached``.
        possible, reached
            As in :meth:`first`.
        """
        fewest, *others = first.learned

        def may_be(candidate: Candidate) -> bool:
            least, *same = candidate.learned
            return least <= fewest and same == others and possible(candidate)

        def is_alike(point: Point) -> bool:
            return point.learned == first.learned and reached(point)

        return self._gentlest_of_fastest(may_be, is_alike) or first

    def leanest(
        self, possible: Callable[[Candidate], bool], reached: Callable[[Point], bool]
    ) -> Point | None:
        """Return the setting that sends fewest bytes; of those to :data:`TOLERANCE` the fastest.

        Parameters
        ----------
        possible, reached
            As in :meth:`first`.
        """
        first = self.first(lambda each: each.leanness, possible, reached)
        if first is None:
            return None
        most = first.candidate.kind.sent_per_token * (1 + TOLERANCE)

        def may_be(candidate: Candidate) -> bool:
            known = candidate.looks == first.candidate.looks
            return known and candidate.kind.sent_per_token <= most and possible(candidate)

        return self._gentlest_of_fastest(may_be, reached) or first

    def _gentlest_of_fastest(
        self, possible: Callable[[Candidate], bool], reached: Callable[[Point], bool]
    ) -> Point | None:
        """Return the setting that asks least, of those as fast as the fastest to TOLERANCE."""
        best = self.fastest(possible, reached)
        if best is None:
            return None
        slowest = best.token_s * (1 + TOLERANCE)
        found = self.first(
            lambda each: each.gentleness,
            lambda candidate: candidate.token_s <= slowest and possible(candidate),
            lambda point: point.token_s <= slowest and reached(point),
        )
        return found or best

    def first(
        self,
        key: Callable[[Candidate | Point], Any],
        possible: Callable[[Candidate], bool],
        reached: Callable[[Point], bool],
    ) -> Point | None:
        """Return the first setting in an order that reaches something.

        ``possible`` says from the bounds whether it may, ``reached`` from the figures whether it
        does. A candidate's key is a bound of its point's.
        """
        best: Point | None = None
        ordered = sorted(self.candidates, key=key)
        for number, candidate in enumerate(ordered):
            if best is not None and key(candidate) >= key(best):
                break
            if possible(candidate) and candidate.sharpen() and possible(candidate):
                point = self.simulated(candidate, filter(possible, ordered[number + 1 :]))
                if self.allowed(point) and reached(point):
                    best = point if best is None else min(best, point, key=key)
        return best

    def front(self) -> list[Point]:
        """Return the settings of which no other is better in time, tokens per update and bytes."""
        found: list[Point] = []
        for point in self._by_bound(
            lambda candidate: any(_excludes(point, candidate) for point in found)
        ):
            if self.allowed(point):
                found.append(point)
        return undominated(found)


def _first_of(
    queue: list[tuple[float, tuple[Any, ...], Candidate]], hopeless: Callable[[Candidate], bool]
) -> Iterable[Candidate]:
    """Yield the candidates that a queue would give next, as far as their bounds are known."""
    for _, _, candidate in nsmallest(AT_ONCE, queue, key=lambda each: each[:2]):
        if not hopeless(candidate):
            yield candidate


def _once(scenario: Scenario) -> Scenario:
    """Return a scenario to be simulated in one replication."""
    return replace(scenario, run=replace(scenario.run, replications=1))


def _excludes(point: Point, candidate: Candidate) -> bool:
    """Whether a setting that was simulated is no worse than another one can be."""
    kind, margin = candidate.kind, 1 + TOLERANCE
    if point.token_s > candidate.token_s * margin:
        return False
    if point.tokens_per_update > kind.tokens_per_update * margin:
        return False
    if kind.looks:  # what it sends depends on how long it takes
        return width(point.scenario) <= width(candidate.scenario)
    return point.sent_per_token <= kind.sent_per_token * margin


def undominated(points: Sequence[Point]) -> list[Point]:
    """Return the points of which no other is better in all three, by time.

    Of those that are as fast to :data:`EQUAL` the one with fewest tokens per update comes first.
    """
    kept: list[Point] = []
    for point in _by_time(points):
        worse = (
            other.tokens_per_update <= point.tokens_per_update * (1 + TOLERANCE)
            and other.sent_per_token <= point.sent_per_token * (1 + TOLERANCE)
            for other in kept
        )
        if not any(worse):
            kept.append(point)
    return kept


def _by_time(points: Sequence[Point]) -> list[Point]:
    """Sort by time; what is as fast as the fastest of several, by what it asks."""
    groups: list[list[Point]] = []
    for point in sorted(points, key=lambda each: each.token_s):
        if groups and point.token_s <= groups[-1][0].token_s * (1 + EQUAL):
            groups[-1].append(point)
        else:
            groups.append([point])
    return [point for group in groups for point in sorted(group, key=_fewest)]


def _fewest(point: Point) -> tuple[Any, ...]:
    """Return by what the fewest tokens per update come first, then the fewest bytes."""
    return (round(point.tokens_per_update, 3), _told_apart(point.sent_per_token), point.gentleness)


def _told_apart(value: float) -> float:
    """Return a value without the digits that rounding decides, to be compared."""
    return float(f"{value:.9g}")
