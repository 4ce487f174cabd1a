"""What stands next to lines and bars: varied values and titles, in friendly units."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_LONGEST = 60  # signs of a label
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
