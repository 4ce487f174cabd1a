"""Where the time went, one stacked bar per run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.figures.causes import CAUSES
from sim.figures.pictures.labels import labels_of, named
from sim.figures.pictures.palette import CAUSE_COLORS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_MOST_BARS = 60


def breakdown(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw where the time went, one stacked bar per run.

    Parameters
    ----------
    frame
        Results with one column "CAUSE_fraction" per cause; at most 60 rows are readable.
    ax
        Where to draw.

    Raises
    ------
    ValueError
        For more than 60 runs.
    """
    if len(frame) > _MOST_BARS:
        raise ValueError(
            f"{len(frame)} runs are too many for stacked bars (at most {_MOST_BARS}); "
            "plot --kind utilization, or a smaller sweep"
        )
    varied = [c for c in labels_of(frame) if frame[c].nunique() > 1] or labels_of(frame)[:1]
    names = [
        ", ".join(named(column, value) for column, value in zip(varied, row, strict=True))
        for row in frame[varied].itertuples(index=False)
    ]
    left = np.zeros(len(frame))
    position = np.arange(len(frame))
    for cause in CAUSES:
        if f"{cause}_fraction" not in frame:
            continue  # cannot occur in these runs
        width = frame[f"{cause}_fraction"].to_numpy() * 100
        if width.max() > 0.05:
            ax.barh(
                position,
                width,
                left=left,
                color=CAUSE_COLORS[cause],
                label=cause.replace("_", " "),
            )
            left = left + width
    ax.set_yticks(position, names, fontsize=8)
    ax.set(xlabel="workers x wall-clock (%)", xlim=(0, 100), ylim=(len(frame) - 0.4, -0.6))
    ax.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return ax
