"""Bandwidth that reaches each target, read off a study's curves or found by bisection."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sim.questions.study import BANDWIDTH
from sim.questions.target_search import required

if TYPE_CHECKING:
    import pandas as pd

    from sim.scenario import Study

PRINTING = ("bisect", "grid_point_below", "grid_point_reaching")
"""How a required bandwidth is stated: exactly; the grid point just below the first that
reaches the target (as arXiv:2501.18512 prints its Table 4); or that first point."""


def on_grid(
    rates: NDArray[np.float64],
    utilization: NDArray[np.float64],
    target: float,
    printing: str,
) -> float:
    """Grid point that stands for "the bandwidth that reaches ``target``".

    Parameters
    ----------
    rates
        Ascending bandwidths, shape [n].
    utilization
        Compute utilization at each, shape [n].
    target
        Fraction.
    printing
        "grid_point_below" or "grid_point_reaching".

    Returns
    -------
    float
        One of ``rates``; inf where none reaches the target.

    Examples
    --------
    >>> grid, reached = np.array([1.0, 2.0, 4.0]), np.array([0.2, 0.6, 0.9])
    >>> on_grid(grid, reached, 0.5, "grid_point_reaching")
    2.0
    >>> on_grid(grid, reached, 0.5, "grid_point_below")
    1.0
    """
    if not (utilization >= target).any():
        return inf
    first = int(np.argmax(utilization >= target))
    return float(rates[max(0, first - 1) if printing == "grid_point_below" else first])


def table(
    study: Study, frame: pd.DataFrame, printing: str | None = None
) -> list[tuple[dict[str, str], list[float]]]:
    """Required bandwidth in bytes/s of every case, one number per target.

    Parameters
    ----------
    study
        Gives cases, targets and the printing rule unless ``printing`` overrides it.
    frame
        Its results; used where the rule reads the grid.

    Returns
    -------
    list of (labels, bandwidths)
        inf where no bandwidth reaches the target, 0 where every one does.
    """
    rule = printing or study.printing
    answers = []
    for case in study.cases():
        labels = {name: str(value) for name, value in case.labels.items()}
        if rule == "bisect" or study.grid is None:
            bandwidths = _bisected(case.scenario, study.targets)
        else:
            part = frame
            for name, value in case.labels.items():
                part = part[part[name] == value]
            part = part.sort_values(BANDWIDTH)
            rates = part[BANDWIDTH].to_numpy()
            reached = part["compute_utilization_fraction"].to_numpy()
            bandwidths = [on_grid(rates, reached, target, rule) for target in study.targets]
        answers.append((labels, bandwidths))
    return answers


def _bisected(scenario: object, targets: Sequence[float]) -> list[float]:
    found = []
    for answer in required(scenario, targets):  # type: ignore[arg-type]
        slowest = min(answer.bandwidth.values())
        found.append({"any": 0.0, "not reached": inf}.get(answer.outcome, slowest))
    return found
