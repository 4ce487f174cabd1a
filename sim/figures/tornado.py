"""A tornado plot: levers as horizontal bars, the largest change of the time on top."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.figures.plots import as_it_is

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TRAINING, _MACHINES = "#E69F00", "#0072B2"  # Okabe and Ito's, told apart by color-blind readers
_BAR_INCHES = 0.32
_SHOWN = 0.05  # percent: smaller changes are written as 0.0 and have no bar to be seen


def tornado(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the change of the time for equal tokens, a bar per lever.

    Changes of the method, which change what is learned, are hatched.

    Parameters
    ----------
    frame
        A row per lever with "lever", "change_of_time_fraction" and "training_changes".
    ax
        Where to draw.

    Raises
    ------
    ValueError
        If there is no lever with a finite change.
    """
    finite = np.isfinite(frame["change_of_time_fraction"].astype(float))
    rows = frame[finite].sort_values("change_of_time_fraction", key=abs, kind="stable")
    if not len(rows):
        raise ValueError("no lever applies, so there is nothing to draw")
    places = np.arange(len(rows))
    change = 100 * rows["change_of_time_fraction"].to_numpy(dtype=float)
    training = rows["training_changes"].to_numpy(dtype=bool)
    for chosen, color, hatch, label in (
        (~training, _MACHINES, None, "training stays the same"),
        (training, _TRAINING, "///", "training changes"),
    ):
        to_be_seen = (chosen & (np.abs(change) >= _SHOWN)).any()
        if chosen.any():
            ax.barh(
                places[chosen],
                change[chosen],
                color=color,
                hatch=hatch,
                edgecolor="white",
                label=label if to_be_seen else "_",  # matplotlib leaves that out of legends
            )
    low, high = min(0.0, change.min()), max(0.0, change.max())
    room = max(high - low, 1.0)
    for place, value in zip(places, change, strict=True):
        ax.annotate(
            f"{value:+.1f} %" if abs(value) >= _SHOWN else "0.0 %",
            (value, place),
            xytext=(4 if value > 0 else -4, 0),
            textcoords="offset points",
            ha="left" if value > 0 else "right",
            va="center",
            fontsize=8,
        )
    # Numbers stand outside their bars: this is room for them in a picture of 5 inches.
    ax.set_xlim(
        low - (0.35 * room if low < 0 else 0.03 * room),
        high + (0.35 * room if high > 0 else 0.03 * room),
    )
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.set_yticks(places, [as_it_is(str(name)) for name in rows["lever"]], fontsize=9)
    ax.set_xlabel("change of the time for equal tokens (%)")
    ax.axvline(0, color="black", linewidth=0.8)
    ax.grid(axis="x", alpha=0.3)
    ax.set_axisbelow(True)
    return ax


def picture(frame: pd.DataFrame, title: str = "", width: float = 8.0) -> Figure:
    """Return a figure of the levers, as high as their number needs.

    Parameters
    ----------
    frame
        As for :func:`tornado`.
    title
        What is above it.
    width
        In inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 1.5 + _BAR_INCHES * max(4, len(frame))), layout="constrained")
    ax = tornado(frame, figure.subplots())
    figure.legend(
        *ax.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        fontsize=8,
        frameon=False,
    )
    if title:
        figure.suptitle(as_it_is(title), fontsize=10)
    return figure
