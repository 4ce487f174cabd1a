"""Tables and reports in four formats: table, markdown, csv, json.

People read percent, Gbit/s and days: a column has one readable unit, named in its header. CSV
and JSON hold SI numbers and fractions under names that say so.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, inf, isfinite, isnan, log10
from statistics import median
from typing import TYPE_CHECKING, Any

from sim.output.errors import UserError, chosen
from sim.text.visible import guarded, visible, visible_json
from sim.units import format_count, is_binary

if TYPE_CHECKING:
    from sim.figures.evaluation import Figures
    from sim.records.scenario import Scenario

PREDICTION = "A prediction by simulation: nothing was trained."
STEADY = "Times are at the rate of the steady state, without set-up and draining."
DECLARES_NONE = "declares no update: no worker.compute(..., commits=True)"
BOUNDS = (
    " How fast the backlog grows in the long run is not settled: times are at least what they say, "
    "utilization and rates at most."
)
FORMATS = ("table", "markdown", "csv", "json")
Record = Mapping[str, Any]

# (factor, unit), ascending: a column takes the largest unit of which its median holds one.
_UNITS: dict[str, tuple[tuple[float, str], ...]] = {
    "seconds": ((1e-3, "ms"), (1.0, "s"), (60.0, "min"), (3600.0, "h"), (86400.0, "days")),
    "rate": ((0.125e3, "kbit/s"), (0.125e6, "Mbit/s"), (0.125e9, "Gbit/s"), (0.125e12, "Tbit/s")),
    "bytes": ((1.0, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB")),
    "percent": ((0.01, "%"),),
}
# From when on the larger unit reads better: "90 s" and "36 h", but "0.5 Gbit/s".
_ENOUGH = {"s": 1.0, "min": 120.0, "h": 7200.0, "days": 172800.0, "Gbit/s": 0.0125e9}
_ENOUGH["Tbit/s"] = inf


class AtLeast(float):
    """A number of which only a lower bound is known."""


class AtMost(float):
    """A number of which only an upper bound is known."""


@dataclass(frozen=True)
class Column:
    """One column.

    ``key`` is its name in CSV and JSON, SI unit included; ``title`` what people read. ``kind``:
    text, number, count, times (a ratio), or percent, seconds, rate, bytes, which get a unit.
    """

    key: str
    title: str
    kind: str = "text"


THROUGHPUT = (
    Column("tokens_per_s_per_accelerator", "tokens/s per accelerator", "number"),
    Column("mfu_end_to_end_fraction", "MFU, end to end", "percent"),
)
"""Columns that a table has where all accelerators are known."""


@dataclass(frozen=True)
class Table:
    """Records under columns. Text in a numeric column is printed as it is.

    ``one_unit``: columns of a kind share their unit.
    """

    columns: Sequence[Column]
    records: Sequence[Record]
    title: str = ""
    one_unit: bool = False


@dataclass(frozen=True)
class Section:
    """Lines of prose under a title."""

    title: str
    text: str


Block = str | Section | Table


class ListedElsewhere(str):
    """A sentence that says where a list is; left out where the list itself is shown."""


@dataclass(frozen=True)
class Report:
    """What a command says: for people ``blocks`` of prose and tables, for programs the data.

    ``rows`` is what ``--format csv`` prints. ``title`` and ``answer``, one or two sentences with
    the main figures, head a page (``--html``).
    """

    blocks: Sequence[Block]
    data: Any
    rows: Table
    title: str = ""
    answer: str = ""


def assumptions(assumed: Sequence[tuple[str, str]]) -> list[str]:
    """Say in a line how much was assumed, where the list itself would bury the answer."""
    number = len(assumed)
    if not number:
        return []
    values = "1 value was" if number == 1 else f"{number} values were"
    known, named = dict(assumed), []
    if batch := known.get("site.batch_tokens"):  # every time for a token budget rests on it
        named.append(f"{batch} tokens per step")
    if known.get("network.collective.algorithm", "").startswith("hierarchical"):
        named.append("hierarchical collectives")
    which = f", {' and '.join(named)} among them" if named and number > 1 else ""
    text = f"{values} assumed{which}: bandwise simulate lists them, so does --json."
    return [ListedElsewhere(text)]


def remarks(scenarios: Iterable[Scenario]) -> list[str]:
    """Return what goes with predictions: warnings, and which arguments were left out."""
    scenarios = list(scenarios)
    warnings = dict.fromkeys(text for scenario in scenarios for text in scenario.warnings)
    return [*warnings, *left_out(scenarios)]


def left_out(scenarios: Iterable[Scenario]) -> list[str]:
    """Say which arguments were given for several methods and not taken by some of them."""
    methods: dict[str, list[str]] = {}
    for scenario in scenarios:
        for key in scenario.left_out:
            methods.setdefault(key, []).append(scenario.method.name)
    keys: dict[str, list[str]] = {}
    for key, names in methods.items():
        keys.setdefault(", ".join(dict.fromkeys(names)), []).append(key)
    texts = [f"{', '.join(group)} ({names})" for names, group in keys.items()]
    return [f"Left out, because the method does not take it: {'; '.join(texts)}."] * bool(texts)


def at_least(value: float, figures: Figures) -> float:
    """Mark a time as a lower bound where the figures are bounds."""
    return AtLeast(value) if figures.lower_bound else value


def at_most(value: float, figures: Figures) -> float:
    """Mark a share or a rate as an upper bound where the figures are bounds."""
    return AtMost(value) if figures.lower_bound else value


def format_asked(word: str, as_json: bool) -> str:
    """Settle ``--format`` and ``--json``.

    Raises
    ------
    UserError
        For an unknown format, or two different ones.
    """
    chosen("--format", word, FORMATS)
    if as_json and word not in ("table", "json"):
        raise UserError(f"--json: says the same as --format json, but --format is {word}")
    return "json" if as_json else word


def as_json(data: Any) -> str:
    """Write JSON; what is not a number there (nan, infinite) becomes null."""
    return visible_json(json.dumps(_finite(data), indent=2, ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, "item"):  # a numpy scalar
        value = value.item()
    return None if isinstance(value, float) and not isfinite(value) else value


def as_csv(table: Table) -> str:
    """Write the records with all digits, in SI units."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_csv_cell(column.key) for column in table.columns])
    for record in table.records:
        values = [record.get(column.key) for column in table.columns]
        writer.writerow(["" if _absent(value) else _csv_cell(value) for value in values])
    return text.getvalue().rstrip("\n")


def _csv_cell(value: Any) -> Any:
    return guarded(visible(value)) if isinstance(value, str) else value


def as_markdown(table: Table) -> str:
    """Write a GitHub table, its columns aligned."""
    header, rows = cells(table)
    body = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(3, *(len(row[i]) for row in body)) for i in range(len(header))]
    right = [column.kind != "text" for column in table.columns]
    rule = [("-" * (w - 1) + ":") if r else "-" * w for w, r in zip(widths, right, strict=True)]
    sides = list(zip(widths, right, strict=True))
    lines = [
        [cell.rjust(w) if r else cell.ljust(w) for cell, (w, r) in zip(row, sides, strict=True)]
        for row in body
    ]
    lines.insert(1, rule)
    title = f"**{visible(table.title)}**\n\n" if table.title else ""
    return title + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows as people read them."""
    header, columns = [], []
    for column in table.columns:
        values = [record.get(column.key) for record in table.records]
        alike = [other.key for other in table.columns if other.kind == column.kind]
        measured = values
        if table.one_unit:
            measured = [record.get(key) for record in table.records for key in alike]
        factor, unit = _unit(column.kind, measured)
        title = visible(column.title)
        header.append(f"{title} ({unit})" if unit else title)
        columns.append([_cell(value, column.kind, factor) for value in values])
    return header, [list(row) for row in zip(*columns, strict=True)]


def _unit(kind: str, values: Sequence[Any]) -> tuple[float, str]:
    units = _UNITS.get(kind)
    if units is None:
        return 1.0, ""
    numbers = [abs(v) for v in values if isinstance(v, int | float) and isfinite(v)]
    sizes = [number for number in numbers if number != 0]
    if not numbers and kind != "percent":  # texts alone, which name their units themselves
        return 1.0, ""
    if not sizes:
        return units[0] if kind == "percent" else units[min(2, len(units) - 1)]
    middle = median(sizes) * (1 + 1e-9)
    fitting = [unit for unit in units if middle >= _ENOUGH.get(unit[1], unit[0])]
    return fitting[-1] if fitting else units[0]


def _cell(value: Any, kind: str, factor: float) -> str:
    if _absent(value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return visible(str(value))
    if isinstance(value, AtLeast | AtMost):
        bound = "at least" if isinstance(value, AtLeast) else "at most"
        return f"{bound} {_cell(float(value), kind, factor)}"
    if value == inf:
        return "never" if kind == "seconds" else "unlimited"
    if kind == "text" or (kind == "number" and isinstance(value, int)):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if kind == "percent":
        return f"{100 * value:.1f}"
    if kind == "count":
        return count(value)
    if kind == "bytes" and factor == 1:
        return f"{value:.0f}"
    return significant(value / factor)


def count(value: float) -> str:
    """Write a count with four digits; a small multiple of a power of 1024 as such.

    Examples
    --------
    >>> count(2**20), count(200e9), count(412_863_000), count(484.375)
    ('1Mi', '200B', '412.9M', '484.4')
    """
    if is_binary(value):
        return format_count(round(value))
    for factor, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if value >= factor * 0.99995:
            return f"{value / factor:.4g}{unit}"
    return f"{value:.4g}" if value < 1000 else f"{value:.0f}"


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and isnan(value))


def significant(value: float, digits: int = 3) -> str:
    """Write a number with three digits, all of those before the point, and no exponent.

    Examples
    --------
    >>> significant(0.98765), significant(12.0), significant(43210.6), significant(0.00012)
    ('0.988', '12.0', '43211', '0.00012')
    """
    if value == 0 or not isfinite(value):
        return f"{value:g}"
    if abs(value) >= 1e15 or abs(value) < 1e-9:
        return f"{value:.3g}"
    rounded = float(f"{abs(value):.{digits - 1}e}")  # 0.9999 has its point where 1.00 has it
    places = max(0, digits - 1 - floor(log10(rounded)))
    text = f"{value:.{places}f}"
    return text.rstrip("0") if abs(value) < 1e-2 else text


def quantity(value: float, kind: str) -> str:
    """Write one number of a kind with its unit, as in "2.31 days"."""
    factor, unit = _unit(kind, [value])
    text = _cell(value, kind, factor)
    return f"{text} {unit}".strip() if isfinite(value) else text
