"""What every worker did and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.figures.pictures.labels import as_it_is
from sim.figures.pictures.palette import CAUSE_COLORS
from sim.trace.table import WAIT, Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_SPANS = 20_000  # more are narrower than a dot


def title_of_trace(trace: Trace) -> str:
    """Say of what run a trace is: its method, its workers and sites."""
    sites = [as_it_is(name) for name in trace.context.sites]
    where = " and ".join(sites) if len(sites) < 3 else f"{len(sites)} sites"
    workers = f"{trace.workers} worker{'s' * (trace.workers != 1)} at {where}"
    return f"{trace.context.method}, {workers}" if trace.context.method else workers


def readable(trace: Trace) -> tuple[float, float, int] | None:
    """Return begin and end of rounds 2 and 3, and how many rounds there are.

    None for a run of at most four rounds, which can be read whole.
    """
    begins = trace.round_begins()
    rounds = len(begins) - 1
    if rounds <= 4:
        return None
    return float(begins[1].min()), float(begins[3].max()), rounds


_LANES = {"compute": 0.28, "sending": -0.02, "waiting": -0.26}


def timeline(trace: Trace, ax: Axes, *, begin: float = 0.0, end: float | None = None) -> Axes:
    """Draw what every worker did: computing, on the wire, blocked.

    Parameters
    ----------
    trace
        A simulated or measured run; the first 16 workers are drawn, which the axis then says.
    ax
        Where to draw.
    begin, end
        Part of the run in seconds; all of it by default.

    Raises
    ------
    ValueError
        If too much happened in that part to be told apart.
    """
    stop = trace.total_s if end is None else end
    shown = min(trace.workers, 16)
    spans: dict[tuple[str, str], tuple[list[tuple[float, float]], list[float]]] = {}
    origin = {other: rank for rank, ranks in trace.context.standing_for.items() for other in ranks}
    on_wire = {id(row): start for row, start in trace.on_wire()}
    for row in trace.rows:
        if row.end_s <= max(begin, row.begin_s) or row.begin_s >= stop:
            continue
        start = row.begin_s
        if row.operation == WAIT:
            if row.program != "main":
                continue
            lane = "waiting"
            pieces = [
                (start, min(max(row.ready_s, start), row.end_s), "waiting"),
                (max(row.ready_s, start), row.end_s, "exposed_communication"),
            ]
        elif row.bytes > 0:
            lane = "sending"
            pieces = [(on_wire[id(row)], row.end_s, "sending")]
        else:
            lane = "compute"
            pieces = [(start, row.end_s, trace.context.cause_of(row.operation))]
        for rank in range(shown):
            if origin[rank] != row.rank:
                continue
            for a, b, color in pieces:
                a, b = max(a, begin), min(b, stop)
                if b > a:
                    bars, places = spans.setdefault((lane, color), ([], []))
                    bars.append((a, b - a))
                    places.append(rank)
    total = sum(len(places) for _, places in spans.values())
    if total > _MOST_SPANS:
        raise ValueError(
            f"{total} spans from {begin:.6g} s to {stop:.6g} s cannot be told apart (at most "
            f"{_MOST_SPANS}); draw a shorter part, with --begin and --end"
        )
    colors = {**CAUSE_COLORS, "sending": "#999999"}
    heights = {"compute": 0.34, "sending": 0.2, "waiting": 0.2}
    for (lane, color), (bars, places) in spans.items():
        starts = [bar[0] for bar in bars]
        widths = [bar[1] for bar in bars]
        ax.barh(
            np.array(places) - _LANES[lane],
            widths,
            left=starts,
            height=heights[lane],
            color=colors[color],
            label="on the wire" if color == "sending" else color.replace("_", " "),
            linewidth=0,
        )
    names = [as_it_is(name) for name in trace.context.sites]
    which = "worker" if shown == trace.workers else f"worker (first {shown} of {trace.workers})"
    ax.set_yticks(
        range(shown), [f"{rank} {names[trace.context.site_of[rank]]}" for rank in range(shown)]
    )
    ax.invert_yaxis()
    ax.set(xlabel="time (s)", xlim=(begin, stop), ylabel=which)
    handles, labels = ax.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    ax.legend(
        unique.values(),
        unique.keys(),
        fontsize=8,
        frameon=False,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=5,
    )
    return ax
