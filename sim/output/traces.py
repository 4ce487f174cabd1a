"""Traces that a command writes, and one whose observations it repeats."""

from __future__ import annotations

from collections.abc import Sequence
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


def ranks_asked(text: str, workers: int) -> list[int]:
    """Read the workers whose rows are to be written: "0,17".

    Raises
    ------
    UserError
        If one of them is no worker of the run.
    """
    ranks = []
    for word in text.split(","):
        if not word.strip().isdecimal() or int(word) >= workers:
            raise UserError(
                f'--trace-ranks: "{word.strip()}" is no worker; they are 0 to {workers - 1}, '
                "several with commas between"
            )
        ranks.append(int(word))
    return ranks


def written(trace: Trace, path: Path, ranks: Sequence[int] | None) -> str:
    """Write a trace: the rows of some ranks, or all of them, or of a large run by class.

    Returns
    -------
    str
        What to say of it in addition to its name.

    Raises
    ------
    UserError
        If it is a timeline of thousands of workers.
    """
    from sim.trace.classes import of_ranks, save_by_class
    from sim.trace.files import save

    if ranks is not None:
        save(of_ranks(trace, ranks), path)
        return f", the rows of {len(set(ranks))} of {trace.workers:,} workers"
    if trace.packed is None:
        save(trace, path)
        return ""
    if path.suffix in (".json", ".gz"):
        raise UserError(
            f"--trace {path}: a timeline of {trace.workers:,} workers; name some of them with "
            "--trace-ranks, like --trace-ranks 0,1"
        )
    save_by_class(trace, path)
    return f", by class of the {trace.workers:,} workers; --trace-ranks has the rows of some"
