"""Numbers and tables as the report prints them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import isinf, isnan
from typing import TYPE_CHECKING

from realrun.validation.statistics import Errors, Interval
from sim.text.visible import visible
from sim.units import format_rate, format_seconds

if TYPE_CHECKING:
    import pandas as pd

GROUPS = {
    "compute_mode": "compute",
    "method": "method",
    "bandwidth_bytes_per_s": "bandwidth",
    "rtt_s": "round trip",
    "workers": "workers",
    "heterogeneity": "heterogeneity",
    "tolerance_applies": "target",
}
"""Columns by which configurations are grouped, and their names."""

_FORMS: dict[str, Callable[[float], str]] = {
    "bandwidth_bytes_per_s": format_rate,
    "rtt_s": format_seconds,
    "tolerance_applies": lambda applies: "with a target" if applies else "without a target",
}
ENOUGH_FOR_P95 = 20
HEADER = ("configurations", "median", "p95", "largest", "bias")


def percent(value: float, *, signed: bool = False) -> str:
    """Write a fraction in percent; "-" where there is none.

    Examples
    --------
    >>> percent(0.0312), percent(0.2, signed=True), percent(float("nan")), percent(float("inf"))
    ('3.12 %', '+20.00 %', '-', 'unbounded')
    """
    if isnan(value):
        return "-"
    if isinf(value):
        return "unbounded"
    text = f"{value * 100:{'+' if signed else ''}.{2 if abs(value) < 1 else 0}f}"
    return ("0.00" if float(text) == 0 else text) + " %"


def signed_percent(value: float) -> str:
    """Write a fraction in percent with its sign."""
    return percent(value, signed=True)


def factor(value: float) -> str:
    """Write a ratio.

    Examples
    --------
    >>> factor(0.1234)
    '0.123'
    """
    return "-" if isnan(value) else "unbounded" if isinf(value) else f"{value:.3g}"


def between(found: Interval, form: Callable[[float], str] = percent) -> str:
    """Write a statistic with its interval, where it has one.

    Examples
    --------
    >>> between(Interval(0.02, 0.01, 0.04, 9)), between(Interval(0.02, 0.01, 0.04, 9), factor)
    ('2.00 % [1.00, 4.00]', '0.02 [0.01, 0.04]')
    """
    if isnan(found.low) or isnan(found.high):
        return form(found.value)
    low, high = (form(end).removesuffix(" %") for end in (found.low, found.high))
    return f"{form(found.value)} [{low}, {high}]"


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Write a table; the first column is text, the others are aligned to the right.

    Examples
    --------
    >>> print(table(["method", "error"], [["ddp", "3 %"]]))
    | method | error |
    |---|---:|
    | ddp | 3 % |
    """
    rule = "|".join(["---", *["---:"] * (len(header) - 1)])
    written = [f"| {' | '.join(header)} |", f"|{rule}|"]
    written += [f"| {' | '.join(_cell(text) for text in line)} |" for line in lines]
    return "\n".join(written)


def _cell(text: str) -> str:
    return visible(text).replace("|", "/").replace("\n", " ")


def written(column: str, value: object) -> str:
    """Write one value of a column that groups configurations, with its unit.

    Examples
    --------
    >>> written("rtt_s", 0.04), written("workers", 2)
    ('40 ms', '2')
    """
    form = _FORMS.get(column)
    return str(value) if form is None else form(value)  # type: ignore[arg-type]


def label(row: pd.Series) -> str:
    """Write a configuration's method with its arguments."""
    return f"{row['method']} {row['arguments']}".strip()


def error_cells(found: Errors) -> list[str]:
    """Write errors in the columns of ``HEADER``.

    The p95 of few configurations is nearly the largest error; an interval would pretend more.
    """
    return [
        str(found.count),
        between(found.median),
        between(found.p95) if found.count >= ENOUGH_FOR_P95 else percent(found.p95.value),
        percent(found.largest),
        between(found.bias, signed_percent),
    ]


def both(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return all configurations, then the informative ones, with what to call them."""
    return [("all", frame), ("informative", frame[frame["informative"]])]
