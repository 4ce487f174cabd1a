"""A published table beside ours, cell by cell."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from math import inf, log
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sim.requirements import table

if TYPE_CHECKING:
    import pandas as pd

    from sim.scenario import Study


@dataclass(frozen=True)
class Cell:
    """One number of the published table.

    ``published`` is the text as printed; ``ours`` what we print by the same rule;
    ``grid_steps`` the distance from our grid point to the nearest one that prints as the
    published text (0: exact; negative: ours is lower). ``natural_steps`` is the same for the
    first grid point that reaches the target, without the paper's printing rule.
    """

    labels: dict[str, str]
    target: float
    published: str
    ours: str
    grid_steps: int
    natural_steps: int


@dataclass(frozen=True)
class Reproduction:
    """All cells, and what the study states as its tolerance."""

    name: str
    cells: list[Cell]

    @property
    def exact(self) -> int:
        """Cells that print as published."""
        return sum(cell.grid_steps == 0 for cell in self.cells)

    def within(self, steps: int) -> int:
        """Cells whose natural rule lies within ``steps`` grid steps."""
        return sum(abs(cell.natural_steps) <= steps for cell in self.cells)


def printed(rate: float) -> str:
    """Write a bandwidth (bytes/s) in Gbit/s as the published tables do.

    Rounded to two decimals, then to one, half to even in binary floating point.

    Examples
    --------
    >>> printed(323.745e9 / 8), printed(0.954e9 / 8)
    ('323.8', '0.9')
    """
    if rate == inf:
        return "not reached"
    return f"{round(round(rate * 8e-9, 2), 1):.1f}"


def reproduce(study: Study, frame: pd.DataFrame) -> Reproduction:
    """Compare a study's required bandwidths with the published ones.

    Parameters
    ----------
    study
        Needs ``compare_with``, a grid and the rule by which bandwidths are printed.
    frame
        Results of :func:`sim.study.run`.

    Raises
    ------
    ValueError
        If the study names no published table, or the table has a row that the study has not.
    """
    if study.compare_with is None or study.grid is None:
        raise ValueError(f"{study.name}: a reproduction needs compare_with and a grid")
    published = read_published(study.compare_with)
    grid = np.sort(np.array(study.grid))
    ours = table(study, frame)
    natural = table(study, frame, "grid_point_reaching")
    cells = []
    for (labels, bandwidths), (_, reaching) in zip(ours, natural, strict=True):
        for target, rate, first in zip(study.targets, bandwidths, reaching, strict=True):
            key = (*labels.values(), round(100 * target))
            if key not in published:
                continue
            text = published.pop(key)
            cells.append(
                Cell(
                    labels,
                    target,
                    text,
                    printed(rate),
                    _steps(grid, rate, text),
                    _steps(grid, first, text),
                )
            )
    if published:
        row = next(iter(published))
        raise ValueError(f"{study.compare_with}: the study has no case for the row {row}")
    return Reproduction(study.name, cells)


def read_published(path: Path) -> dict[tuple[object, ...], str]:
    """Read a published table: axis labels and target in percent -> the text as printed."""
    with path.open(newline="") as file:
        rows = list(csv.reader(line for line in file if not line.startswith("#")))
    return {(*row[:-2], round(float(row[-2].strip(" %")))): row[-1] for row in rows[1:]}


def _steps(grid: np.ndarray, rate: float, text: str) -> int:
    """Distance in grid steps from ``rate`` to the nearest grid point printed as ``text``."""
    prints = [i for i, point in enumerate(grid) if printed(float(point)) == text]
    if not prints:  # no grid point prints so: the nearest in value
        wanted = float(text) * 1e9 / 8
        prints = [int(np.argmin(np.abs(np.log(grid / wanted))))]
    ours = (
        len(grid)
        if rate == inf
        else round((log(rate) - log(grid[0])) / (log(grid[-1]) - log(grid[0])) * (len(grid) - 1))
    )
    return min((ours - place for place in prints), key=abs)
