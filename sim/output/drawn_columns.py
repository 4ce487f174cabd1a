"""Pictures of any columns of results: panels, labels at line ends or a legend below."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_PANELS = 9


def drawn(
    frame: pd.DataFrame,
    kind: str,
    *,
    x: str | None = None,
    y: str | None = None,
    color: str | None = None,
    facet: str | None = None,
    log: Collection[str] = (),
    size: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw columns of results against each other.

    Parameters
    ----------
    frame
        Results of a study or sweep.
    kind
        "curves", "heatmap", "pareto" or "speedup".
    x, y, color, facet
        Columns, in full or by the last part of a key.
    log
        "x", "y" or both.
    size
        Inches; by default 8 x 5, and larger for panels and many bars.
    ax
        Where to draw; by default on a new figure.

    Raises
    ------
    ValueError
        If the columns cannot be drawn so; the text says what to write.
    """
    from matplotlib.figure import Figure

    from sim.figures.pictures.labels import named, title_of
    from sim.figures.pictures.quantities import is_numeric
    from sim.output.pictures import titled
    from sim.questions import selected_runs as runs

    if log and kind in ("heatmap", "speedup"):
        raise ValueError(f"--log: is for --kind curves and pareto; not for {kind}")
    if kind == "speedup":
        x, y = x or "workers", y or "tokens_per_s"
    for option, name in (("--x", x), ("--y", y)):
        if name is None:
            raise ValueError(f"{option}: is missing; name a column of the results")
    x, y = runs.column_of(frame, "--x", str(x)), runs.column_of(frame, "--y", str(y))
    color = None if color is None else runs.column_of(frame, "--color", color)
    facet = None if facet is None else runs.column_of(frame, "--facet", facet)
    if kind == "heatmap":
        if color is None:
            raise ValueError("--color: is missing; a heat map colors its cells by a column")
        runs.check_numbers(frame, "--color", color)
        runs.check_varies(frame, "--y", y)
    else:
        runs.check_numbers(frame, "--y", y)
        if color is not None:
            runs.check_colors(frame, color)
    if kind in ("pareto", "speedup") or is_numeric(frame[x]):
        runs.check_numbers(frame, "--x", x)
    runs.check_varies(frame, "--x", x)
    if kind != "pareto":
        shown = (x, y if kind == "heatmap" else None, None if kind == "heatmap" else color, facet)
        runs.check_nothing_left(frame, [name for name in shown if name is not None])
    bars = 0 if is_numeric(frame[x]) or kind == "heatmap" else frame[x].nunique()
    for axis, column in (("x", x), ("y", y)):
        if axis in log and (bars or not (frame[column] > 0).all()):
            why = (
                f"{x} is text, which bars show" if bars else f"{column} has values that are not > 0"
            )
            raise ValueError(f"--log: {axis} cannot be logarithmic: {why}")
    panels: list[Any] = [None] if facet is None else list(frame[facet].unique())
    if len(panels) > _MOST_PANELS:
        raise ValueError(
            f"--facet: {facet} has {len(panels)} values, and {_MOST_PANELS} panels fit; "
            f"select some with --where {facet}=A,B"
        )
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    wide, high = size or (max(8.0, 4.0 * columns), max(5.0, 3.2 * rows, 1.5 + 0.3 * bars))
    figure: Any  # of an Axes that is given, its Figure or SubFigure
    if ax is not None:
        figure, grid = ax.figure, [ax]
    else:
        figure = Figure(figsize=(wide, high), layout="constrained")
        grid = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel())
    colored = [] if color is None or kind == "heatmap" else list(frame[color].unique())
    for value, panel in zip(panels, grid, strict=False):
        part = frame if facet is None else frame[frame[facet] == value]
        _panel(part, kind, x, y, color, panel, log, colored)
        if facet is not None:
            panel.set_title(named(facet, value), fontsize=8, wrap=True)
            panel.label_outer()
    for panel in grid[len(panels) :]:
        panel.set_visible(False)
    if ax is None:
        titled(figure, title_of(frame))
        lines = kind == "curves" and not bars and len(panels) == 1
        if not (lines and _at_ends(grid[0])):
            legend_below(figure, grid[: len(panels)])
    elif grid[0].get_legend_handles_labels()[1]:
        ax.legend(fontsize=8, frameon=False)
    whole: Figure = figure
    return whole


def _panel(
    part: pd.DataFrame,
    kind: str,
    x: str,
    y: str,
    color: str | None,
    ax: Axes,
    log: Collection[str],
    colored: Sequence[object],
) -> None:
    from sim.figures.pictures.curves import against
    from sim.figures.pictures.heatmap import heatmap
    from sim.figures.pictures.pareto import pareto
    from sim.figures.pictures.speedup import speedup

    if kind == "heatmap":
        heatmap(part, x, y, str(color), ax)
    elif kind == "pareto":
        pareto(part, x, y, color, ax, log=log, colored=colored)
    elif kind == "speedup":
        speedup(part, x, y, color, ax, colored=colored)
    else:
        against(part, x, y, color, ax, log=log, colored=colored)


def _at_ends(ax: Axes) -> bool:
    """Label lines at their ends if all labels have room there; say whether they had."""
    figure: Any = ax.figure
    lines: list[Any] = [
        line for line in ax.get_lines() if not str(line.get_label()).startswith("_")
    ]
    if not lines or max(len(str(line.get_label())) for line in lines) > 24:
        return False
    figure.draw_without_rendering()
    apart = 11 * figure.dpi / 72  # a line of 8 points, and room
    heights = sorted(float(ax.transData.transform(line.get_xydata()[-1])[1]) for line in lines)
    ends = {float(line.get_xydata()[-1][0]) for line in lines}
    near = any(b - a < apart for a, b in pairwise(heights))
    if near or len(ends) > 1:
        return False
    for line in lines:
        ax.annotate(
            str(line.get_label()), (1, line.get_xydata()[-1][1]), (4, 0),
            xycoords=("axes fraction", "data"), textcoords="offset points",
            va="center", fontsize=8, color=line.get_color(), annotation_clip=False,
        )  # fmt: skip
    return True


def legend_below(figure: Figure, panels: list[Axes]) -> None:
    """Give a figure one legend for all its panels, below, in as many columns as fit."""
    names: dict[str, Any] = {}
    for ax in panels:
        handles, labels = ax.get_legend_handles_labels()
        names |= dict(zip(labels, handles, strict=True))
    if not names:
        return
    longest = max(map(len, names)) * 4.6 + 40  # points
    fitting = max(1, min(4, int(figure.get_figwidth() * 72 // longest)))
    figure.legend(
        names.values(),
        names.keys(),
        loc="outside lower center",
        ncols=fitting,
        fontsize=8 if len(names) <= 4 * fitting else 7,
        frameon=False,
    )
