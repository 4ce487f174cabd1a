"""Bytes on an accelerator, one stacked bar per worker, and how many it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.figures.pictures.labels import as_it_is
from sim.figures.pictures.palette import BACKGROUND, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_BARS = 40
_ESTIMATE = "activations"


def memory(rows: Sequence[Mapping[str, Any]], parts: Mapping[str, str], ax: Axes) -> Axes:
    """Draw what an accelerator holds, by part; a black line is the memory that it has.

    Parameters
    ----------
    rows
        Records with "name", "PART_bytes" for each part, and "available_bytes", which may be None.
    parts
        Part -> what people call it, from the left. Activations, an estimate, are hatched.
    ax
        Where to draw.

    Raises
    ------
    ValueError
        For more than 40 rows.
    """
    if len(rows) > _MOST_BARS:
        raise ValueError(f"{len(rows)} workers are too many for bars (at most {_MOST_BARS})")
    places = np.arange(len(rows))
    left = np.zeros(len(rows))
    colors = iter(PALETTE)
    for part, text in parts.items():
        width = np.array([row.get(f"{part}_bytes") or 0.0 for row in rows]) / 1e9
        color = BACKGROUND if part == _ESTIMATE else next(colors)
        if width.any():
            hatch = "//" if part == _ESTIMATE else None
            label = f"{text} (estimate)" if part == _ESTIMATE else text
            ax.barh(places, width, left=left, color=color, hatch=hatch, label=label,
                    edgecolor="white", linewidth=0.5)  # fmt: skip
            left = left + width
    there = [(place, row["available_bytes"]) for place, row in zip(places, rows, strict=True)]
    known = [(place, size / 1e9) for place, size in there if size is not None]
    for number, (place, size) in enumerate(known):
        ax.plot([size, size], [place - 0.45, place + 0.45], color="black", linewidth=2,
                label="_" if number else "memory of the accelerator")  # fmt: skip
    ax.set_yticks(places, [as_it_is(str(row["name"])) for row in rows], fontsize=8)
    ax.set(xlabel="bytes per accelerator (GB)", ylim=(len(rows) - 0.4, -0.6))
    ax.set_xlim(0, 1.05 * max([*left, *(size for _, size in known)], default=1.0) or 1.0)
    ax.grid(alpha=0.3, axis="x")
    ax.set_axisbelow(True)
    return ax
