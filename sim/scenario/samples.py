"""Measured times of micro-batches, for empirical jitter."""

from __future__ import annotations

import csv
from math import isfinite
from pathlib import Path

from sim.scenario.errors import Origin, problem
from sim.storage.inputs import NotAFileError, read

_HEADERS = ("seconds", "factor")


def read_samples(path: Path, label: str) -> tuple[float, ...]:
    """Read a CSV file with one column, "seconds" or "factor"; only the ratios matter."""
    origin = Origin(label)
    try:
        text = read(path).decode("utf-8-sig")
    except FileNotFoundError:
        raise problem(origin, "", "no such file") from None
    except IsADirectoryError:
        raise problem(origin, "", "is a folder, not a CSV file") from None
    except NotAFileError as error:
        raise problem(origin, "", str(error.strerror)) from None
    except OSError as error:
        raise problem(origin, "", f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise problem(origin, "", "is not a text file; a CSV file is expected") from None
    if "\0" in text:
        raise problem(origin, "", "is not a text file; a CSV file is expected")
    rows = [
        (number, [cell.strip() for cell in row])
        for number, row in enumerate(csv.reader(text.splitlines()), start=1)
        if any(cell.strip() for cell in row)
    ]
    if not rows:
        raise problem(origin, "", 'is empty; write a line "seconds" and one time per line')
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
