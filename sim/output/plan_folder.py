"""The folder of a plan: its tables as CSV, its pictures, and of which question they are.

plan.json is what ``--json`` prints, with two digests: what was asked, and what computed it. A
folder that holds the plan of another question is refused before the search, so that old tables
never stand next to new pictures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.output.tables import Column, Report, Table, as_csv, as_json
from sim.questions.study_folder import StudyError, program_sha256
from sim.storage.files import clear_partial, replacing
from sim.storage.locks import locked

if TYPE_CHECKING:
    from sim.planning.asked import Asked
    from sim.planning.limits import Limits

_ABOUT = "plan.json"
_TABLES = ("settings.csv", "changes.csv", "levers.csv")
_PICTURES = ("front.png", "front.svg", "cost.png", "cost.svg")
_DECIDE = ("plan_sha256", "program_sha256")
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
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        clear_partial(out)
        _refuse_other(out, identity)
        yield partial(_write, out, identity)


def _identity(asked: Asked, target: float, limits: Limits) -> dict[str, str]:
    bases = sorted((name, base.sha256) for name, base in asked.bases.items())
    question = (asked.given.sha256, bases, sorted(asked.fixed), target, limits)
    programs = [asked.given.method.program, *(b.method.program for b in asked.bases.values())]
    return {
        "plan_sha256": hashlib.sha256(repr(question).encode()).hexdigest(),
        "program_sha256": program_sha256(programs),
    }


def _refuse_other(out: Path, identity: Mapping[str, str]) -> None:
    about = out / _ABOUT
    if not about.exists():
        unknown = [name for name in (*_TABLES, *_PICTURES) if (out / name).exists()]
        if unknown:
            raise StudyError(
                f"{out}: holds {' and '.join(unknown)} of a plan that is not known ({_ABOUT} is "
                "missing); choose another --out, or remove them"
            )
        return
    try:
        known = json.loads(about.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        known = None
    rule = "choose another --out, or remove that file"
    if not isinstance(known, dict):
        raise StudyError(f"{about}: does not say of which plan it is; {rule}")
    if all(known.get(key) == identity[key] for key in _DECIDE):
        return
    if known.get("plan_sha256") == identity["plan_sha256"]:
        raise StudyError(
            f"{about}: holds this plan by another version of the program (bandwise "
            f"{known.get('version', 'unknown')}, or another text of a method of yours); {rule}"
        )
    raise StudyError(f"{about}: holds the plan of another question; {rule}")


def _write(out: Path, identity: Mapping[str, str], report: Report) -> list[str]:
    """Write all files, plan.json first: what is written after it is known to be of this plan."""
    from sim.figures.plots import save
    from sim.output import plan_pictures

    record: Mapping[str, Any] = report.data
    texts = {_ABOUT: as_json({**identity, **record}), "settings.csv": as_csv(report.rows)}
    texts["changes.csv"] = as_csv(_changes(record))
    if record.get("levers"):
        texts["levers.csv"] = as_csv(_levers(record))
    for name, text in texts.items():
        with replacing(out / name) as partial_file:
            partial_file.write_text(f"{text}\n", encoding="utf-8")
    figures = {"front": plan_pictures.front(record)}
    if plan_pictures.priced(record):
        figures["cost"] = plan_pictures.money(record)
    drawn = [f"{name}.{kind}" for name in figures for kind in ("png", "svg")]
    for name in drawn:
        save(figures[Path(name).stem], out / name)
    written = [*texts, *drawn]
    for name in {*_TABLES, *_PICTURES} - {*written}:  # of a run with other options for output
        (out / name).unlink(missing_ok=True)
    return written


def _changes(record: Mapping[str, Any]) -> Table:
    rows = [{**each, "beyond": "; ".join(each["beyond"])} for each in record["changes"]]
    return Table([Column(name, name) for name in _CHANGES], rows)


def _levers(record: Mapping[str, Any]) -> Table:
    from sim.output.lever_lines import COLUMNS

    return Table(COLUMNS, record["levers"])
