"""Pictures of results, drawn with :mod:`sim.plots` and saved without a display."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_READABLE_LINES = 8
_MOST_PANELS = 4


def titled(figure: Figure, title: str) -> None:
    """Give the figure a title above all its panels, if there is anything to say."""
    if title:
        figure.suptitle(title, fontsize=10)


def curves(frame: pd.DataFrame) -> Figure:
    """Draw utilization against bandwidth: too many lines for one panel are split by an axis."""
    from matplotlib.figure import Figure

    from sim.plots import BANDWIDTH, labels_of, title_of, utilization

    varied = [n for n in labels_of(frame) if n != BANDWIDTH and frame[n].nunique() > 1]
    lines = len(frame[varied].drop_duplicates()) if varied else 1
    alone = lines <= _READABLE_LINES or len(varied) < 2
    if alone or frame[varied[0]].nunique() > _MOST_PANELS:
        figure = Figure(figsize=(8, 5), layout="constrained")
        utilization(frame, figure.subplots())
        titled(figure, title_of(frame))
        if lines > _READABLE_LINES:
            _legend_outside(figure, columns=3)
        return figure
    panels = list(frame.groupby(varied[0], sort=False))
    figure = Figure(figsize=(4.5 * len(panels), 4.5), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for (name, part), ax in zip(panels, axes, strict=True):
        utilization(part, ax)
        ax.set_title(str(name), fontsize=10)
        if ax is not axes[0]:
            ax.set_ylabel("")
    _legend_outside(figure, columns=2 * len(panels))
    titled(figure, title_of(frame))
    return figure


def _legend_outside(figure: Figure, columns: int) -> None:
    """Give the figure one legend, below; all its panels have the same lines."""
    for ax in figure.axes:
        legend = ax.get_legend()
        if legend is not None:
            legend.remove()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False
    )


def save_curves(frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Write utilization.png and .svg, where bandwidth was varied."""
    from sim.plots import BANDWIDTH, save
    from sim.study_folder import PICTURES

    if BANDWIDTH not in frame or frame[BANDWIDTH].nunique() < 2:
        return []
    figure = curves(frame)
    paths = [folder / name for name in PICTURES]
    for path in paths:
        save(figure, path)
    return paths
