"""CSV files that a scenario names, as rows of text."""

from __future__ import annotations

import csv
from pathlib import Path

from sim.scenario.errors import Origin, problem
from sim.scenario.reading import read_bytes


def read_rows(path: Path, label: str, content: str) -> list[tuple[int, list[str]]]:
    """Return the rows that are not empty, each with the number of its line, cells stripped.

    Parameters
    ----------
    path, label
        The file, and how messages call it.
    content
        What to write into an empty one.

    Raises
    ------
    ScenarioError
        If it cannot be read, is no text, or has no row.
    """
    origin = Origin(label)
    raw = read_bytes(path, origin, "is a folder, not a CSV file")
    try:
        text = raw.decode("utf-8-sig")
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
        raise problem(origin, "", f"is empty; {content}")
    return rows
