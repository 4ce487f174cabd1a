"""One column as the color of cells, by two others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sim.figures.pictures.labels import as_it_is
from sim.figures.pictures.quantities import is_numeric, label_of, short, spans_much, unit_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_MOST = 40  # cells along an axis
_NUMBERS = 150  # more cells than this have no room for a number each


def heatmap(frame: pd.DataFrame, x: str, y: str, color: str, ax: Axes) -> Axes:
    """Draw ``color`` in a cell per combination of ``x`` and ``y``; white where there was no run.

    Raises
    ------
    ValueError
        For more than 40 values along an axis.
    """
    from matplotlib.ticker import LogLocator

    across, x_label = _values(frame, x)
    down, y_label = _values(frame, y)
    for column, found in ((x, across), (y, down)):
        if len(found) > _MOST:
            raise ValueError(
                f"{column} has {len(found)} values; a heat map shows at most {_MOST} along an "
                f"axis: select some with --where {column}=A,B or draw lines"
            )
    factor, unit = unit_of(color, float(frame[color].abs().max()), frame[color])
    cells = np.full((len(down), len(across)), np.nan)
    left, top = list(across), list(down)
    for one, two, value in zip(frame[x], frame[y], frame[color], strict=True):
        cells[top.index(two), left.index(one)] = value * factor
    found = cells[np.isfinite(cells)]
    norm: Any = "log" if spans_much(found) and not color.endswith("_fraction") else "linear"
    mesh = ax.pcolormesh(cells, cmap="cividis", norm=norm)
    bar = ax.figure.colorbar(mesh, ax=ax, label=label_of(color, unit))
    if norm == "log":
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    bar.ax.yaxis.set_major_formatter(lambda value, _: short(value))
    bar.ax.yaxis.set_minor_formatter(lambda value, _: "")
    for axis, texts in ((ax.xaxis, across), (ax.yaxis, down)):
        step = -(-len(texts) // 8)
        axis.set_ticks(np.arange(len(texts))[::step] + 0.5, list(texts.values())[::step])
        axis.set_tick_params(labelsize=8)
    ax.set(xlabel=x_label, ylabel=y_label)
    if cells.size <= _NUMBERS and len(across) <= 10 and len(down) <= 15:
        for (row, place), value in np.ndenumerate(cells):
            if np.isfinite(value):
                ink = "white" if float(np.asarray(mesh.norm(value))) < 0.5 else "black"
                ax.text(
                    place + 0.5, row + 0.5, short(value), ha="center", va="center", color=ink,
                    fontsize=7,
                )  # fmt: skip
    return ax


def _values(frame: pd.DataFrame, column: str) -> tuple[dict[Any, str], str]:
    """Return the values of an axis in order, each as its tick says it, and the label."""
    if not is_numeric(frame[column]):
        names = {each: as_it_is(str(each)) for each in frame[column].unique()}
        return {
            each: text if len(text) <= 12 else f"{text[:5]}..{text[-5:]}"
            for each, text in names.items()
        }, label_of(column, "")
    factor, unit = unit_of(column, float(frame[column].abs().max()), frame[column])
    values = {each: short(each * factor) for each in sorted(frame[column].unique())}
    return values, label_of(column, unit)
