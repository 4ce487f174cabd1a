"""Starts the program that is recorded, watches it, and makes a recording of what it leaves."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from realrun.errors import RunError
from realrun.processes.launch import environment_of, launch, on_loopback
from realrun.recording.join import Joined, join
from sim.storage.locks import taken

INSIDE = Path(__file__).parent / "inside"
_ENVIRONMENT = "BANDWISE_RECORDING"
_OF_A_WORKER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_LAUNCHED = ("REALRUN_MESSAGES", "REALRUNPARENT", "REALRUN_STORE")
_POLL_S = 0.05
_GRACE_S = 2.0  # for processes to end by themselves
_FIRST_LOOK_S = 1.0  # at the steps that have been recorded; later ones at longer intervals
_LATER = 1.5


@dataclass(frozen=True)
class Recorded:
    """What was recorded, and how the program ended."""

    joined: Joined
    #: The program's exit status; 0 where it was ended because there were enough steps.
    status: int


class _EnoughError(RunError):
    """There are as many steps as were asked for."""


def found(command: str) -> bool:
    """Whether a command exists: a path that can be executed, or a name on PATH."""
    return shutil.which(command) is not None


def record(command: Sequence[str], nproc: int | None, folder: Path, most: int | None) -> Recorded:
    """Run a program until it ends, or until there are enough steps; return what was recorded.

    Parameters
    ----------
    command
        What is run: once, with processes of its own; or ``nproc`` times, as torchrun would.
    folder
        Where the processes write meanwhile.
    most
        After how many steps the program is ended; None: it ends by itself.

    Raises
    ------
    RunError
        In one line, if nothing came of it.
    """
    status, killed = 0, ""
    look = _Look(folder, most)
    try:
        with _starting(command, folder, alone=nproc is None) as start:
            environment = {} if nproc is None else _on_loopback()
            status = launch(command, nproc or 1, environment=environment, start=start, trouble=look)
    except _EnoughError:
        killed = "enough"
    except RunError as error:
        killed, status = str(error), 1
    if status and not killed:
        killed = f"the program ended with status {status}"
    if status and not any(folder.rglob("*.part")):
        raise RunError(f"{killed}, before it called a collective; nothing was recorded")
    check_disk(folder)
    return Recorded(join(folder, killed=killed, most=most), status)


def record_rank(command: Sequence[str], folder: Path) -> int:
    """Run one rank of a program that torchrun or a lab has started; return its exit status."""
    own = folder / f"rank-{os.environ['RANK']}"
    ended = _ended(folder, os.environ["RANK"])
    ended.unlink(missing_ok=True)  # of an earlier recording
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    with _starting(command, own, alone=False) as start:
        process = start(0, command, dict(os.environ), [])
        while (status := process.poll()) is None:
            sleep(_POLL_S)
    return int(status)


def last_of_all(folder: Path, rank: str, workers: int, status: int) -> list[int] | None:
    """Note that a rank has ended; return the statuses of all ranks if it was the last one.

    Of ranks that end at once, one is the last: they take turns with a lock on the folder.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        while not taken(handle):
            sleep(_POLL_S)
        _ended(folder, rank).write_text(str(status))
        found = [_ended(folder, str(each)) for each in range(workers)]
        if not all(each.exists() for each in found):
            return None
        return [int(each.read_text()) for each in found]
    finally:
        os.close(handle)


def _ended(folder: Path, rank: str) -> Path:
    return folder / f"ended-{rank}"


class _Look:
    """Looks now and then whether enough steps have been recorded."""

    def __init__(self, folder: Path, most: int | None) -> None:
        self._folder, self._most = folder, most
        self._due = monotonic() + _FIRST_LOOK_S
        self._interval = _FIRST_LOOK_S

    def __call__(self) -> str | None:
        """Return nothing.

        Raises
        ------
        RunError
            Where there are enough steps.
        """
        if self._most is None or monotonic() < self._due:
            return None
        steps = 0
        with suppress(RunError):
            steps = int(join(self._folder, killed="not yet").about["steps"])
        if steps >= self._most:
            raise _EnoughError("enough")
        self._interval *= _LATER
        self._due = monotonic() + self._interval
        return None


def check_disk(folder: Path) -> None:
    """Refuse what processes could not write, because there was no room for it."""
    for path in folder.rglob("*.errno-*"):
        number = int(path.suffix.removeprefix(".errno-"))
        raise RunError(
            f"{folder.parent}: {os.strerror(number)}; the recording could not be written while the "
            "program ran: make room, or give --out a place on another disk"
        )


def _on_loopback() -> Mapping[str, str]:
    """Say where rank 0 is to be found: at a port that was free just now, which it binds itself."""
    with on_loopback() as listening:
        return environment_of(listening)


class _Process(subprocess.Popen[bytes]):
    """A process with all that it has started: they end together."""

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)
        end = monotonic() + _GRACE_S
        while self._left() and monotonic() < end:
            self.poll()
            sleep(_POLL_S)
        self._signal(signal.SIGKILL)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _left(self) -> bool:
        try:
            os.killpg(self.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True


Start = Callable[[int, Sequence[str], Mapping[str, str], Sequence[int]], _Process]


@contextmanager
def _starting(command: Sequence[str], folder: Path, *, alone: bool) -> Iterator[Start]:
    """Yield how to start a rank; at the end nothing is left of those that were started."""
    started: list[_Process] = []

    def start(
        rank: int, _: Sequence[str], environment: Mapping[str, str], inherited: Sequence[int]
    ) -> _Process:
        own = {key: value for key, value in environment.items() if key not in _LAUNCHED}
        if alone:  # it says itself who is who
            own = {key: value for key, value in own.items() if key not in _OF_A_WORKER}
        others = os.environ.get("PYTHONPATH")
        own["PYTHONPATH"] = os.pathsep.join([str(INSIDE), *([others] if others else [])])
        own[_ENVIRONMENT] = str(folder.absolute())
        if int(own.get("WORLD_SIZE", "1")) > 1:
            own.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does
        try:
            started.append(_Process(list(command), env=own, start_new_session=True))
        except OSError as error:
            why = "no such command" if error.errno == errno.ENOENT else str(error.strerror)
            raise RunError(f"{command[0]}: {why}") from error
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            process.terminate()
