"""Where results are drawn, and which of many runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sim.api.calls import CallError, ValueRefusedError, named

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def axes(given: Axes | None) -> Axes:
    """Return an axes to draw on: the one given, or that of a new figure of pyplot's.

    Raises
    ------
    CallError
        If what is given is none.
    """
    if given is None:
        import matplotlib.pyplot as plt

        return plt.subplots(figsize=(8, 4.5), layout="constrained")[1]
    from matplotlib.axes import Axes

    if not isinstance(given, Axes):
        text = f"plot: ax is a matplotlib Axes, not {named(given)}; plt.subplots() returns one"
        raise CallError(text)
    return given


def runs(
    frame: pd.DataFrame,
    ax: Axes | None,
    only: Mapping[str, Any] | None = None,
    **columns: str | None,
) -> Axes:
    """Draw utilization against bandwidth where that was varied, else where the time went.

    Parameters
    ----------
    frame
        A row per run, as :func:`sim.questions.study.run` returns it.
    ax
        Where to draw; None is a new figure of pyplot's.
    only
        Column -> the value that a run must have to be drawn.
    **columns
        x, y, color and facet: columns to draw against each other instead.

    Raises
    ------
    CallError
        If ``ax`` is no axes.
    ValueError
        If no run is left, or too many for bars.
    """
    from sim.figures.plots import BANDWIDTH, breakdown, labels_of, utilization
    from sim.scenario.errors import listed

    for column, value in (only or {}).items():
        if column not in frame:
            known = listed(labels_of(frame), "and")
            raise ValueRefusedError(f"only: no column {column}; what was varied is {known}")
        found = frame[frame[column] == value]
        if found.empty:
            known = listed(map(str, frame[column].unique()), "and")
            raise ValueRefusedError(f"only: no run with {column} = {value}; there are {known}")
        frame = found
    if any(columns.values()):
        return _against(frame, ax, **columns)
    ax = axes(ax)
    varied = BANDWIDTH in frame and frame[BANDWIDTH].nunique() > 1
    return utilization(frame, ax) if varied else breakdown(frame, ax)


def _against(frame: pd.DataFrame, ax: Axes | None, **columns: str | None) -> Axes:
    from sim.output.drawn_columns import drawn

    if ax is not None and columns.get("facet"):
        raise CallError("plot: facet draws several panels, on a figure of its own; leave out ax")
    try:
        figure = drawn(frame, "curves", ax=None if ax is None else axes(ax), **columns)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueRefusedError(f"plot: {error}".replace("--", "")) from error
    return figure.axes[0] if ax is None else ax
