"""One column against another: lines where x is a number, bars where it is a text."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sim.figures.pictures.labels import as_it_is, named
from sim.figures.pictures.palette import styles
from sim.figures.pictures.quantities import is_numeric, label_of, scale, unit_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def against(
    frame: pd.DataFrame,
    x: str,
    y: str,
    color: str | None,
    ax: Axes,
    *,
    log: Collection[str] = (),
    colored: Sequence[object] = (),
) -> Axes:
    """Draw ``y`` against ``x``, one line or group of bars per value of ``color``.

    Parameters
    ----------
    frame
        One row per point, in SI units and fractions.
    x, y, color
        Columns. Bars lie on their side, so that long names can be read.
    ax
        Where to draw.
    log
        Axes ("x", "y") that are logarithmic whatever their values are.
    colored
        All values of ``color`` in the figure, which have the same colors in each of its panels.
    """
    factor, unit = unit_of(y, float(frame[y].abs().max()), frame[y])
    groups = [(None, frame)] if color is None else list(frame.groupby(color, sort=False))
    looks = styles([str(color)], [(value,) for value in [*colored, *(each for each, _ in groups)]])
    if not is_numeric(frame[x]):
        return _bars(groups, looks, frame, x, y, color, factor, unit, ax)
    x_factor, x_unit = unit_of(x, float(frame[x].abs().max()), frame[x])
    for value, part in groups:
        part, look = part.sort_values(x), looks[(value,)]
        ax.plot(
            part[x] * x_factor,
            part[y] * factor,
            label=None if color is None else named(color, value),
            color=look.color,
            marker=look.marker,
            linestyle=look.line,
            markersize=4,
            linewidth=1.5,
        )
    scale(ax.xaxis, x, frame[x].to_numpy() * x_factor, log="x" in log)
    scale(ax.yaxis, y, frame[y].to_numpy() * factor, log="y" in log)
    ax.set(xlabel=label_of(x, x_unit), ylabel=label_of(y, unit))
    ax.grid(alpha=0.3)
    return ax


def _bars(groups, looks, frame, x, y, color, factor, unit, ax) -> Axes:  # type: ignore[no-untyped-def]
    names = list(frame[x].unique())
    high = 0.8 / len(groups)
    for number, (value, part) in enumerate(groups):
        places = np.array([names.index(each) for each in part[x]], dtype=float)
        ax.barh(
            places - 0.4 + high * (number + 0.5),
            part[y] * factor,
            height=high,
            color=looks[(value,)].color,
            hatch=looks[(value,)].hatch,
            label=None if color is None else named(color, value),
        )
    shown = [as_it_is(str(name)) for name in names]
    shown = [text if len(text) <= 24 else f"{text[:11]}...{text[-11:]}" for text in shown]
    ax.set_yticks(range(len(names)), shown, fontsize=8)
    ax.set(xlabel=label_of(y, unit), ylim=(len(names) - 0.4, -0.6))
    ax.grid(alpha=0.3, axis="x")
    drawn: Axes = ax
    return drawn
