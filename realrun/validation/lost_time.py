"""A picture of where time was lost, predicted next to measured, and of which configurations."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from sim.figures.plots import CAUSE_COLORS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_BARS = 12
_LINE = 44  # characters of a name
_LOST = (
    ("optimizer", "optimizer"),
    ("quantize", "quantize"),
    ("contention", "contention"),
    ("exposed_communication", "exposed"),
    ("waiting", "waiting"),
    ("setup", "setup"),
    ("other", "other"),
)


def selected(table: pd.DataFrame, most: int = MOST_BARS) -> pd.DataFrame:
    """Choose configurations to look at, spread over methods and not by their error.

    In turn from each method, and of a method in turn from each compute mode; informative ones
    first, by number.
    """
    ordered = table.sort_values(["informative", "run"], ascending=[False, True], kind="stable")
    queues = {key: list(part.index) for key, part in ordered.groupby(["method", "compute_mode"])}
    methods, modes = sorted(table["method"].unique()), sorted(table["compute_mode"].unique())
    chosen: list[int] = []
    for turn in range(len(table)):
        for number, method in enumerate(methods):
            # Methods begin with different modes, so that one turn over them shows all modes.
            first = (turn + number) % len(modes)
            for mode in modes[first:] + modes[:first]:
                queue = queues.get((method, mode))
                if queue:
                    chosen.append(queue.pop(0))
                    break
    return table.loc[chosen[:most]].sort_values(["method", "run"], kind="stable")


def causes(table: pd.DataFrame, ax: Axes) -> Axes:
    """Draw where time was lost, predicted above measured, in percent of the measured round.

    Parameters
    ----------
    table
        At most ``MOST_BARS`` configurations.
    ax
        Where to draw.

    Raises
    ------
    ValueError
        For more configurations than are readable.
    """
    if len(table) > MOST_BARS:
        raise ValueError(f"{len(table)} configurations are too many (at most {MOST_BARS})")
    places = np.arange(len(table))
    shown: dict[str, str] = {}
    longest = 1.0
    for which, shift in (("predicted", -0.2), ("measured", 0.2)):
        left = np.zeros(len(table))
        for cause, name in _LOST:
            column = f"{which}_{name}_s"
            if column not in table:
                continue
            width = (table[column].fillna(0.0) / table["measured_s"]).to_numpy() * 100
            ax.barh(
                places + shift,
                width,
                left=left,
                height=0.36,
                color=CAUSE_COLORS[cause],
                edgecolor="white",
                linewidth=0.4,
                hatch="////" if which == "predicted" else None,
            )
            left = left + width
            if width.max(initial=0) > 0.05:
                shown[cause] = CAUSE_COLORS[cause]
        longest = max(longest, float(left.max(initial=0)))
    for cause, color in shown.items():  # one patch for both, without the hatch
        ax.barh(0, 0, color=color, label=cause.replace("_", " "))
    ax.set_yticks(places, [fill(name, _LINE) for name in table["scenario"]], fontsize=8)
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.set_xlim(0, 1.02 * longest)
    ax.set_xlabel(
        "lost time (% of the measured round); above, hatched: predicted, below: measured\n"
        "contention is predicted only, a run measures it as compute"
    )
    ax.grid(axis="x", alpha=0.3)
    return ax
