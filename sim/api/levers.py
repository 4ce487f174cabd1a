"""Levers of a result: what to change first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.api.wording import told

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from sim.output.tables import Report


def levers_in(report: Report) -> pd.DataFrame:
    """Return a row per lever; none where they were not computed."""
    from sim.output.lever_lines import frame

    return frame(report.data)


def drawn(report: Report, ax: Axes | None) -> Axes:
    """Draw the levers of a report as bars.

    Raises
    ------
    ValueError
        If none was computed, or none applies.
    """
    from sim.api.drawing import axes
    from sim.figures.tornado import tornado

    with told():
        found = levers_in(report)
        if report.data.get("levers") is None:
            raise ValueError("levers were not computed; give sensitivity=True")
        return tornado(found, axes(ax))
