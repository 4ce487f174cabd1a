"""The folder of a comparison: its table and levers as CSV, its picture, and what it is of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sim.output.answer_folder import AnswerFolder
from sim.output.tables import Report, Table, as_csv, as_json
from sim.questions.study_folder import program_sha256

if TYPE_CHECKING:
    from sim.records.scenario import Scenario

_KIND = AnswerFolder("comparison", ("table.csv", "levers.csv"), ("comparison",))


@contextmanager
def writing(
    out: Path | None, cases: Mapping[str, Scenario], *, tuned: bool = False
) -> Iterator[Callable[[Report], list[str]]]:
    """Yield what writes the report of a comparison to a folder and returns its files' names.

    Parameters
    ----------
    out
        The folder; None writes nothing.
    cases
        Method -> its scenario, as it was asked for.
    tuned
        Whether each method gets its own best setting.

    Raises
    ------
    StudyError
        If the folder holds another comparison, or files of an unknown one.
    LockedError
        If another process works there.
    """
    if out is None:
        yield lambda report: []
        return
    question = (sorted((name, case.sha256) for name, case in cases.items()), tuned)
    digest = hashlib.sha256(repr(question).encode()).hexdigest()
    programs = [case.method.program for case in cases.values()]
    identity = _KIND.identity(digest, program_sha256(programs))
    folder = out

    def write(report: Report) -> list[str]:
        from sim.output.lever_lines import COLUMNS
        from sim.output.pictures import comparison

        texts = {
            _KIND.about: as_json({**identity, **report.data}),
            "table.csv": as_csv(report.rows),
        }
        if report.data.get("levers"):
            texts["levers.csv"] = as_csv(Table(COLUMNS, report.data["levers"]))
        return _KIND.write(folder, texts, {"comparison": comparison(report.data["methods"])})

    with _KIND.opened(out, identity):
        yield write
