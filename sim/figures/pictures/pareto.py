"""Two columns to be minimized: which rows no other row beats in both."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sim.figures.pictures.labels import named
from sim.figures.pictures.marks import ring
from sim.figures.pictures.palette import BACKGROUND, PALETTE, styles
from sim.figures.pictures.quantities import label_of, scale, unit_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


_LINE = "#444444"  # of a front whose points have colors of their own


def front(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return which points no other point beats: as small in both, and smaller in one.

    Values are compared to nine digits, so that no rounding decides.

    Examples
    --------
    >>> front(np.array([1.0, 2.0, 2.0]), np.array([3.0, 1.0, 4.0])).tolist()
    [True, True, False]
    >>> front(np.array([1.0, 2.0]), np.array([3.0 + 4e-15, 3.0])).tolist()
    [True, False]
    """
    first, second = _to_nine_digits(first), _to_nine_digits(second)
    kept = np.zeros(len(first), dtype=bool)
    least, at = np.inf, np.inf
    for index in np.lexsort((second, first)):
        if second[index] < least or (second[index] == least and first[index] == at):
            kept[index] = True
            least, at = second[index], first[index]
    return kept


def _to_nine_digits(values: np.ndarray) -> np.ndarray:
    return np.array([float(f"{value:.9g}") for value in values])


def pareto(
    frame: pd.DataFrame,
    x: str,
    y: str,
    label: str | None,
    ax: Axes,
    *,
    log: Collection[str] = (),
    others: str = "dominated",
    marked: Mapping[str, tuple[float, float]] | None = None,
    colored: Sequence[object] = (),
) -> dict[str, tuple[float, float]]:
    """Draw rows by two columns to be minimized; the front joined, the others grey.

    Parameters
    ----------
    frame
        A row per point, in SI units and fractions.
    x, y
        The two columns.
    label
        Column that names the points of the front. Each of its values has a color and a marker,
        which the legend names.
    ax
        Where to draw.
    log
        Axes ("x", "y") that are logarithmic whatever their values are.
    others
        What the legend calls points that are not on the front.
    marked
        Name -> a point that gets a ring, whether it is a row or not.
    colored
        As in :func:`sim.figures.pictures.curves.against`.

    Returns
    -------
    dict
        The marked points in the coordinates of the axes, to be named there
        (:mod:`sim.figures.pictures.marks`).
    """
    marked = marked or {}
    largest = [float(frame[column].abs().max()) for column in (x, y)]
    for place in marked.values():
        largest = [max(pair) for pair in zip(largest, place, strict=True)]
    x_factor, x_unit = unit_of(x, largest[0], frame[x])
    y_factor, y_unit = unit_of(y, largest[1], frame[y])
    places = {text: (one * x_factor, two * y_factor) for text, (one, two) in marked.items()}
    across, up = frame[x].to_numpy() * x_factor, frame[y].to_numpy() * y_factor
    kept = front(across, up)
    if (~kept).any():
        ax.plot(across[~kept], up[~kept], "o", color=BACKGROUND, markersize=4, label=others)
    order = np.flatnonzero(kept)[np.argsort(across[kept], kind="stable")]
    places_of_front = set(zip(across[order], up[order], strict=True))
    if len(places_of_front) > 1:  # one place needs no line
        color = PALETTE[0] if label is None else _LINE
        ax.plot(across[order], up[order], color=color, linewidth=1.5, label="Pareto front")
    if label is None:
        alone = None if len(places_of_front) > 1 else "Pareto front"
        ax.plot(across[order], up[order], "o", color=PALETTE[0], markersize=6, label=alone)
    else:
        groups = list(frame.iloc[order].groupby(label, sort=False))
        looks = styles([label], [(value,) for value in [*colored, *(each for each, _ in groups)]])
        for value, part in groups:
            ax.plot(
                part[x] * x_factor,
                part[y] * y_factor,
                looks[(value,)].marker,
                color=looks[(value,)].color,
                markersize=7,
                label=named(label, value),
            )
    scale(ax.xaxis, x, across, log="x" in log)
    scale(ax.yaxis, y, up, log="y" in log)
    ax.set(xlabel=label_of(x, x_unit), ylabel=label_of(y, y_unit))
    ax.grid(alpha=0.3)
    if places:
        ax.margins(0.08)
        ring(ax, places)
    return places
