"""The folder of a plan: its tables as CSV, its pictures, and of which question they are.

plan.json is what ``--json`` prints, and says of which question the folder is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.output.answer_folder import AnswerFolder
from sim.output.tables import Column, Report, Table, as_csv, as_json
from sim.questions.study_folder import program_sha256

if TYPE_CHECKING:
    from sim.planning.asked import Asked
    from sim.planning.limits import Limits

_KIND = AnswerFolder("plan", ("settings.csv", "changes.csv", "levers.csv"), ("front", "cost"))
_CHANGES = (
    *("key", "before", "after", "beyond", "compute_utilization", "time_for_tokens_s"),
    *("tokens_per_update", "sent_bytes_per_worker", "typed"),
)


@contextmanager
def writing(
    out: Path | None, asked: Asked, target: float, limits: Limits
) -> Iterator[Callable[[Report], list[str]]]:
    """Yield what writes the report of a plan to a folder and returns the names of its files.

    The folder is made and locked until the end.

    Parameters
    ----------
    out
        The folder; None writes nothing.
    asked, target, limits
        What the plan is of.

    Raises
    ------
    StudyError
        If the folder holds the plan of another question, or files of an unknown one.
    LockedError
        If another process works there.
    """
    if out is None:
        yield lambda report: []
        return
    identity = _identity(asked, target, limits)
    with _KIND.opened(out, identity):
        yield partial(_write, out, identity)


def _identity(asked: Asked, target: float, limits: Limits) -> dict[str, str]:
    bases = sorted((name, base.sha256) for name, base in asked.bases.items())
    question = (asked.given.sha256, bases, sorted(asked.fixed), target, limits)
    programs = [asked.given.method.program, *(b.method.program for b in asked.bases.values())]
    digest = hashlib.sha256(repr(question).encode()).hexdigest()
    return _KIND.identity(digest, program_sha256(programs))


def _write(out: Path, identity: Mapping[str, str], report: Report) -> list[str]:
    """Write all files, plan.json first: what is written after it is known to be of this plan."""
    from sim.output import plan_pictures

    record: Mapping[str, Any] = report.data
    texts = {_KIND.about: as_json({**identity, **record}), "settings.csv": as_csv(report.rows)}
    texts["changes.csv"] = as_csv(_changes(record))
    if record.get("levers"):
        texts["levers.csv"] = as_csv(_levers(record))
    figures = {"front": plan_pictures.front(record)}
    if plan_pictures.priced(record):
        figures["cost"] = plan_pictures.money(record)
    return _KIND.write(out, texts, figures)


def _changes(record: Mapping[str, Any]) -> Table:
    rows = [{**each, "beyond": "; ".join(each["beyond"])} for each in record["changes"]]
    return Table([Column(name, name) for name in _CHANGES], rows)


def _levers(record: Mapping[str, Any]) -> Table:
    from sim.output.lever_lines import COLUMNS

    return Table(COLUMNS, record["levers"])
