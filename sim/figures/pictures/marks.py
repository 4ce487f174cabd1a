"""Names of points, written next to them where they cover nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise, product
from math import inf
from typing import TYPE_CHECKING, Literal

import numpy as np

from sim.figures.pictures.labels import as_it_is
from sim.figures.pictures.palette import BACKGROUND

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

_RING = 11.0  # points across
_FONT = 8
_NEAR = 12.0  # farther than this, a line joins a name and its point
_MARGIN = 2.0  # between a name and the line of another one
_TOUCHING = 50.0  # what a point of such a line on a name counts, in square dots
_DISTANCES = (9.0, 16.0, 28.0, 42.0, 60.0, 80.0)
_DIRECTIONS = (
    *((1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)),
    *((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)),
    *((0.4, 1.0), (-0.4, 1.0), (0.4, -1.0), (-0.4, -1.0)),
)
_SIDES: dict[int, Literal["left", "center", "right"]] = {1: "left", 0: "center", -1: "right"}
_HEIGHTS: dict[int, Literal["bottom", "center", "top"]] = {1: "bottom", 0: "center", -1: "top"}

Direction = tuple[float, float]
Box = tuple[float, float, float, float]


def ring(ax: Axes, places: Mapping[str, tuple[float, float]]) -> None:
    """Draw a ring around each point; the axes make room for it."""
    for across, up in places.values():
        ax.plot(
            [across], [up], "o", color=BACKGROUND, markersize=4, zorder=1.5
        )  # if no row is there
        ax.plot(
            [across], [up], "o", markersize=_RING, markerfacecolor="none",
            markeredgecolor="black", markeredgewidth=1.2,
        )  # fmt: skip


def name(ax: Axes, places: Mapping[str, tuple[float, float]]) -> None:
    """Write the name of each point next to it, joined by a line where it is not close.

    A name covers no point, no line and no other name. Where there is no such place it is where it
    covers least. To be called last: what is drawn or moved later is not seen.

    Parameters
    ----------
    ax
        Where the points are.
    places
        Name -> its point, in the data's coordinates.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    dot = figure.dpi / 72
    inside = ax.get_window_extent()
    points = {text: ax.transData.transform(place) for text, place in places.items()}
    taken = list(_drawn(ax, 4.5 * dot))
    taken += [_around(point, 0.6 * _RING * dot) for point in points.values()]
    written: list[Box] = []
    for text, point in points.items():
        size = _size(ax, text)
        found = []
        for number, (distance, direction) in enumerate(product(_DISTANCES, _DIRECTIONS)):
            box = _box(point, direction, distance * dot, size)
            leader = np.empty((0, 2))
            if distance > _NEAR:
                leader = _leader(point, box, _RING * dot, dot)
            covered = _TOUCHING * _crossed(leader, written)
            covered += sum(_overlap(box, each) for each in taken) + _crossed(leader, taken)
            covered += 1e6 * _beyond(box, inside)
            others = [_apart(box, points[other]) for other in points if other != text]
            if not len(leader) and min(others, default=inf) < 1.2 * _apart(box, point):
                covered += 1e3  # would be taken for another point's
            found.append((covered, number, distance, direction, box, leader))
            if covered == 0:
                break
        _, _, distance, direction, box, leader = min(found, key=lambda each: each[:2])
        _write(ax, text, places[text], direction, distance)
        taken += [box, *(_around(each, _MARGIN * dot) for each in leader)]
        written.append(_wider(box, _MARGIN * dot))


def _size(ax: Axes, text: str) -> tuple[float, float]:
    """Return how wide and high a name is, in dots."""
    written = ax.text(0, 0, as_it_is(text), fontsize=_FONT)
    extent = written.get_window_extent()
    written.remove()
    return float(extent.width), float(extent.height)


def _write(
    ax: Axes, text: str, place: tuple[float, float], direction: Direction, distance: float
) -> None:
    across, up = (int(np.sign(each)) for each in direction)
    line = {
        "arrowstyle": "-",
        "color": "#555555",
        "linewidth": 0.7,
        "shrinkA": 1,
        "shrinkB": _RING / 2,
        "relpos": ((1 - across) / 2, (1 - up) / 2),  # from the corner that is nearest
    }
    written = ax.annotate(
        as_it_is(text),
        place,
        (direction[0] * distance, direction[1] * distance),
        textcoords="offset points",
        fontsize=_FONT,
        ha=_SIDES[across],
        va=_HEIGHTS[up],
        arrowprops=line if distance > _NEAR else None,
    )
    written.set_in_layout(False)  # or the axes would move under it


def _apart(box: Box, point: np.ndarray) -> float:
    """Return how far a point is from a box, in dots."""
    return float(np.hypot(*(point - np.clip(point, box[:2], box[2:]))))


def _beyond(box: Box, inside: Bbox) -> bool:
    left, bottom, right, top = box
    room = inside.padded(-2)
    return bool(left < room.x0 or bottom < room.y0 or right > room.x1 or top > room.y1)


def _box(
    point: np.ndarray, direction: Direction, distance: float, size: tuple[float, float]
) -> Box:
    """Return what a text covers, in dots: left, bottom, right, top."""
    found = []
    for middle, share, length in zip(point, direction, size, strict=True):
        start = middle + share * distance - (1 - np.sign(share)) / 2 * length
        found.append((start, start + length))
    (left, right), (bottom, top) = found
    return left, bottom, right, top


def _drawn(ax: Axes, half: float) -> Iterator[Box]:
    """Yield boxes around what lines cover, close to each other along a line."""
    for line in ax.get_lines():
        points = ax.transData.transform(np.asarray(line.get_xydata(), dtype=float))
        for point in points:
            yield _around(point, half)
        if line.get_linestyle() in ("None", ""):
            continue
        for first, second in pairwise(points):
            number = int(np.hypot(*(second - first)) // (2 * half)) + 1
            for share in np.linspace(0, 1, number, endpoint=False)[1:]:
                yield _around(first + share * (second - first), half / 2)


def _leader(point: np.ndarray, box: Box, left_out: float, apart: float) -> np.ndarray:
    """Return points along the line from a name to its point, up to its ring, ``apart`` dots."""
    start = np.clip(point, box[:2], box[2:])
    length = float(np.hypot(*(point - start)))
    number = int(length / apart) + 2
    shares = np.linspace(0, max(0.0, 1 - left_out / length), number) if length else np.zeros(1)
    line: np.ndarray = start + shares[:, None] * (point - start)
    return line


def _crossed(line: np.ndarray, taken: list[Box]) -> float:
    """Return a number that grows with the boxes that a line crosses."""
    return float(
        sum(
            left < across < right and bottom < up < top
            for across, up in line
            for left, bottom, right, top in taken
        )
    )


def _wider(box: Box, by: float) -> Box:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def _around(point: np.ndarray, half: float) -> Box:
    return point[0] - half, point[1] - half, point[0] + half, point[1] + half


def _overlap(one: Box, two: Box) -> float:
    """Return the area that two boxes share, in square dots."""
    wide = min(one[2], two[2]) - max(one[0], two[0])
    high = min(one[3], two[3]) - max(one[1], two[1])
    return wide * high if wide > 0 and high > 0 else 0.0
