"""Pictures: functions that take and return a matplotlib Axes; saved as the same bytes always."""

from __future__ import annotations

import warnings
from io import BytesIO
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from sim.figures.breakdown import CAUSES
from sim.storage.files import replacing
from sim.trace.table import WAIT, Trace

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart by color-blind readers and on grey printers.
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_MOST_BARS = 60
_MOST_SPANS = 20_000  # more are narrower than a dot
_LONGEST = 60  # signs of a label
_MARKERS = "os^Dv<>P"
CAUSE_COLORS = {
    "compute": "#0072B2",
    "optimizer": "#56B4E9",
    "quantize": "#009E73",
    "contention": "#F0E442",
    "exposed_communication": "#D55E00",
    "waiting": "#CC79A7",
    "setup": "#E69F00",
    "other": "#999999",
}
BANDWIDTH = "network.bandwidth_bytes_per_s"


def save(figure: Figure, path: Path, dpi: int = 150) -> None:
    """Write a figure, as .png, .svg or .pdf; the same figure twice gives the same bytes.

    Raises
    ------
    ValueError
        If its labels leave no room for anything else.
    """
    import matplotlib

    dated = {".svg": "Date", ".pdf": "CreationDate"}.get(path.suffix)
    metadata = {} if dated is None else {dated: None}
    content = BytesIO()  # writers of PDF do not survive a full disk
    with matplotlib.rc_context({"svg.hashsalt": "bandwise"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # which is then drawn as a box
        warnings.filterwarnings("error", ".*layout not applied")
        try:
            figure.savefig(content, format=path.suffix[1:], dpi=dpi, metadata=metadata)
        except UserWarning as error:
            raise ValueError("its labels leave no room for the picture; shorten them") from error
    with replacing(path) as partial:
        partial.write_bytes(content.getvalue())


def utilization(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw compute utilization against bandwidth, one line per combination of the other axes.

    Where only an upper bound is known, a point is an open triangle.

    Parameters
    ----------
    frame
        Results of a study or sweep with the column "network.bandwidth_bytes_per_s".
    ax
        Where to draw.

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
    groups = frame.groupby(others, sort=False, dropna=False) if others else [((), frame)]
    bounded = False
    for number, (label, part) in enumerate(groups):
        part = part.sort_values(BANDWIDTH)
        names = label if isinstance(label, tuple) else (label,)
        ax.plot(
            part[BANDWIDTH] * 8e-9,
            part["compute_utilization_fraction"] * 100,
            label=", ".join(named(*pair) for pair in zip(others, names, strict=True)),
            color=_PALETTE[number % len(_PALETTE)],
            marker=_MARKERS[number % len(_MARKERS)],
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
    ax.set(
        xscale="log",
        xlabel="bandwidth between sites (Gbit/s)",
        ylabel="compute utilization (%)",
        ylim=(0, 102),
    )
    ax.grid(alpha=0.3)
    if others or bounded:
        ax.legend(fontsize=8, frameon=False)
    return ax


_UNITS = {"_bytes_per_s": (8e-9, " Gbit/s"), "_s": (1.0, " s"), "_fraction": (100.0, " %")}


def named(column: str, value: object) -> str:
    """Write one varied value, in its unit; a number needs its key before it.

    Examples
    --------
    >>> named("network.rtt_s", 0.02), named("method.num_fragments", 4), named("case", "rented")
    ('rtt 20 ms', 'num_fragments 4', 'rented')
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        return as_it_is(str(value))
    key = column.rpartition(".")[2]
    for ending, (factor, unit) in _UNITS.items():
        if ending == "_s" and 0 < abs(float(value)) < 1:
            factor, unit = 1000.0, " ms"
        if key.endswith(ending):
            return f"{key.removesuffix(ending)} {float(value) * factor:.4g}{unit}"
    return f"{key} {float(value):g}"


def as_it_is(text: str) -> str:
    """Return a text that matplotlib neither takes for a formula nor leaves out of a legend."""
    shown = "".join(sign if sign.isprintable() else "?" for sign in text).replace("$", r"\$")
    if len(shown) > _LONGEST:
        shown = f"{shown[: _LONGEST // 2]}...{shown[-_LONGEST // 2 :]}"
    return f" {shown}" if shown.startswith("_") else shown


def labels_of(frame: pd.DataFrame) -> list[str]:
    """Columns of a result table that say what was varied: those left of "schema"."""
    return list(frame.columns[: list(frame.columns).index("schema")])


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


def title_of(frame: pd.DataFrame) -> str:
    """Say what all runs of a result table share: model, method, workers; "" if nothing."""
    parts = [
        as_it_is(str(frame[column].iloc[0]))
        for column in ("model.name", "method.name")
        if column in frame and frame[column].nunique() == 1
    ]
    if "workers" in frame and frame["workers"].nunique() == 1:
        parts.append(f"{frame['workers'].iloc[0]} workers")
    return ", ".join(parts)


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
