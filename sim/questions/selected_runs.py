"""Which runs of a result table a picture shows, and whether its columns can be drawn."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np

from sim.figures.pictures.labels import labels_of
from sim.figures.pictures.quantities import is_numeric

if TYPE_CHECKING:
    import pandas as pd

_MOST_COLORS = 12


def column_of(frame: pd.DataFrame, option: str, name: str) -> str:
    """Return the column of a name: in full, or the end of a key with or without its unit.

    Raises
    ------
    ValueError
        With the nearest column, if there is none or there are several.
    """
    if name in frame:
        return name
    found = [column for column in frame if name in _short(str(column))]
    if len(found) == 1:
        return str(found[0])
    spelled = {short: str(c) for c in frame for short in _short(str(c))}
    near = [spelled[each] for each in get_close_matches(name, spelled, n=1, cutoff=0.6)]
    near = near or [f"one of {', '.join(labels_of(frame))}"]
    raise ValueError(f'{option}: no column "{name}"; did you mean {near[0]}?')


def _short(column: str) -> list[str]:
    """Return a column and the shorter names that it has: of its key, and that without its unit."""
    key = column.rpartition(".")[2]
    endings = ("_bytes_per_s", "_s", "_fraction")
    return [column, key, *(key.removesuffix(each) for each in endings if key.endswith(each))]


def where(frame: pd.DataFrame, conditions: Iterable[str]) -> pd.DataFrame:
    """Keep the runs that meet every ``column=value``; several values have commas between them.

    Raises
    ------
    ValueError
        If a condition cannot be read or no run meets it.
    """
    for text in conditions:
        name, equals, values = text.partition("=")
        if not equals:
            raise ValueError(f'--where: "{text}" is no COLUMN=VALUE')
        column = column_of(frame, "--where", name)
        meets = np.zeros(len(frame), dtype=bool)
        for value in values.split(","):
            if is_numeric(frame[column]):
                meets |= np.isclose(frame[column].astype(float), _number(column, value), rtol=1e-6)
            else:
                meets |= (frame[column].astype(str) == value.strip()).to_numpy()
        if not meets.any():
            known = ", ".join(str(each) for each in frame[column].unique()[:12])
            raise ValueError(f"--where: no run has {column} = {values}; there are {known}")
        frame = frame[meets]
    return frame


def _number(column: str, text: str) -> float:
    from sim.units import UnitError, parse_duration, parse_rate

    try:
        return float(text)
    except ValueError:
        pass
    try:
        return parse_rate(text) if column.endswith("_bytes_per_s") else parse_duration(text)
    except UnitError as error:
        raise ValueError(f'--where: {column}: "{text}": {error}') from error


def check_numbers(frame: pd.DataFrame, option: str, column: str) -> None:
    """Refuse a column that is not numbers throughout.

    Raises
    ------
    ValueError
        With what the column holds.
    """
    if not is_numeric(frame[column]):
        example = str(frame[column].iloc[0])[:40]
        raise ValueError(f'{option}: {column} is text ("{example}"), and must be numbers')
    if not np.isfinite(frame[column]).all():
        raise ValueError(f"{option}: {column} is empty or infinite in some runs")


def check_varies(frame: pd.DataFrame, option: str, column: str) -> None:
    """Refuse an axis with a single value.

    Raises
    ------
    ValueError
        With the columns that do vary.
    """
    if frame[column].nunique() < 2:
        varied = [name for name in labels_of(frame) if frame[name].nunique() > 1]
        raise ValueError(
            f"{option}: {column} is {frame[column].iloc[0]} in every run drawn; "
            f"what varies is {', '.join(varied) or 'nothing'}"
        )


def check_colors(frame: pd.DataFrame, column: str) -> None:
    """Refuse more colors than can be told apart.

    Raises
    ------
    ValueError
        With the values, and how to select some.
    """
    values = [str(each) for each in frame[column].unique()]
    if len(values) > _MOST_COLORS:
        raise ValueError(
            f"--color: {column} has {len(values)} values, and {_MOST_COLORS} can be told apart; "
            f"select some, like --where {column}={','.join(values[:3])}"
        )


def check_nothing_left(frame: pd.DataFrame, shown: Iterable[str]) -> None:
    """Refuse runs that differ in something that the picture does not show.

    Raises
    ------
    ValueError
        With the columns left, and what to write.
    """
    columns = list(dict.fromkeys(shown))
    groups = frame.groupby(columns, dropna=False, sort=False)
    others = [name for name in labels_of(frame) if name not in columns]
    left = [name for name in others if (groups[name].nunique(dropna=False) > 1).any()]
    if left:
        value = frame[left[0]].iloc[0]
        raise ValueError(
            f"runs at one point differ in {', '.join(left)}; write --facet {left[0]}, or select "
            f"with --where {left[0]}={value}"
        )
