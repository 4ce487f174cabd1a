"""Studies that outgrow one machine: cases made where they are run, results in parts.

A part is a Parquet file of a thousand runs in the order of the cases, written once all of them are
there. So what an engine returns in any order gives the same bytes on every engine, and as much is
in memory for a million runs as for ten thousand. A study that was interrupted continues with the
parts that are missing, on any engine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sim.processes.engines import Engine
from sim.questions.replications import predicted
from sim.questions.study import at_rate, framed, row, send_whole
from sim.questions.study_folder import (
    Rows,
    StudyError,
    check_room,
    identity_of,
    program_sha256,
)
from sim.scenario.cases import Case, GeneratedCases
from sim.storage import table_files
from sim.storage.locks import locked
from sim.version import __version__

if TYPE_CHECKING:
    from sim.scenario import Study

RUNS_OF_A_PART = 1_000
_RUNS_OF_A_TASK = 20  # large enough to send away, small enough to lose
_BYTES_PER_RUN = 500  # of a part
_OTHERS = ("results.parquet", "results.csv", "progress.jsonl")


@dataclass(frozen=True)
class _Task:
    """Runs ``begin`` .. ``end - 1`` of a study; those of its cases come one after the other."""

    begin: int
    end: int
    #: All cases, if they are generated, else those from ``first`` on that the task needs.
    cases: Sequence[Case]
    first: int
    grid: tuple[float | None, ...]


def _run(task: _Task) -> tuple[int, Rows]:
    rows: Rows = []
    place, case = -1, None
    for number in range(task.begin, task.end):
        at, point = divmod(number, len(task.grid))
        if at != place or case is None:
            place, case = at, task.cases[at - task.first]
        labels, scenario = at_rate(case.scenario, task.grid[point])
        rows.append(row({**case.labels, **labels}, scenario, predicted(scenario)))
    return task.begin, rows


def stream(
    study: Study,
    out: Path,
    engine: Engine,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    tell: Callable[[str], None] = lambda line: None,
) -> int:
    """Run every case of a study (at every point of its grid), and write parts into ``out``.

    Parameters
    ----------
    study
        Base, axes and grid.
    out
        Folder, made if it does not exist. The parts are ``part-000000.parquet`` and so on.
    engine
        What runs the cases (:mod:`sim.processes.engines`).
    on_progress
        Called with runs done and runs in all.
    tell
        Called with a line that says what was found in ``out``.

    Returns
    -------
    int
        The number of runs.

    Raises
    ------
    StudyError
        If ``out`` holds something else, or the disk is too full.
    DamagedError
        If a part is not as it was written.
    LockedError
        If another process works in ``out``.
    EngineError
        If the engine gives up.
    """
    total = len(study.combinations) * len(study.grid or (None,))
    identity = {**_identity(study), "runs": str(total)}
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        parts = range(-(-total // RUNS_OF_A_PART))
        missing = [part for part in parts if not _there(out, part, identity)]
        done = total - sum(len(_runs_of(part, total)) for part in missing)
        check_room(out, total - done, _BYTES_PER_RUN)
        if done:
            others = "the others are computed" if missing else "nothing is left to compute"
            tell(f"{out} holds {done} finished runs of {total}; {others}")
        on_progress(done, total)
        send_whole(study.base)
        found: dict[int, dict[int, Rows]] = {part: {} for part in missing}
        tasks = _tasks(study, missing, total)
        with closing(_each(engine(_run, tasks))) as results:
            for begin, rows in results:
                part = begin // RUNS_OF_A_PART
                found[part][begin] = rows
                done += len(rows)
                if sum(map(len, found[part].values())) == len(_runs_of(part, total)):
                    note = {**identity, "part": str(part)}
                    table_files.write_parquet(framed(found.pop(part)), note, _path(out, part))
                on_progress(done, total)
    return total


def _each(results: Iterator[tuple[int, Rows]]) -> Generator[tuple[int, Rows], None, None]:
    yield from results


def _tasks(study: Study, parts: Sequence[int], total: int) -> Iterator[_Task]:
    cases = study.combinations
    grid: tuple[float | None, ...] = study.grid or (None,)
    for part in parts:
        runs = _runs_of(part, total)
        for begin in runs[::_RUNS_OF_A_TASK]:
            end = min(begin + _RUNS_OF_A_TASK, runs.stop)
            if isinstance(cases, GeneratedCases):
                yield _Task(begin, end, cases, 0, grid)
                continue
            first, last = begin // len(grid), (end - 1) // len(grid)
            some = cases[first : last + 1]
            for case in some:
                send_whole(case.scenario)
            yield _Task(begin, end, some, first, grid)


def _runs_of(part: int, total: int) -> range:
    return range(part * RUNS_OF_A_PART, min((part + 1) * RUNS_OF_A_PART, total))


def _path(out: Path, part: int) -> Path:
    return out / f"part-{part:06}.parquet"


def _there(out: Path, part: int, identity: dict[str, str]) -> bool:
    """Whether a part is finished; what is of another study is refused."""
    for name in _OTHERS:
        if (out / name).exists():
            raise StudyError(
                f"{out}: holds {name} of a study that was run without --backend; "
                "choose another --out"
            )
    path = _path(out, part)
    if not path.exists():
        return False
    try:
        _, note = table_files.read_parquet(path)
    except table_files.NoNoteError as error:
        raise StudyError(f"{path}: is no part of a study; choose another --out") from error
    if any(note.get(key) != value for key, value in identity.items()):
        raise StudyError(
            f"{path}: is of another study, or of another version of the program; choose another "
            "--out, or remove it"
        )
    return True


def _identity(study: Study) -> dict[str, str]:
    """As :func:`identity_of`, without making every case of a study whose cases are generated."""
    cases = study.combinations
    if not isinstance(cases, GeneratedCases):
        return identity_of(study)
    asked = hashlib.sha256(study.base.sha256.encode())
    for axis in cases.axes:
        for point in axis.points:
            changes = [(change.path, repr(change.given.value)) for change in point.changes]
            asked.update(repr((axis.name, point.label, changes)).encode())
    return {
        "study": study.name,
        "study_sha256": asked.hexdigest(),
        "program_sha256": program_sha256([study.base.method.program]),
        "version": __version__,
    }
