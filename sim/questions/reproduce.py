"""A published table next to ours, cell by cell."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from math import inf, log
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sim.questions.target_tables import table
from sim.storage.inputs import check_regular

if TYPE_CHECKING:
    import pandas as pd

    from sim.scenario import Study


@dataclass(frozen=True)
class Cell:
    """One number of the published table.

    ``published`` is the text as printed, like "86.8" or "1000.0+" for more than 1000, beyond the
    table's grid; ``ours`` what we print by the same rule;
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
        Results of :func:`sim.questions.study.run`.

    Raises
    ------
    ValueError
        As :func:`published_cells`.
    """
    published = published_cells(study)
    grid = np.sort(np.array(study.grid))
    ours = table(study, frame)
    natural = table(study, frame, "grid_point_reaching")
    cells = []
    for (labels, bandwidths), (_, reaching) in zip(ours, natural, strict=True):
        for target, rate, first in zip(study.targets, bandwidths, reaching, strict=True):
            text = published.get((*labels.values(), round(100 * target)))
            if text is None:
                continue
            beyond = rate == inf and text.endswith("+")  # printed as the table prints it
            cells.append(
                Cell(
                    labels,
                    target,
                    text,
                    f"{printed(float(grid[-1]))}+" if beyond else printed(rate),
                    _steps(grid, rate, text),
                    _steps(grid, first, text),
                )
            )
    return Reproduction(study.name, cells)


def published_cells(study: Study) -> dict[tuple[object, ...], str]:
    """Read the table that a study is compared with, before anything is simulated for it.

    Returns
    -------
    dict
        Axis labels and target in percent -> the text as printed.

    Raises
    ------
    ValueError
        If the study names no published table, the table has a cell that cannot be read, or a row
        that the study has not.
    """
    if study.compare_with is None or study.grid is None:
        raise ValueError(f"{study.name}: a reproduction needs compare_with and a grid")
    published = read_published(study.compare_with)
    known = {
        (*(str(value) for value in case.labels.values()), round(100 * target))
        for case in study.cases()
        for target in study.targets
    }
    for row in published:
        if row not in known:
            raise ValueError(f"{study.compare_with}: the study has no case for the row {row}")
    return published


def read_published(path: Path) -> dict[tuple[object, ...], str]:
    """Read a published table: axis labels and target in percent -> the text as printed.

    Raises
    ------
    ValueError
        For a cell that cannot be read, with file, line, column and value.
    """
    check_regular(path)
    with path.open(newline="") as file:
        numbered = [(number, line) for number, line in enumerate(file, 1) if line[:1] != "#"]
    rows = list(csv.reader(line for _, line in numbered))
    if not rows:
        raise ValueError(f"{path}: empty; the first line names the columns")
    header, cells = rows[0], {}
    for (number, _), row in zip(numbered[1:], rows[1:], strict=True):
        if not row:
            continue
        if len(row) != len(header):
            raise ValueError(
                f"{path}, line {number}: {len(row)} columns, {len(header)} are named in the header"
            )
        *labels, target, text = row
        if not _TARGET.fullmatch(target):
            raise ValueError(
                f'{path}, line {number}, column {header[-2]}: "{target}" is no percentage; write '
                "one like 95 %"
            )
        if not _BANDWIDTH.fullmatch(text) or float(text.rstrip("+")) <= 0:
            raise ValueError(
                f'{path}, line {number}, column {header[-1]}: "{text}" is no bandwidth in Gbit/s; '
                'write it as printed, like 86.8, or "1000.0+" for more than 1000'
            )
        cells[(*labels, round(float(target.strip(" %"))))] = text
    return cells


_TARGET = re.compile(r"\s*\d+(\.\d+)?\s*%?\s*")
_BANDWIDTH = re.compile(r"\d+(\.\d+)?\+?")  # with a plus: more than that


def _steps(grid: np.ndarray, rate: float, text: str) -> int:
    """Distance in grid steps from ``rate`` to the nearest grid point printed as ``text``.

    A text with a plus stands for all grid points above it, and for what lies beyond the grid.
    """
    if text.endswith("+"):
        more_than = float(text[:-1])
        prints = [i for i, point in enumerate(grid) if float(printed(float(point))) > more_than]
        prints.append(len(grid))
    else:
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
