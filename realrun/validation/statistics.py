"""Errors of predictions, with intervals from resampled configurations.

Intervals are percentile bootstrap intervals (95 %) over configurations, not over runs: repeats
of one configuration share its error and would make an interval too narrow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import nan
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
_RESAMPLES = 2000
_SEED = 20240229

MODELS = {
    "calibrated": "predicted_s",
    "bandwidth only": "bandwidth_only_s",
    "alpha-beta": "alpha_beta_s",
    "other calibration": "other_calibration_s",
}
"""Models of the time of a round, and the column that holds what each predicts."""

CAUSES = {
    "compute": (("predicted_compute_s", "predicted_contention_s"), ("measured_compute_s",)),
    "optimizer": (("predicted_optimizer_s",), ("measured_optimizer_s",)),
    "quantize": (("predicted_quantize_s",), ("measured_quantize_s",)),
    "exposed communication": (("predicted_exposed_s",), ("measured_exposed_s",)),
    "waiting": (("predicted_waiting_s",), ("measured_waiting_s",)),
    "setup": (("predicted_setup_s",), ("measured_setup_s",)),
    "other": ((), ("measured_other_s",)),
}
"""Causes of time: predicted and measured columns. A run does not measure contention: it is
contained in its compute, so the two are compared together."""

NOTABLE_WAITING = 0.05
"""From which part of the wall-clock a relative error of waiting means something."""


@dataclass(frozen=True)
class Interval:
    """A statistic over ``count`` configurations and its interval.

    nan: no configuration; ``low`` and ``high`` are nan for a single one, too.
    """

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Errors:
    """Relative errors of ``count`` configurations.

    ``median`` and ``p95`` are of the absolute error, ``bias`` is the median signed error. The
    largest has no interval: no resample can exceed it.
    """

    count: int
    median: Interval
    p95: Interval
    largest: float
    bias: Interval


def quantile(values: Floats, q: float) -> Floats:
    """Return the q-quantile along the last axis, linear between neighbours; nan is left out.

    Unlike numpy's it holds with infinite errors.

    Examples
    --------
    >>> float(quantile(np.array([3.0, 1.0, np.nan, np.inf]), 0.5))
    3.0
    """
    ordered = np.sort(values, axis=-1)
    if ordered.shape[-1] == 0:
        return np.full(ordered.shape[:-1], nan)
    position = q * np.maximum(np.sum(~np.isnan(ordered), axis=-1) - 1, 0)
    lower = np.floor(position).astype(int)[..., None]
    upper = np.ceil(position).astype(int)[..., None]
    a = np.take_along_axis(ordered, lower, -1)[..., 0]
    b = np.take_along_axis(ordered, upper, -1)[..., 0]
    with np.errstate(invalid="ignore"):
        between = a + (b - a) * (position - lower[..., 0])
    return np.asarray(np.where(a == b, a, between))


@lru_cache(maxsize=64)
def draws(count: int) -> NDArray[np.intp]:
    """Return which configurations each resample draws; shape [resamples, count].

    The same for equal counts, so that statistics of the same configurations are paired.
    """
    return np.random.default_rng(_SEED).integers(count, size=(_RESAMPLES, count))


def interval(values: Floats, statistic: Callable[[Floats], Floats]) -> Interval:
    """Return a statistic and its bootstrap interval.

    Parameters
    ----------
    values
        Shape [configurations] or [configurations, k]; resampled along the first axis.
    statistic
        From [resamples, configurations] or [resamples, configurations, k] to [resamples].
    """
    count = len(values)
    if count == 0:
        return Interval(nan, nan, nan, 0)
    value = float(statistic(values[None])[0])
    if count == 1:
        return Interval(value, nan, nan, 1)
    low, high = bounds(statistic(values[draws(count)]))
    return Interval(value, low, high, count)


def bounds(resampled: Floats) -> tuple[float, float]:
    """Return the ends of the percentile interval of resampled statistics."""
    tail = (1 - CONFIDENCE) / 2
    return float(quantile(resampled, tail)), float(quantile(resampled, 1 - tail))


def median_of(values: Floats) -> Interval:
    """Median of all values, those of each configuration (first axis) kept together."""
    return interval(values, lambda drawn: quantile(drawn.reshape(len(drawn), -1), 0.5))


def p95_of(values: Floats) -> Interval:
    """95th percentile, as :func:`median_of`."""
    return interval(values, lambda drawn: quantile(drawn.reshape(len(drawn), -1), 0.95))


def errors(table: pd.DataFrame, model: str = "calibrated") -> Errors:
    """Return the errors of wall-clock of one of ``MODELS`` over a table of configurations.

    Configurations for which the model predicts nothing are left out.
    """
    signed = (table[MODELS[model]] / table["measured_s"] - 1).dropna().to_numpy()
    size = np.abs(signed)
    return Errors(
        len(signed),
        median_of(size),
        p95_of(size),
        float(size.max(initial=0)) if len(size) else nan,
        median_of(signed),
    )


def ratio(table: pd.DataFrame, model: str, against: str) -> Interval:
    """Return the median absolute error of one model over that of another.

    Both on the configurations for which both predict something; below 1 the first is nearer.
    """
    both = table[[MODELS[model], MODELS[against], "measured_s"]].dropna().to_numpy()
    size = np.abs(both[:, :2] / both[:, 2:] - 1)

    def statistic(drawn: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return quantile(drawn[..., 0], 0.5) / quantile(drawn[..., 1], 0.5)

    return interval(size, statistic)


def size_of_errors(table: pd.DataFrame, quantity: str) -> Floats:
    """Return the absolute error of a quantity for each configuration.

    Parameters
    ----------
    table
        Configurations.
    quantity
        "wall_clock" and "exposed_communication": relative. "waiting": relative, where at least
        ``NOTABLE_WAITING`` of the wall-clock was waiting. "compute_utilization": a difference of
        fractions.

    Returns
    -------
    numpy.ndarray
        Where none was measured the relative error is infinite, or 0 if none was predicted;
        a configuration is never left out because it is hard.
    """
    if quantity == "compute_utilization":
        return (table["predicted_utilization"] - table["measured_utilization"]).abs().to_numpy()
    if quantity == "waiting":
        table = table[table["measured_waiting_s"] >= NOTABLE_WAITING * table["measured_s"]]
    column = {"wall_clock": "", "exposed_communication": "exposed_", "waiting": "waiting_"}[
        quantity
    ]
    predicted = table[f"predicted_{column}s"].to_numpy()
    measured = table[f"measured_{column}s"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.abs(predicted / measured - 1)
    return np.asarray(np.where(predicted == measured, 0.0, size))


def cause_errors(table: pd.DataFrame) -> pd.DataFrame:
    """Return predicted minus measured seconds of every cause, over measured wall-clock.

    Columns are ``CAUSES``, the index is the table's; nan where one of the two is not known.
    """
    import pandas as pd

    found = {}
    for cause, (predicted, measured) in CAUSES.items():
        there = table[list(predicted)].sum(axis=1, min_count=min(1, len(predicted)))
        seen = table[list(measured)].sum(axis=1, min_count=1)
        found[cause] = (there - seen) / table["measured_s"]
    return pd.DataFrame(found, index=table.index)
