"""The combinations of the axes of a study, held or made when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import overload

from sim.records.scenario import Scenario
from sim.scenario.axes import Axis, Label, Point
from sim.scenario.checking import validated
from sim.scenario.document import Change, Document
from sim.scenario.resolution import resolve
from sim.scenario.schema import ScenarioFile

NOT_TAKEN = "-"  # the label of what a method does not take


@dataclass(frozen=True)
class Case:
    """One combination of the axes' points.

    ``labels`` has one entry per axis: the case's name for an axis of named cases, else the
    value in SI units under its key with the unit in the name ("network.rtt_s"). ``sections``
    are the same keys as they were given, for realrun; ``base`` and ``changes`` make its document.
    Where methods are varied, arguments are for all of them, except those that a named case gives
    together with its method (``own``). An axis that sets only what this method does not take is
    labelled "-".
    """

    labels: dict[str, Label]
    scenario: Scenario
    sections: ScenarioFile
    base: Document
    changes: tuple[Change, ...]
    own: frozenset[str] | None = None

    @property
    def document(self) -> Document:
        """What a file would hold that says this case alone."""
        document = self.base.overlaid(self.changes)
        return document if self.own is None else document.for_several_methods(self.own)


def case_of(
    base: Document, axes: Sequence[Axis], points: Sequence[Point], naming: int | None
) -> Case:
    """Return the case of one point of each axis; ``naming`` is the axis that names methods."""
    labels = {axis.name: point.label for axis, point in zip(axes, points, strict=True)}
    changes = tuple(change for point in points for change in point.changes)
    own = None
    if naming is not None:
        together = points[naming].changes
        own = frozenset(c.path[1] for c in together if c.path[0] == "method" and c.path[1:])
    document = base.overlaid(changes)
    if own is not None:
        document = document.for_several_methods(own)
    scenario = resolve(document)
    for axis, point in zip(axes, points, strict=True):
        keys = {".".join(change.path) for change in point.changes}
        if keys and keys <= keys_of(scenario.left_out):
            labels[axis.name] = NOT_TAKEN
    return Case(labels, scenario, validated(document), base, changes, own)


def keys_of(left_out: Sequence[str]) -> set[str]:
    """Return the keys that a method does not take, without their values."""
    return {text.partition(" = ")[0] for text in left_out}


@dataclass(frozen=True)
class GeneratedCases(Sequence[Case]):
    """All combinations of some axes, none of which names a method; each is made when asked for.

    The last axis varies fastest. What travels to another process is the document and the axes.
    """

    document: Document
    axes: tuple[Axis, ...]

    def __len__(self) -> int:
        return prod(len(axis.points) for axis in self.axes)

    @overload
    def __getitem__(self, place: int) -> Case: ...

    @overload
    def __getitem__(self, place: slice) -> list[Case]: ...

    def __getitem__(self, place: int | slice) -> Case | list[Case]:
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        points: list[Point] = []
        for axis in reversed(self.axes):
            place, at = divmod(place, len(axis.points))
            points.insert(0, axis.points[at])
        return case_of(self.document, self.axes, points, None)

    def samples(self, most: int = 100) -> Iterator[Case]:
        """Make cases that have points of every axis: all of them, or as many, evenly apart."""
        length = len(self)
        for axis in self.axes:
            length //= len(axis.points)
            every = -(-len(axis.points) // most)
            for at in range(0, len(axis.points), every):
                yield self[at * length]
        yield self[-1]
