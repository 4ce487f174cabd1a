"""From repeated runs to one line per configuration, and how far repeats lie apart."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from realrun.validation.rows import NUMBERS, OF_CONFIGURATION

if TYPE_CHECKING:
    import pandas as pd


def configurations(rows: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Return one row per configuration: medians over its repeats.

    Parameters
    ----------
    rows
        As :func:`realrun.validation.rows.checked` returns them.
    threshold
        From which measured share of communication (0 to 1) a configuration is informative.

    Returns
    -------
    pandas.DataFrame
        Indexed 0, 1, ...; the columns of the rows without ``repeat`` and ``order``, and
        ``repeats``; ``error``, predicted over measured wall-clock minus 1; ``informative``;
        ``spread`` and ``spread_per_step``, largest minus smallest measurement over their median
        (0 where there is but one).
    """
    runs = rows.groupby("run", sort=True)
    numbers = [name for name in NUMBERS if name not in OF_CONFIGURATION]
    table = runs[list(OF_CONFIGURATION)].first().join(runs[numbers].median())
    table["rounds"] = runs["rounds"].min()
    table["repeats"] = runs.size()
    table["error"] = table["predicted_s"] / table["measured_s"] - 1
    table["informative"] = table["communication_share"] >= threshold - 1e-12
    for name, column in (("spread", "measured_s"), ("spread_per_step", "measured_per_step_s")):
        table[name] = (runs[column].max() - runs[column].min()) / table[column]
    return table.reset_index()


def deviations(rows: pd.DataFrame) -> NDArray[np.float64]:
    """Return how far each repeat lies from its configuration's median wall-clock, relative.

    Returns
    -------
    numpy.ndarray
        Shape [configurations with at least two repeats, most repeats]; nan where a
        configuration has fewer.
    """
    return _padded(
        [
            np.abs(measured / np.median(measured) - 1)
            for measured in _measured(rows)
            if len(measured) > 1
        ]
    )


def differences(rows: pd.DataFrame) -> NDArray[np.float64]:
    """Return how far every two repeats of a configuration lie apart, relative to its median.

    Returns
    -------
    numpy.ndarray
        Shape [configurations with at least two repeats, most pairs]; nan where a
        configuration has fewer.
    """
    return _padded(
        [
            np.array([abs(a - b) for a, b in combinations(measured, 2)]) / np.median(measured)
            for measured in _measured(rows)
            if len(measured) > 1
        ]
    )


def _measured(rows: pd.DataFrame) -> list[NDArray[np.float64]]:
    return [part.to_numpy() for _, part in rows.groupby("run", sort=True)["measured_s"]]


def _padded(lists: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    padded = np.full((len(lists), max(map(len, lists), default=0)), np.nan)
    for line, values in zip(padded, lists, strict=True):
        line[: len(values)] = values
    return padded
