"""Measured times of micro-batches, for empirical jitter."""

from __future__ import annotations

from math import isfinite
from pathlib import Path

from sim.scenario.csv_files import read_rows
from sim.scenario.errors import Origin, problem

_HEADERS = ("seconds", "factor")


def read_samples(path: Path, label: str) -> tuple[float, ...]:
    """Read a CSV file with one column, "seconds" or "factor"; only the ratios matter."""
    origin = Origin(label)
    rows = read_rows(path, label, 'write a line "seconds" and one time per line')
    header = rows[0][1]
    if len(header) > 1:
        raise problem(
            origin, "line 1", "must be one column, headed seconds or factor", ",".join(header)
        )
    if header[0] not in _HEADERS:
        raise problem(origin, "line 1", 'must be the heading, "seconds" or "factor"', header[0])
    samples = []
    for number, row in rows[1:]:
        line = f"line {number}"
        if len(row) != 1:
            raise problem(origin, line, "must hold one number", ",".join(row))
        try:
            sample = float(row[0])
        except ValueError:
            raise problem(origin, line, "is not a number", row[0]) from None
        if not isfinite(sample) or sample <= 0:
            raise problem(origin, line, "must be a finite number above zero", row[0])
        samples.append(sample)
    if len(samples) < 2:
        raise problem(
            origin, "", f"holds {len(samples)} samples; at least 2 are needed to draw from"
        )
    return tuple(samples)


def normalised(samples: tuple[float, ...]) -> tuple[tuple[float, ...], float]:
    """Return samples divided by their mean, and their standard deviation over their mean."""
    mean = sum(samples) / len(samples)
    factors = tuple(sample / mean for sample in samples)
    return factors, (sum((f - 1) ** 2 for f in factors) / len(factors)) ** 0.5
