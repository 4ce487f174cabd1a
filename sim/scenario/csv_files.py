"""CSV files that a scenario names, as rows of text."""

from __future__ import annotations

import csv
from pathlib import Path

from sim.scenario.errors import Origin, problem
from sim.storage.inputs import NotAFileError, read


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
        raise problem(origin, "", f"is empty; {content}")
    return rows
