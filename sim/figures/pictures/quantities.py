"""A column on an axis: its label with a friendly unit, its scale, its ticks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from sim.figures.pictures.labels import as_it_is
from sim.units import is_binary

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axis import Axis

_SPAN = 30.0  # values that differ by more than this factor are drawn on a logarithmic axis
_TOKENS = ("tokens_per_update", "batch_tokens")
_PREFIXES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def is_numeric(values: pd.Series) -> bool:
    """Whether a column holds numbers; True and False are none."""
    return values.dtype.kind in "iuf"


def unit_of(column: str, largest: float, values: Iterable[float] = ()) -> tuple[float, str]:
    """Return the factor from SI and the unit in which a column reads well.

    Tokens that tables write in powers of 1024, as any of ``values`` may be, are so on the axis.

    Examples
    --------
    >>> unit_of("network.bandwidth_bytes_per_s", 1e9), unit_of("wall_clock_s", 7200.0)
    ((8e-09, 'Gbit/s'), (0.0002777777777777778, 'hours'))
    >>> unit_of("tokens_per_update", 40.0 * 2**20, [40.0 * 2**20]) == (2**-20, "Mi")
    True
    """
    if column.endswith("_bytes_per_s"):
        return (8e-9, "Gbit/s") if largest >= 1.25e7 else (8e-6, "Mbit/s")
    if column.endswith("_per_s"):
        return 1.0, "per second"
    if column.endswith("_s"):
        steps = ((2 * 86400.0, 1 / 86400, "days"), (2 * 3600.0, 1 / 3600, "hours"), (1, 1, "s"))
        return next(((f, unit) for least, f, unit in steps if largest >= least), (1e3, "ms"))
    if column.endswith("_fraction"):
        return 100.0, "%"
    if "_bytes" in column:
        return (1e-9, "GB") if largest >= 1e8 else (1e-6, "MB")
    if column.rpartition(".")[2] in _TOKENS and any(map(is_binary, found := sorted(values))):
        powers = ((2.0**40, "Ti"), (2.0**30, "Gi"), (2.0**20, "Mi"), (2.0**10, "Ki"))
        middle = found[len(found) // 2]
        return next(((1 / size, unit) for size, unit in powers if middle >= size), (1.0, ""))
    return 1.0, ""


def label_of(column: str, unit: str) -> str:
    """Return the label of an axis: the words of a column, and its unit.

    Examples
    --------
    >>> label_of("network.rtt_s", "ms"), label_of("method.sync_every", "")
    ('rtt (ms)', 'sync_every')
    """
    words = column.rpartition(".")[2]
    for ending in ("_bytes_per_s", "_per_s", "_s", "_fraction"):
        words = words.removesuffix(ending)
    if words == column or "." not in column:
        words = words.replace("_", " ")
    return as_it_is(f"{words} ({unit})" if unit else words)


def short(value: float) -> str:
    """Write a number of a tick or a cell in few signs.

    Examples
    --------
    >>> short(20000.0), short(0.1), short(87.654)
    ('20k', '0.1', '87.7')
    """
    for factor, prefix in _PREFIXES:
        if abs(value) >= factor * 10 or (factor > 1e3 and abs(value) >= factor):
            return f"{value / factor:.3g}{prefix}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def spans_much(values: np.ndarray) -> bool:
    """Whether values are positive and so far apart that a logarithmic axis shows them better."""
    return bool(values.min() > 0 and values.max() > _SPAN * values.min())


def scale(axis: Axis, column: str, values: np.ndarray, *, log: bool = False) -> None:
    """Give an axis its scale and ticks; shares (%) stay linear unless ``log``."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    wanted = log or (spans_much(values) and not column.endswith("_fraction"))
    shown = FuncFormatter(lambda value, _: short(value))
    if wanted:
        (axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale)("log")
        decades = np.log10(values.max() / values.min())
        axis.set_major_locator(LogLocator(subs=(1.0,) if decades > 2 else (1.0, 2.0, 5.0)))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(nbins=5))
    axis.set_major_formatter(shown)
