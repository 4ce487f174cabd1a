"""What a validation keeps: a line per run, traces, a calibration per launch of workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from realrun.validation.plan import Planned
from sim.operations import RENAMED_CAUSES
from sim.records.identity import SCHEMA, sha256_of_schema_0
from sim.scenario.errors import Origin, path_shown, problem
from sim.scenario.fields import AtLeastOne, Text
from sim.scenario.hardware import Calibration, Hardware, read_hardware
from sim.scenario.reading import read_toml
from sim.scenario.tables import checked
from sim.storage import journal
from sim.storage.files import clear_partial

Record = dict[str, Any]
_RUNS, _TRACES = "runs.jsonl", "traces"


def tidy(folder: Path) -> None:
    """Remove what processes that were killed in the middle of a file have left."""
    for each in (folder, folder / _TRACES):
        clear_partial(each)


def record(folder: Path, each: Planned, repeat: int, content: Record) -> None:
    """Add a run's record."""
    identity = {
        "run": each.number,
        "repeat": repeat,
        "name": each.name,
        "sha256": each.case.sha256,
        "sha256_schema": SCHEMA,
        "train": each.sections.train.model_dump(exclude_none=True),
        "rounds_asked": each.scenario.run.rounds,
    }
    journal.append(folder / _RUNS, {**identity, **content})


def belongs(each: Planned, kept: Record) -> bool:
    """Whether a record is of this configuration, as it is now.

    A record that names no schema of its hash is of schema 0.
    """
    train = each.sections.train.model_dump(exclude_none=True)
    schema = kept.get("sha256_schema", 0)
    sha256 = sha256_of_schema_0(each.case) if schema == 0 else each.case.sha256
    now = each.name, sha256, each.scenario.run.rounds, train
    return (kept["name"], kept["sha256"], kept["rounds_asked"], kept.get("train", train)) == now


def trace_file(folder: Path, each: Planned) -> Path:
    """Return where the trace of a configuration's first run is."""
    return folder / _TRACES / f"{each.number:03}.parquet"


def calibration_files(folder: Path, workers: int) -> list[Path]:
    """Return the hardware files of all launches with that many workers, in their order.

    A hardware file in place of a folder is the only one.
    """
    if folder.is_file():
        return [folder]
    found = folder.glob(f"calibration-{workers}-launch-*.toml")
    return sorted(found, key=lambda path: int(path.stem.rpartition("-")[2]))


def next_calibration_file(folder: Path, workers: int) -> Path:
    """Return where a new launch puts its own."""
    return (
        folder / f"calibration-{workers}-launch-{len(calibration_files(folder, workers)) + 1}.toml"
    )


def calibration(path: Path) -> Hardware:
    """Read the hardware file of a launch."""
    return read_hardware(path.resolve(), path.name)


class Conditions(Calibration):
    """[calibration] of a hardware file: where, when and with what it was measured."""

    time: Text
    device: Text
    system: Text
    backend: Text
    cores: AtLeastOne
    workers: AtLeastOne
    workers_on_a_machine: AtLeastOne | None = None
    versions: dict[str, Text]


def about(path: Path) -> Conditions:
    """Return what a hardware file says of its measurement.

    Raises
    ------
    ScenarioError
        With the file and the key that is missing or not what it must be.
    """
    label = path_shown(path)
    found = read_toml(path, label).get("calibration")
    if not isinstance(found, dict):
        raise problem(Origin(label), "calibration", "a hardware file has a table [calibration]")
    return checked(Conditions, found, Origin(label), "calibration")


class Launch:
    """What one launch of workers measured of machine and network; its file is read when asked."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def hardware(self) -> Hardware:
        """The measurements."""
        return calibration(self._path)

    @cached_property
    def conditions(self) -> Conditions:
        """Where, when and with what they were made."""
        return about(self._path)


@dataclass(frozen=True)
class Measured:
    """A configuration that was run, with the records of its runs in their order.

    ``launch`` calibrated the last of these runs; the configuration is predicted from it.
    """

    planned: Planned
    runs: list[Record]
    launch: Launch


def _renamed(kept: Record) -> Record:
    if "seconds" not in kept:
        return kept
    seconds = {RENAMED_CAUSES.get(was, was): s for was, s in kept["seconds"].items()}
    return {**kept, "seconds": seconds}


class Archive:
    """A validation's folder as it is now: every file is read when it is first asked for, once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._launches: dict[Path, Launch] = {}

    @cached_property
    def records(self) -> dict[tuple[int, int], Record]:
        """Every run's record by configuration and repeat.

        A last line that was broken off is a run that has not been made.

        Raises
        ------
        DamagedError
            Naming the file and the line that is not as it was written.
        """
        return {(each["run"], each["repeat"]): _renamed(each) for each in self._lines}

    @cached_property
    def _lines(self) -> list[Record]:
        return journal.read(self.folder / _RUNS)

    def seal(self) -> None:
        """Give records of an earlier version their digests, before more are added."""
        journal.seal(self.folder / _RUNS, self._lines)

    def measured(self, plan: Sequence[Planned], repeats: int) -> list[Measured]:
        """Return the configurations of a plan of which a run is recorded."""
        found = []
        for each in plan:
            wanted = [(each.number, repeat) for repeat in range(repeats)]
            runs = [self.records[key] for key in wanted if key in self.records]
            if runs:
                launch = self._launch(self.folder / str(runs[-1]["calibration"]))
                found.append(Measured(each, runs, launch))
        return found

    def launches(self, workers: int) -> list[Launch]:
        """Return all launches with that many workers, in their order."""
        return [self._launch(path) for path in calibration_files(self.folder, workers)]

    def _launch(self, path: Path) -> Launch:
        if path not in self._launches:
            self._launches[path] = Launch(path)
        return self._launches[path]
