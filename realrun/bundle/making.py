"""Which commands a bundle runs, what each of them leaves, and when to stop."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from signal import Signals
from typing import Any

from realrun.bundle import machine, packing, predictions
from realrun.bundle.together import Together
from realrun.errors import RunError, ranks
from realrun.validation.archive import about, calibration
from realrun.validation.plan import Planned
from sim.scenario import ScenarioError, Study
from sim.storage import journal
from sim.storage.files import clear_partial, replacing
from sim.storage.locks import locked
from sim.units import format_bytes

_STUDY, _DOCTOR, _HARDWARE = "study.toml", "doctor.json", "hardware.toml"
_PREDICTIONS, _VALIDATION = "predictions.csv", "validation"
_COMMANDS, _VERSIONS = "commands.jsonl", "versions.json"
_BEYOND = 1  # the status of a validation whose error is beyond the study's tolerance
_FACTS = ("bandwise", "python", "torch", "nccl", "gpus", "cores", "memory")  # of doctor's


@dataclass(frozen=True)
class Asked:
    """What is to be bundled."""

    #: The study's file, as it was named, and where it is.
    source: str
    path: Path
    study: Study
    plan: Sequence[Planned]
    #: Where results go; the archive lies next to it.
    folder: Path
    #: Options that all commands take, and those of the commands that measure.
    of_all: Sequence[str]
    of_measuring: Sequence[str]
    timeout_s: float

    @property
    def archive(self) -> Path:
        """The archive's file."""
        return packing.archive_of(self.folder)


def make(asked: Asked, tell: Callable[[str], None]) -> int:
    """Look, calibrate, predict, validate and pack, with all ranks; return the status.

    Parameters
    ----------
    tell
        Called on rank 0 with lines of progress.

    Raises
    ------
    AgreedError
        On every rank, with the line that says why it cannot go on.
    PeerLostError
        If a rank is gone.
    """
    together = Together(asked.timeout_s)
    with ExitStack() as held:
        return _Making(asked, together, tell if together.rank == 0 else lambda text: None).all(held)


class _StoppedError(Exception):
    """A command has failed and said why."""

    def __init__(self, status: int) -> None:
        self.status = status


class _Making:
    def __init__(self, asked: Asked, together: Together, tell: Callable[[str], None]) -> None:
        self._asked, self._together, self._tell = asked, together, tell
        self._folder = asked.folder
        self._machines: list[dict[str, Any]] = []
        self._names: dict[str, str] = {}

    def all(self, held: ExitStack) -> int:
        calibrated = self._begin(held)
        try:
            self._look()
            if not calibrated:
                self._calibrate()
            self._predict()
            status = self._validate()
        except _StoppedError as stopped:
            return stopped.status
        self._pack()
        return status

    # -- in their order --------------------------------------------------------------------
    def _begin(self, held: ExitStack) -> bool:
        """See that all ranks were asked the same; whether the folder has a calibration."""
        own = self._asked.path.read_bytes()
        here = {
            "study": sha256(own).hexdigest(),
            "first": machine.first_here(),
            "versions": machine.versions(),
            "names": machine.names(),
        }
        said = [json.loads(text) for text in self._together.told("here", json.dumps(here))]

        def begin() -> bool:
            others = [rank for rank, each in enumerate(said) if each["study"] != here["study"]]
            if others:
                raise RunError(
                    f"{self._asked.source}: is another file at {ranks(others)}; copy one to all "
                    "machines"
                )
            self._know(said)
            self._folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(self._folder))
            clear_partial(self._folder)
            return self._claimed(own)

        calibrated: bool = self._together.decided("begin", begin)
        return calibrated

    def _know(self, said: Sequence[Mapping[str, Any]]) -> None:
        """Number the machines, each by its first rank."""
        for rank, each in enumerate(said):
            if each["first"]:
                number = len(self._machines) + 1
                self._machines.append(
                    {"machine": f"machine-{number}", "rank": rank, **each["versions"]}
                )
                for name, instead in each["names"].items():
                    named = f"machine-{number}" if instead == machine.NUMBERED else instead
                    self._names.setdefault(name, named)

    def _claimed(self, study: bytes) -> bool:
        """Refuse a folder of something else; whether there is a calibration in it."""
        kept, hardware = self._folder / _STUDY, self._folder / _HARDWARE
        if kept.exists() and kept.read_bytes() != study:
            raise ScenarioError(
                f"--out: {self._folder}: holds results of another study; give another folder, or "
                "remove it"
            )
        if not kept.exists():
            with replacing(kept) as partial:
                partial.write_bytes(study)
        if not hardware.exists():
            (self._folder / _PREDICTIONS).unlink(missing_ok=True)  # they were made from it
            return False
        workers = about(hardware).workers
        if workers != self._together.workers:
            raise ScenarioError(
                f"--out: {self._folder}: holds a calibration of {workers} processes, here are "
                f"{self._together.workers}; give another folder, or remove it"
            )
        self._tell(f"{hardware} is there, and is kept")
        return True

    def _look(self) -> None:
        found = self._folder / _DOCTOR
        statuses = self._run("doctor", [self._asked.source, "--json"], printed=found)

        def look() -> int:
            printed = found.stat().st_size > 0  # an error that was not foreseen has the same status
            failed = self._failed("doctor", statuses, (0, _BEYOND) if printed else (0,))
            if failed:
                return failed
            said = json.loads(found.read_text())
            missing = [line for line in said["problems"] if ": missing: " in line]
            if not said["ready"]:
                more = f" (and {len(missing) - 1} more: {found})" if len(missing) > 1 else ""
                raise RunError(f"doctor: {missing[0]}{more}")
            for line in said["problems"]:
                self._tell(f"doctor: {line}")
            facts = {rank: each for each in said["machines"] for rank in each["ranks"]}
            for own in self._machines:
                own |= {key: facts[own["rank"]][key] for key in _FACTS}
            return 0

        self._go_on("doctor", look)

    def _calibrate(self) -> None:
        modes = {each.mode for each in self._asked.plan}
        only: list[str] = [] if "real" in modes else ["--only", "network"]
        statuses = self._run(
            "calibrate", [self._asked.source, "--out", str(self._folder / _HARDWARE), *only]
        )
        self._go_on("calibrate", lambda: self._failed("calibrate", statuses))

    def _predict(self) -> None:
        path = self._folder / _PREDICTIONS

        def predict() -> int:
            if not path.exists():
                own = [e for e in self._asked.plan if e.workers == self._together.workers]
                self._tell(f"predicting {len(own)} configurations before any of them is run")
                predictions.write(own, calibration(self._folder / _HARDWARE), path)
            return 0

        self._go_on("predict", predict)

    def _validate(self) -> int:
        before = ["--other-calibration", str(self._folder / _HARDWARE)]
        out = self._folder / _VALIDATION
        report = out / "report.md"
        if self._together.rank == 0:
            report.unlink(missing_ok=True)
        statuses = self._run("validate", [self._asked.source, "--out", str(out), *before])

        def validated() -> int:
            # An error that was not foreseen has the same status, and leaves no report.
            return self._failed("validate", statuses, (0, _BEYOND) if report.exists() else (0,))

        self._go_on("validate", validated)
        status: int = self._together.decided("status", lambda: statuses[0])
        return status

    def _pack(self) -> None:
        def pack() -> None:
            commands = journal.read(self._folder / _COMMANDS)
            found = {"machines": self._machines, "commands": commands}
            with replacing(self._folder / _VERSIONS) as partial:
                partial.write_text(json.dumps(found, indent=2) + "\n")
            archive = self._asked.archive
            files = packing.packed(self._folder, archive, self._names)
            size = format_bytes(archive.stat().st_size, 3)
            self._tell(f"wrote {archive}: {len(files)} files, {size}, ready to be shared")

        self._together.decided("pack", pack)

    # -- commands --------------------------------------------------------------------------
    def _run(self, name: str, arguments: Sequence[str], printed: Path | None = None) -> list[int]:
        """Run a command on every rank, and note it; the statuses, on rank 0."""
        asked = self._asked
        more = [*asked.of_all, *(asked.of_measuring if name != "doctor" else [])]
        words = [name, *arguments, *more]
        self._tell(shlex.join(words))
        began = _now()
        statuses = self._together.run(name, words, printed)
        if self._together.rank == 0:
            command = f"realrun {shlex.join(words)}"
            note = {"command": command, "began": began, "ended": _now(), "status": statuses[0]}
            journal.append(self._folder / _COMMANDS, note)
        return statuses

    def _failed(self, name: str, statuses: Sequence[int], fine: Sequence[int] = (0,)) -> int:
        """Return the status of a command that has failed and said why; 0 where it is fine.

        Raises
        ------
        RunError
            Of one that was killed, and so said nothing.
        """
        for rank, status in enumerate(statuses):
            if status < 0:
                raise RunError(f"rank {rank}: {name} was killed by {Signals(-status).name}")
        return next((status for status in statuses if status not in fine), 0)

    def _go_on(self, name: str, decide: Callable[[], int]) -> None:
        """Let rank 0 decide whether to go on: the status with which to stop, or 0."""
        status: int = self._together.decided(name, decide)
        if status:
            raise _StoppedError(status)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
