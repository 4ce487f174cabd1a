"""Traces that a command writes, and one whose observations it repeats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sim.output.errors import UserError

if TYPE_CHECKING:
    from sim.trace.table import Trace

TRACES = (".parquet", ".csv", ".json", ".json.gz")


def logged(path: Path) -> Trace:
    """Read the trace whose observations are to be repeated.

    Raises
    ------
    UserError
        If the file is not a trace.
    """
    from sim.storage.inputs import check_regular
    from sim.trace.files import load

    check_regular(path)
    try:
        return load(path)
    except ValueError as error:
        raise UserError(f"--replay: {error}") from error
