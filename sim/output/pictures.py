"""Pictures of results, drawn with :mod:`sim.figures.plots` and saved without a display."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from math import ceil, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_LINES = 8  # in a panel: as many colors can be told apart
_MOST_TIMES = 10.0  # the median: a longer bar ends at the edge
_MOST_BESIDE = 4  # panels in a row, and rows of them


def titled(figure: Figure, title: str) -> None:
    """Give the figure a title above all its panels, if there is anything to say."""
    if title:
        figure.suptitle(title, fontsize=10)


def curves(frame: pd.DataFrame) -> Figure:
    """Draw utilization against bandwidth: a line per combination of the other axes.

    Lines that would be too many for one panel are shared out over panels, by the values of one
    or two axes.

    Raises
    ------
    ValueError
        If they are too many for that as well.
    """
    from matplotlib.figure import Figure

    from sim.figures.plots import BANDWIDTH, labels_of, named, title_of, utilization

    varied = [n for n in labels_of(frame) if n != BANDWIDTH and frame[n].nunique() > 1]
    panels = _panels(frame, varied)
    columns = len(panels[0])
    wide, high = (8.0, 5.0) if panels == [[{}]] else (1.5 + 3.2 * columns, 1.5 + 2.8 * len(panels))
    figure = Figure(figsize=(wide, high), layout="constrained")
    grid = figure.subplots(len(panels), columns, sharex=True, sharey=True, squeeze=False)
    for row, axes in zip(panels, grid, strict=True):
        for chosen, ax in zip(row, axes, strict=True):
            part = frame
            for name, values in chosen.items():
                part = part[part[name].isin(values)]
            utilization(part, ax, frame)
            shared = [named(name, each[0]) for name, each in chosen.items() if len(each) == 1]
            ax.set_title(", ".join(shared), fontsize=9)
            ax.label_outer()
    if panels != [[{}]] and len(varied) > 1:
        _legend_outside(figure, columns)
    titled(figure, title_of(frame))
    return figure


def _panels(frame: pd.DataFrame, varied: list[str]) -> list[list[dict[str, list[Any]]]]:
    """Return rows of panels, each with the values of axes to which its lines are restricted."""
    sizes = {name: frame[name].nunique() for name in varied}
    lines = prod(sizes.values())
    if lines <= _MOST_LINES:
        return [[{}]]
    if len(varied) == 1 and lines <= _MOST_LINES * _MOST_BESIDE:
        (name,) = varied
        values = list(frame[name].unique())
        starts = range(0, lines, ceil(lines / ceil(lines / _MOST_LINES)))
        return [[{name: values[start : start + starts.step]} for start in starts]]
    fitting = []
    for across, down in [*((name, None) for name in varied), *permutations(varied, 2)]:
        shape = (sizes[across], 1 if down is None else sizes[down])
        if max(shape) <= _MOST_BESIDE and lines / prod(shape) <= _MOST_LINES:
            fitting.append((prod(shape), across, down))
    if not fitting:
        shown = " x ".join(f"{size} {name}" for name, size in sizes.items())
        raise ValueError(
            f"{lines} curves ({shown}) cannot be told apart: a panel holds {_MOST_LINES}, and "
            f"panels are by the values of one or two axes, at most {_MOST_BESIDE} each; vary fewer "
            "(--over), or keep the runs that matter"
        )
    _, across, down = min(fitting, key=lambda each: each[0])
    columns = [{across: [value]} for value in frame[across].unique()]
    if down is None:
        return [columns]
    return [[{down: [value], **each} for each in columns] for value in frame[down].unique()]


def bars(frame: pd.DataFrame) -> Figure:
    """Draw where the time went: a bar per run, as high as its label needs."""
    from matplotlib.figure import Figure

    from sim.figures.plots import breakdown, title_of

    figure = Figure(figsize=(8, max(4.0, 1.6 + 0.2 * len(frame))), layout="constrained")
    breakdown(frame, figure.subplots())
    titled(figure, title_of(frame))
    return figure


def comparison(methods: list[dict[str, Any]], width: float = 10.0) -> Figure:
    """Draw methods side by side: where the time of each goes, and how much time it is.

    Parameters
    ----------
    methods
        The records "methods" of a comparison's JSON.
    width
        In inches.
    """
    import pandas as pd
    from matplotlib.figure import Figure

    from sim.figures.pictures.quantities import unit_of
    from sim.figures.plots import breakdown
    from sim.units import format_seconds

    rows = [
        {
            "method.name": each["method"],
            "schema": 1,
            **{f"{cause}_fraction": part for cause, part in each["breakdown"].items()},
        }
        for each in methods
    ]
    times = [each["time_for_tokens_s"] for each in methods]
    figure = Figure(figsize=(width, max(3.5, 1.6 + 0.3 * len(rows))), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    breakdown(pd.DataFrame(rows), left)
    factor, unit = unit_of("time_s", sorted(times)[len(times) // 2])
    drawn = right.barh(range(len(times)), [each * factor for each in times], color="#0072B2")
    # One method that takes hundreds of times as long would leave the others without bars.
    near = [each for each in times if each <= _MOST_TIMES * sorted(times)[len(times) // 2]]
    edge = max(near) * factor * 1.4
    right.set(xlabel=f"time for equal tokens ({unit})", xlim=(0, edge))
    for bar, each, row in zip(drawn, times, methods, strict=True):
        least = "at least " if row["time_is_lower_bound"] else ""
        beyond = each not in near
        right.annotate(
            f"{least}{format_seconds(each)}{', beyond the axis' if beyond else ''}",
            (edge if beyond else bar.get_width(), bar.get_y() + bar.get_height() / 2),
            xytext=(-5 if beyond else 3, 0),
            textcoords="offset points",
            ha="right" if beyond else "left",
            va="center",
            fontsize=8,
            color="white" if beyond else "black",
        )
    return figure


def memory_on(record: Mapping[str, Any], ax: Axes) -> Axes:
    """Draw what accelerators hold; ``record`` is what ``memory --json`` prints."""
    from sim.figures.pictures.memory import memory
    from sim.questions.memory import PARTS

    rows = record["memory"]
    several = len({row["sites"] for row in rows}) > 1
    names = [f"{row['method']}, {row['sites']}" if several else row["method"] for row in rows]
    return memory([{"name": name, **row} for name, row in zip(names, rows, strict=True)], PARTS, ax)


def _legend_outside(figure: Figure, columns: int) -> None:
    """Give the figure one legend, below; all its panels have the same lines."""
    names: dict[str, Any] = {}
    for ax in figure.axes:
        legend = ax.get_legend()
        if legend is not None:
            legend.remove()
        handles, labels = ax.get_legend_handles_labels()
        names = dict(zip(labels, handles, strict=True)) | names
    figure.legend(
        names.values(),
        names.keys(),
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        frameon=False,
    )


def save_curves(frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Write utilization.png and .svg, where bandwidth was varied and curves can be told apart."""
    from sim.figures.plots import BANDWIDTH, save
    from sim.output.show import tell
    from sim.questions.study_folder import PICTURES

    if BANDWIDTH not in frame or frame[BANDWIDTH].nunique() < 2:
        return []
    try:
        figure = curves(frame)
    except ValueError as error:
        tell(f"bandwise: no curves are drawn: {error}")
        return []
    paths = [folder / name for name in PICTURES]
    for path in paths:
        save(figure, path)
    return paths
