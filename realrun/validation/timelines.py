"""One run, predicted and measured, on one time axis: as a picture and as one Perfetto file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from realrun.validation.archive import Archive, trace_file
from realrun.validation.plan import Planned
from sim.figures.plots import save, timeline
from sim.trace.files import load
from sim.trace.perfetto import events, write_events
from sim.trace.table import Trace

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

MOST_ROUNDS = 3


def chosen(plan: Sequence[Planned], archive: Archive) -> dict[str, Planned | None]:
    """Return the first configuration of every method whose first run's trace was kept.

    None where the trace was not kept and its picture was.
    """
    found: dict[str, Planned | None] = {}
    for each in plan:
        method = each.scenario.method.name
        if method in found or (each.number, 0) not in archive.records:
            continue
        if trace_file(archive.folder, each).exists():
            found[method] = each
        elif _picture(archive.folder, method).exists():
            found[method] = None
    return found


def draw(drawn: Mapping[str, Planned | None], predicted: Mapping[int, Trace], folder: Path) -> str:
    """Put measured traces next to predicted ones: pictures, and for Perfetto.

    Parameters
    ----------
    drawn
        As :func:`chosen` returns them.
    predicted
        Their predicted traces, by number.
    folder
        Where measured traces are and pictures go.

    Returns
    -------
    str
        Links to all pictures, in Markdown.
    """
    for method, each in drawn.items():
        if each is not None:
            measured = load(trace_file(folder, each))
            save_both(predicted[each.number], measured, folder / f"timeline-{method}.json.gz")
            picture = _picture(folder, method)
            save_picture(predicted[each.number], measured, each.name, picture)
    links = (f"[{method}]({_picture(folder, method).name})" for method in drawn)
    return ", ".join(links) + "; with both in one file for Perfetto (.json.gz)"


def _picture(folder: Path, method: str) -> Path:
    return folder / f"timeline-{method}.png"


def timelines(
    predicted_trace: Trace,
    measured_trace: Trace,
    axes: tuple[Axes, Axes],
    *,
    first: int | None = None,
    rounds: int = 2,
) -> tuple[Axes, Axes]:
    """Draw the same rounds predicted above and measured below, from their beginning.

    Parameters
    ----------
    predicted_trace, measured_trace
        Two traces of one configuration.
    axes
        The upper and the lower one.
    first
        Round with which both begin; by default the second, or the first of a run that has no
        more.
    rounds
        How many; at most ``MOST_ROUNDS`` can be read. A dotted line marks their end.

    Raises
    ------
    ValueError
        If one of the traces does not have these rounds, or there are too many.
    """
    if not 1 <= rounds <= MOST_ROUNDS:
        raise ValueError(f"{rounds} rounds cannot be read; draw 1 to {MOST_ROUNDS}")
    traces = predicted_trace, measured_trace
    begins = [trace.round_begins() for trace in traces]
    there = min(len(begin) - 1 for begin in begins)
    if first is None:
        first = min(1, max(0, there - 1))
        rounds = min(rounds, max(1, there - first))
    if not 0 <= first <= first + rounds <= there:
        raise ValueError(
            f"rounds {first + 1} to {first + rounds} are not in both traces, which have {there}"
        )
    starts = [float(begin[first].min()) for begin in begins]
    ends = [float(begin[first + rounds].max()) for begin in begins]
    length = max(end - start for start, end in zip(starts, ends, strict=True))
    drawn = f"round {first + 1}" if rounds == 1 else f"rounds {first + 1} to {first + rounds}"
    handles: dict[str, Artist] = {}
    for trace, ax, start, end in zip(traces, axes, starts, ends, strict=True):
        timeline(trace, ax, begin=start, end=start + length)
        handles |= dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
        ax.axvline(end, color="black", linestyle=":", linewidth=1)
        _count_from(ax, start, length)
        which = "measured" if trace is measured_trace else "predicted"
        ax.set_title(f"{which}: {end - start:.4g} s for {drawn}", loc="left", fontsize=10)
        legend = ax.get_legend()
        if legend is not None:
            legend.remove()
    upper, lower = axes
    upper.set_xlabel("")
    lower.set_xlabel(f"time (s) from the beginning of round {first + 1}; dotted: end of {drawn}")
    lower.legend(
        list(handles.values()),
        list(handles),
        fontsize=8,
        frameon=False,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.28),
        ncols=5,
    )
    return axes


def _count_from(ax: Axes, start: float, length: float) -> None:
    """Label the time axis from 0 at ``start``: the two traces' clocks have nothing in common."""
    from matplotlib.ticker import MaxNLocator

    ticks = [t for t in MaxNLocator(8).tick_values(0.0, length) if 0 <= t <= length]
    ax.set_xticks(start + np.array(ticks), [f"{tick:.6g}" for tick in ticks])


def save_picture(predicted_trace: Trace, measured_trace: Trace, title: str, path: Path) -> None:
    """Write :func:`timelines` of two rounds, or of one where no more fit, as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1)
    timelines(predicted_trace, measured_trace, (upper, lower))
    figure.suptitle(title, fontsize=11)
    save(figure, path, dpi=130)


def save_both(predicted_trace: Trace, measured_trace: Trace, path: Path) -> None:
    """Write both traces into one .json or .json.gz file for Perfetto.

    Processes are named "predicted: SITE" and "measured: SITE". The earlier trace is shifted so
    that the first rounds begin together.

    Raises
    ------
    ValueError
        If the first is not a prediction or the second not a measurement, or for another suffix.
    """
    if predicted_trace.context.measured or not measured_trace.context.measured:
        raise ValueError("give the predicted trace first, then the measured one")
    if not path.name.endswith((".json", ".json.gz")):
        raise ValueError(f"{path}: write both traces as .json or .json.gz")
    starts = [_first_round(trace) for trace in (predicted_trace, measured_trace)]
    found = []
    for trace, start in zip((predicted_trace, measured_trace), starts, strict=True):
        shift = (max(starts) - start) * 1e6  # events are in microseconds
        for event in events(trace):
            found.append({**event, "ts": event["ts"] + shift} if "ts" in event else event)
    write_events(found, path)


def _first_round(trace: Trace) -> float:
    begins = trace.round_begins()
    return float(begins[0].min()) if len(begins) else 0.0
