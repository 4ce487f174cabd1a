"""From the axes of a study to its cases: what may be combined, and which cases are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from sim.methods import METHODS
from sim.scenario.axes import Axis
from sim.scenario.cases import NOT_TAKEN, Case, GeneratedCases, case_of, keys_of
from sim.scenario.document import DEFAULT_METHOD, Document
from sim.scenario.errors import Origin, problem
from sim.scenario.method import parameters_of
from sim.scenario.resolution import resolve

_MOST_CASES, _MOST_GENERATED = 100_000, 10_000_000


def held(document: Document, axes: Sequence[Axis], *, again: bool = False) -> tuple[Case, ...]:
    """Return all cases; ``again`` says whether an axis may vary what is set already."""
    _check_apart(document, axes, _MOST_CASES, again=again)
    names = naming(axes)
    found = [
        case_of(document, axes, points, names)
        for points in product(*(axis.points for axis in axes))
    ]
    if names is not None:
        _check_taken(document, found)
    cases = _each_once(axes, found)
    _check_bandwidth(axes, cases)
    return cases


def made_later(document: Document, axes: Sequence[Axis]) -> GeneratedCases:
    """Return cases that are made later; what is wrong with a point of an axis is said now."""
    _check_apart(document, axes, _MOST_GENERATED, again=False)
    cases = GeneratedCases(document, tuple(axes))
    _check_bandwidth(axes, list(cases.samples()))
    return cases


def _check_bandwidth(axes: Sequence[Axis], cases: Sequence[Case]) -> None:
    for axis in axes:
        if all(c.path == ("network", "bandwidth") for p in axis.points for c in p.changes):
            check_varied(cases, axis.origin, "")


def _check_apart(document: Document, axes: Sequence[Axis], most: int, *, again: bool) -> None:
    """Refuse axes that set the same key, or one that is set already, and too many cases."""
    total = 1
    for place, axis in enumerate(axes):
        total *= len(axis.points)
        mine = {change.path for point in axis.points for change in point.changes}
        for other in axes[:place]:
            theirs = {change.path for point in other.points for change in point.changes}
            for path in sorted(mine & theirs):
                text = f"sets {'.'.join(path)}, which {other.name} sets too"
                raise problem(axis.origin, "", text)
        for path in () if again else sorted(mine):
            given = _by_option(document, path)
            if given is not None:
                text = f"{'.'.join(path)} is varied already; leave this out"
                raise problem(given, "", text)
    if total > most:
        raise problem(axes[-1].origin, "", f"makes {total} cases; at most {most} can be run")


def check_varied(cases: Sequence[Case], origin: Origin, key: str) -> None:
    """Refuse to vary a bandwidth that no line of any case has."""
    for scenario in (case.scenario for case in cases):
        lines = any(site.from_network for site in scenario.sites)
        if scenario.network.per == "pair" or lines or len(scenario.sites) == 1:
            return
    text = "varies nothing: every site has its own uplink and downlink; vary those"
    raise problem(origin, key, text)


def naming(axes: Sequence[Axis]) -> int | None:
    """Return the axis that names methods, if one does."""
    for place, axis in enumerate(axes):
        if any(c.path == ("method", "name") for point in axis.points for c in point.changes):
            return place
    return None


def _check_taken(base: Document, cases: Sequence[Case]) -> None:
    """Refuse an argument that none of the methods takes.

    What a file says of its own method may well be nothing to the methods that are varied.
    """
    given, steps = base.find(("method", "name"))
    file_method = METHODS.get(str(given.value) if given and steps == 2 else DEFAULT_METHOD)
    for left in sorted(set.intersection(*(keys_of(case.scenario.left_out) for case in cases))):
        if left.startswith("site."):  # of the method all the same
            if _by_option(base, tuple(left.split("."))) is not None:
                resolve(replace(cases[0].document, several=False))
            continue
        argument = left.removeprefix("method.")
        near = [case for case in cases if left not in case.scenario.left_out]  # but for its value
        document = (near or cases)[0].document
        if not document.origin_of("method", argument).names_key and (
            file_method is None or argument in parameters_of(file_method).annotations
        ):
            continue
        resolve(replace(document, inherited=document.inherited - {argument}))


def _each_once(axes: Sequence[Axis], cases: Sequence[Case]) -> tuple[Case, ...]:
    """Leave out cases that differ in nothing but what their method does not take."""
    found = list({tuple(case.labels.values()): case for case in reversed(cases)}.values())[::-1]
    for axis in axes:
        if any(case.labels[axis.name] == NOT_TAKEN for case in found):  # one kind per column
            found = [
                replace(case, labels={**case.labels, axis.name: str(case.labels[axis.name])})
                for case in found
            ]
    return tuple(found)


def _by_option(document: Document, path: tuple[str, ...]) -> Origin | None:
    """Return the option or setting that already sets a key."""
    if path[0] == "site":
        places: list[tuple[str | int, ...]] = [
            ("site", index, *path[1:]) for index in range(len(document.sites))
        ]
    else:
        places = [path]
    for place in places:
        if document.has(*place) and (origin := document.origin_of(*place)).names_key:
            return origin
    return None
