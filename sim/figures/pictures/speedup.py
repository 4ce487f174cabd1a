"""Speed-up against workers or accelerators, with the ideal line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sim.figures.pictures.curves import against
from sim.figures.pictures.labels import named
from sim.figures.pictures.quantities import label_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def speedup(
    frame: pd.DataFrame,
    x: str,
    y: str,
    color: str | None,
    ax: Axes,
    *,
    colored: Sequence[object] = (),
) -> Axes:
    """Draw how much faster runs are than the one of the smallest ``x`` of their color.

    ``y`` is a rate (``*_per_s``), or a time (``*_s``) of the same work. Ideal is proportional to
    ``x``. ``colored`` is as in :func:`sim.figures.pictures.curves.against`.

    Raises
    ------
    ValueError
        If ``y`` is neither.
    """
    if not y.endswith("_s"):
        raise ValueError(f"--y: {y} is neither a rate nor a time; speed-up needs *_per_s or *_s")
    power = 1 if y.endswith("_per_s") else -1
    frame = frame.copy()
    parts = [frame] if color is None else [part for _, part in frame.groupby(color, sort=False)]
    for part in parts:
        first = part[y].iloc[int(part[x].argmin())]
        frame.loc[part.index, "speed-up"] = (part[y] / first) ** power
    against(frame, x, "speed-up", color, ax, colored=colored)
    least, most = float(frame[x].min()), float(frame[x].max())
    places = np.geomspace(least, most, 50) if least > 0 else np.array([])
    ax.plot(places, places / least, ":", color="#555555", label="ideal")
    ax.set(xlabel=label_of(x, ""), ylabel=f"speed-up (1 at {named(x, least)})")
    return ax
