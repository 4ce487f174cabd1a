"""Compute utilization against bandwidth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.figures.pictures.labels import labels_of, named
from sim.figures.pictures.palette import styles
from sim.figures.pictures.quantities import scale

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BANDWIDTH = "network.bandwidth_bytes_per_s"


def utilization(frame: pd.DataFrame, ax: Axes, whole: pd.DataFrame | None = None) -> Axes:
    """Draw compute utilization against bandwidth, one line per combination of the other axes.

    Where only an upper bound is known, a point is an open triangle.

    Parameters
    ----------
    frame
        Results of a study or sweep with the column "network.bandwidth_bytes_per_s".
    ax
        Where to draw.
    whole
        What all panels of a figure show, where this is one of them: a line has the same color
        in each.

    Raises
    ------
    ValueError
        If the results do not vary the bandwidth.
    """
    if BANDWIDTH not in frame:
        raise ValueError(
            f"no column {BANDWIDTH}: utilization curves need results that vary network.bandwidth"
        )
    others = [c for c in labels_of(frame) if c != BANDWIDTH and frame[c].nunique() > 1]
    groups = list(frame.groupby(others, sort=False, dropna=False)) if others else [((), frame)]
    bounded = False
    keys = [label if isinstance(label, tuple) else (label,) for label, _ in groups]
    alike = frame if whole is None else whole
    looks = styles(others, [*alike[others].itertuples(index=False, name=None), *keys])
    for names, (_, part) in zip(keys, groups, strict=True):
        part, look = part.sort_values(BANDWIDTH), looks[names]
        ax.plot(
            part[BANDWIDTH] * 8e-9,
            part["compute_utilization_fraction"] * 100,
            label=", ".join(named(*pair) for pair in zip(others, names, strict=True)),
            color=look.color,
            marker=look.marker,
            linestyle=look.line,
            markevery=0.1,
            markersize=4,
            linewidth=1.5,
        )
        if "figures_are_bounds" in part and part["figures_are_bounds"].any():
            bounds = part[part["figures_are_bounds"].astype(bool)]
            ax.plot(
                bounds[BANDWIDTH] * 8e-9,
                bounds["compute_utilization_fraction"] * 100,
                label="at most" if not bounded else "_again",
                color="white",
                marker="v",
                markeredgecolor="black",
                linestyle="none",
            )
            bounded = True
    scale(ax.xaxis, BANDWIDTH, frame[BANDWIDTH].to_numpy() * 8e-9, log=True)
    ax.set(
        xlabel="bandwidth between sites (Gbit/s)",
        ylabel="compute utilization (%)",
        ylim=(0, 102),
    )
    ax.grid(alpha=0.3)
    if others or bounded:
        ax.legend(fontsize=8, frameon=False)
    return ax
