"""What the folder of a study holds: what it is, what is finished so far, the results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.questions.method_text import of_simulator, text_of
from sim.storage import journal, table_files
from sim.storage.files import DamagedError, free_bytes, replacing
from sim.text.visible import guarded_columns
from sim.version import __version__

if TYPE_CHECKING:
    import pandas as pd

    from sim.scenario import Study

PICTURES = ("utilization.png", "utilization.svg")
_PARQUET, _CSV = "results.parquet", "results.csv"
_PROGRESS = "progress.jsonl"
_BYTES_PER_RUN = 4_000  # of progress.jsonl, results.parquet and results.csv together

Rows = list[dict[str, Any]]


class StudyError(Exception):
    """A study cannot be run or resumed as asked."""


def identity_of(study: Study) -> dict[str, str]:
    """Return what a study asks, and what program answers, as two digests and a name.

    The program is the simulator's source text, without what only prints it, and the texts of the
    user's methods (:func:`sim.questions.method_text.text_of`), without what their modules import.
    """
    asked = hashlib.sha256()
    methods = []
    for case in study.cases():
        asked.update(repr((case.labels, case.scenario.sha256)).encode())
        methods.append(case.scenario.method.program)
    asked.update(repr((study.axes, study.grid)).encode())
    return {
        "study": study.name,
        "study_sha256": asked.hexdigest(),
        "program_sha256": program_sha256(methods),
        "version": __version__,
    }


def program_sha256(methods: Iterable[Callable[..., Any]]) -> str:
    """Return a digest of what computes: the simulator's text, and that of the user's methods."""
    own = {(each.__module__, each.__qualname__): each for each in methods}
    digest = hashlib.sha256(_simulator())
    for name in sorted(own):
        if not of_simulator(own[name]):
            digest.update(text_of(own[name]))
    return digest.hexdigest()


@cache
def _simulator() -> bytes:
    package = Path(__file__).parents[1]
    prints = {package / name for name in ("api", "cli", "output")}
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        if not prints & set(path.parents):
            digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.digest()


class StudyFolder:
    """The folder of one study; a command that uses it holds its lock.

    Parameters
    ----------
    path
        It exists.
    identity
        As :func:`identity_of` returns it.
    """

    def __init__(self, path: Path, identity: Mapping[str, str]) -> None:
        self._path = path
        self._identity = dict(identity)

    def results(self) -> pd.DataFrame | None:
        """Return the finished results of this very study; None if there are none.

        Raises
        ------
        StudyError
            If the folder holds those of another study, or of an unknown one.
        DamagedError
            With the file and the column.
        """
        parquet = self._path / _PARQUET
        part = next(self._path.glob("part-*.parquet"), None)
        if part is not None:
            raise StudyError(
                f"{self._path}: holds {part.name} of a study that was run with --backend; "
                "choose another --out"
            )
        if not parquet.exists():
            unknown = [name for name in (_CSV, *PICTURES) if (self._path / name).exists()]
            if unknown and not self._begun():
                raise StudyError(
                    f"{self._path}: holds {' and '.join(unknown)} of a study that is not known "
                    f"({_PARQUET} is missing); choose another --out, or remove them"
                )
            return None
        try:
            note = table_files.note_of_parquet(parquet)
        except table_files.NoNoteError as error:
            raise StudyError(
                f"{parquet}: does not say of which study it is; choose another --out, or remove it"
            ) from error
        self._refuse_other(parquet, "results", note)
        try:
            frame, note = table_files.read_parquet(parquet)
        except DamagedError as error:
            raise DamagedError(f"{error}; remove it to have the study run again") from error
        table_files.restore_parquet(frame, note, parquet)
        if not (self._path / _CSV).exists():
            self._write_csv(frame)
        (self._path / _PROGRESS).unlink(missing_ok=True)
        return frame

    def finished(self, runs: int) -> dict[int, Rows]:
        """Return the rows of the tasks that are finished; begin if there are none.

        Parameters
        ----------
        runs
            In all, for which there must be room.

        Raises
        ------
        StudyError
            If the progress is another study's, or the disk is too full.
        DamagedError
            With the file and the line.
        """
        check_room(self._path, runs)
        log = self._path / _PROGRESS
        if self._begun():
            first, *rest = journal.read(log)
            self._refuse_other(log, "progress", first)
            return {record["task"]: record["rows"] for record in rest}
        journal.append(log, self._identity)
        return {}

    def keep(self, task: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep what a task has given."""
        journal.append(self._path / _PROGRESS, {"task": task, "rows": list(rows)})

    def finish(self, frame: pd.DataFrame) -> None:
        """Write the results; the progress is no longer needed."""
        table_files.write_parquet(frame, self._identity, self._path / _PARQUET)
        self._write_csv(frame)
        (self._path / _PROGRESS).unlink()

    def _write_csv(self, frame: pd.DataFrame) -> None:
        with replacing(self._path / _CSV) as partial:
            guarded_columns(frame).to_csv(partial, index=False)

    def _begun(self) -> bool:
        """Whether the progress file has a first line, of whatever study."""
        log = self._path / _PROGRESS
        if not log.exists():
            return False
        with log.open("rb") as file:
            first = file.readline()
        if not first.endswith(b"\n"):
            return False
        try:
            record = json.loads(first)
        except (ValueError, RecursionError):
            return True  # damaged, which is said when it is read
        if "program_sha256" not in first.decode():
            self._refuse_other(log, "progress", record if isinstance(record, dict) else {})
        return True

    def _refuse_other(self, path: Path, what: str, known: Mapping[str, Any]) -> None:
        if all(known.get(key) == self._identity[key] for key in _DECIDE):
            return
        rule = "choose another --out, or remove that file to begin again"
        if known.get("study_sha256") == self._identity["study_sha256"]:
            raise StudyError(
                f"{path}: holds the {what} of this study by another version of the program "
                f"(bandwise {known.get('version', 'unknown')}, or another text of a method of "
                f"yours); {rule}"
            )
        raise StudyError(
            f"{path}: holds the {what} of another study ({_named(known)}, not "
            f"{_named(self._identity)}); {rule}"
        )


_DECIDE = ("study_sha256", "program_sha256")


def check_room(folder: Path, runs: int, bytes_per_run: float = _BYTES_PER_RUN) -> None:
    """Raise :class:`StudyError` where the results of that many runs do not fit on the disk."""
    needed, free = runs * bytes_per_run, free_bytes(folder)
    if needed > free:
        raise StudyError(
            f"{folder}: {runs} runs need about {needed / 1e6:.3g} MB there, and "
            f"{free / 1e6:.3g} MB are free; make room, or choose another --out"
        )


def _named(identity: Mapping[str, Any]) -> str:
    name, digest = identity.get("study"), str(identity.get("study_sha256", "unknown"))[:12]
    return f'"{name}", {digest}' if name else digest
