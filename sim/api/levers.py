"""Levers of a result: what to change first, for results that have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.api.wording import told

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from sim.output.tables import Report


class Levers:
    """Part of a result whose answer ends with levers."""

    _report: Report

    @property
    def levers(self) -> pd.DataFrame:
        """A row per lever, the one that saves most first; none where none was computed."""
        from sim.output.lever_lines import frame

        return frame(self._report.data)

    def plot_levers(self, ax: Axes | None = None) -> Axes:
        """Draw what each lever does to the time for equal tokens, as bars.

        Parameters
        ----------
        ax
            Where to draw; by default a new figure of pyplot's.

        Raises
        ------
        ValueError
            If none was computed (``sensitivity=True``), or none applies.
        """
        from sim.api.drawing import axes
        from sim.figures.tornado import tornado

        with told():
            if self._report.data.get("levers") is None:
                raise ValueError("levers were not computed; give sensitivity=True")
            return tornado(self.levers, axes(ax))
