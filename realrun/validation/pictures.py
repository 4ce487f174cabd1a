"""Pictures of a validation: functions that take and return an Axes, and one that saves them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from realrun.validation.configurations import deviations
from realrun.validation.lost_time import causes, selected
from realrun.validation.statistics import MODELS
from sim.figures.pictures.palette import styles
from sim.figures.plots import save as save_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

_MODEL_STYLES = {
    "calibrated": ("#0072B2", "-"),
    "bandwidth only": ("#D55E00", "--"),
    "alpha-beta": ("#E69F00", "-."),
    "other calibration": ("#CC79A7", ":"),
}


def _styles(methods: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Give each method its color and marker, the same in all pictures."""
    found = styles(["method"], [(method,) for method in sorted(set(methods))])
    return {str(method): (style.color, style.marker) for (method,), style in found.items()}


def predicted_against_measured(
    table: pd.DataFrame, ax: Axes, methods: Sequence[str] | None = None
) -> Axes:
    """Draw predicted against measured seconds per round, by method; informative ones filled.

    Parameters
    ----------
    table
        Configurations.
    ax
        Where to draw.
    methods
        All methods that have a color; those of the table by default.
    """
    ends = table[["predicted_s", "measured_s"]].to_numpy()
    line = np.array([ends.min() / 1.5, ends.max() * 1.5])
    ax.fill_between(line, line * 0.9, line * 1.1, color="#DDDDDD", label="within 10 %", zorder=0)
    ax.plot(line, line, color="#777777", linewidth=1, zorder=1)
    for method, (color, marker) in _styles(methods or list(table["method"])).items():
        own = table[table["method"] == method]
        if own.empty:
            continue
        ax.scatter(
            own["measured_s"],
            own["predicted_s"],
            s=28,
            marker=marker,
            facecolors=[color if informative else "none" for informative in own["informative"]],
            edgecolors=color,
            zorder=2,
        )
        ax.plot([], [], marker, color=color, label=method)  # filled in the legend
    ax.set(
        xscale="log",
        yscale="log",
        xlim=tuple(line),
        ylim=tuple(line),
        xlabel="measured (seconds per round)",
        ylabel="predicted (seconds per round)",
        aspect="equal",
    )
    for axis in (ax.xaxis, ax.yaxis):
        _plain_log(axis)
    ax.grid(alpha=0.3)
    return ax


def _plain_log(axis: Axis) -> None:
    """Label a logarithmic axis with plain numbers at 1, 2 and 5, or at 1 over many decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    steps = (1.0, 2.0, 5.0) if high / low < 1e3 else (1.0,)
    axis.set_major_locator(LogLocator(subs=steps, numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def errors_by_model(rows: pd.DataFrame, table: pd.DataFrame, ax: Axes) -> Axes:
    """Draw which part of the informative configurations has at most which error.

    One curve per model, and one for the repeats' own deviations: the noise floor.

    Parameters
    ----------
    rows
        Checked runs.
    table
        Configurations, of which the informative ones are drawn.
    ax
        Where to draw.
    """
    table = table[table["informative"]]
    apart = deviations(rows[rows["run"].isin(table["run"])]).ravel()
    apart = apart[~np.isnan(apart)]
    curves = {
        name: (np.abs(table[column] / table["measured_s"] - 1).dropna().to_numpy(), *style)
        for (name, column), style in zip(MODELS.items(), _MODEL_STYLES.values(), strict=True)
    }
    curves["noise floor (repeats)"] = (apart, "#777777", "-")
    least = 1e-4  # a logarithmic axis has no zero: smaller errors are drawn here
    for name, (values, color, style) in curves.items():
        if len(values):
            size = np.sort(np.maximum(values, least)) * 100
            share = np.arange(1, len(size) + 1) / len(size) * 100
            ax.step(
                [size[0], *size],
                [0, *share],
                where="post",
                color=color,
                linestyle=style,
                linewidth=1.2 if name.startswith("noise") else 1.8,
                label=name,
            )
    ax.set(
        xscale="log",
        xlabel="absolute error of wall-clock (%)",
        ylabel="informative configurations (%)",
        ylim=(0, 101),
    )
    _plain_log(ax.xaxis)
    ax.grid(alpha=0.3)
    if table.empty:
        ax.text(0.5, 0.5, "no informative configuration", ha="center", transform=ax.transAxes)
    return ax


def errors_by_method(table: pd.DataFrame, ax: Axes, methods: Sequence[str] | None = None) -> Axes:
    """Draw every configuration's signed error by method, with median and quartiles.

    Parameters
    ----------
    table
        Configurations; informative ones are filled.
    ax
        Where to draw.
    methods
        All methods to have a line; those of the table by default.
    """
    looks = _styles(methods or list(table["method"]))
    ax.use_sticky_edges = False  # else a bar at the edge cuts its own points
    for place, (method, (color, marker)) in enumerate(looks.items()):
        own = table[table["method"] == method]
        if own.empty:
            continue
        error = own["error"].to_numpy() * 100
        low, middle, high = np.quantile(error, [0.25, 0.5, 0.75])
        ax.barh(place, high - low, left=low, height=0.62, color=color, alpha=0.15, zorder=1)
        ax.plot([middle, middle], [place - 0.31, place + 0.31], color=color, linewidth=2)
        # Spread out so that equal errors stay visible; by count, so that nothing is random.
        scattered = place + 0.2 * (np.arange(len(own)) % 5 - 2) / 2
        ax.scatter(
            error,
            scattered,
            s=18,
            marker=marker,
            facecolors=[color if informative else "none" for informative in own["informative"]],
            edgecolors=color,
            linewidths=0.8,
            zorder=2,
        )
    ax.axvline(0, color="#777777", linewidth=1)
    ax.set_yticks(range(len(looks)), list(looks))
    ax.set_ylim(len(looks) - 0.5, -0.5)
    ax.set_xlabel("error of wall-clock (%), predicted / measured - 1")
    ax.grid(axis="x", alpha=0.3)
    return ax


def save(rows: pd.DataFrame, table: pd.DataFrame, folder: Path) -> list[Path]:
    """Write predicted_measured.png, errors.png, methods.png and causes.png.

    ``folder`` must be there; the other parameters are those of :func:`figures`.
    """
    paths = []
    for name, figure in figures(rows, table).items():
        paths.append(folder / f"{name}.png")
        save_figure(figure, paths[-1], dpi=130)
    return paths


def figures(rows: pd.DataFrame, table: pd.DataFrame) -> dict[str, Figure]:
    """Return the pictures by name.

    Parameters
    ----------
    rows
        Checked runs.
    table
        Configurations. One panel is drawn per compute mode.
    """
    methods = sorted(table["method"].unique())
    drawn = {
        "predicted_measured": _panels(
            table, partial(predicted_against_measured, methods=methods), height=6.2, share=False
        ),
        "errors": _panels(table, lambda part, ax: errors_by_model(rows, part, ax), height=4.6),
        "methods": _panels(
            table, partial(errors_by_method, methods=methods), height=1.4 + 0.42 * len(methods)
        ),
    }
    _legend(drawn["predicted_measured"], "filled: informative")
    _legend(drawn["errors"])
    drawn["methods"].suptitle("filled: informative; bars: quartiles, line: median", fontsize=9)
    return {**drawn, "causes": _causes(selected(table))}


def _panels(
    table: pd.DataFrame,
    draw: Callable[[pd.DataFrame, Axes], Axes],
    height: float,
    *,
    share: bool = True,
) -> Figure:
    """Draw one panel per compute mode."""
    from matplotlib.figure import Figure

    parts = list(table.groupby("compute_mode", sort=True))
    width = 7.5 if len(parts) == 1 else 5.2 * len(parts)
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(1, len(parts), squeeze=False, sharex=share, sharey=share)[0]
    for (mode, part), ax in zip(parts, panels, strict=True):
        draw(part, ax)
        ax.set_title(f"computation {mode}", fontsize=10)
        if ax is not panels[0]:
            ax.set_ylabel("")
    return figure


def _causes(table: pd.DataFrame) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.8 + 0.5 * len(table)), layout="constrained")
    causes(table, figure.subplots())
    _legend(figure)
    return figure


def _legend(figure: Figure, title: str | None = None) -> None:
    """Give a figure one legend above its panels, with what any of them shows."""
    found: dict[str, Artist] = {}
    for ax in figure.axes:
        for handle, text in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(text, handle)
    if found:
        figure.legend(
            list(found.values()),
            list(found),
            title=title,
            title_fontsize=8,
            loc="outside upper center",
            ncols=min(len(found), 6),
            fontsize=8,
            frameon=False,
        )
