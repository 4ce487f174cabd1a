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
from math import inf
from pathlib import Path
from time import monotonic, sleep

from realrun.errors import RunError
from realrun.processes.launch import environment_of, on_loopback
from realrun.recording.guard import guarded
from realrun.recording.join import Joined, join
from sim.storage.locks import taken

INSIDE = Path(__file__).parent / "inside"
_ENVIRONMENT = "BANDWISE_RECORDING"
ENOUGH = "enough"  # steps: why a program was ended, where nothing went wrong
_POLL_S = 0.05
_LATE_S = 30.0  # of a process, after another one has ended
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


def record(
    command: Sequence[str],
    nproc: int | None,
    folder: Path,
    most: int | None,
    tell: Callable[[str], None],
) -> Recorded:
    """Run a program until it ends, or until there are enough steps; return what was recorded.

    Parameters
    ----------
    command
        What is run: once, with processes of its own; or ``nproc`` times, as torchrun would.
    folder
        Where the processes write meanwhile.
    most
        After how many steps the program is ended; None: it ends by itself.
    tell
        Takes a line for the user while the program runs.

    Raises
    ------
    RunError
        In one line, if nothing came of it.
    """
    killed, status = "", 0
    environment = dict(os.environ) if nproc is None else {**os.environ, **_on_loopback(nproc)}
    look = _Look(folder, most)
    with _starting(command, folder, environment) as start:
        ranks = [None] if nproc is None else range(nproc)
        processes = [start(rank) for rank in ranks]
        try:
            killed, status = _until_one_fails(processes, look, tell)
        except _EnoughError:
            killed = ENOUGH
    if status and not any(folder.rglob("*.part")):
        raise RunError(f"{killed} before it called a collective; nothing was recorded")
    check_disk(folder)
    return Recorded(join(folder, killed=killed, most=most), status)


def _until_one_fails(
    processes: Sequence[_Process], look: _Look, tell: Callable[[str], None]
) -> tuple[str, int]:
    """Wait for all; return why they did not end well, and a status: "" and 0 where they did.

    torch may hang where a process ends (validation/programs/README.md), so one that others have
    left behind is named, once.
    """
    first_ended: float | None = None
    while True:
        codes = [process.poll() for process in processes]
        failed = [rank for rank, code in enumerate(codes) if code]
        if failed:
            end = monotonic() + _GRACE_S  # for the others to say why
            while monotonic() < end and any(process.poll() is None for process in processes):
                sleep(_POLL_S)
            # One that was killed is the cause; the others fail because it is gone.
            codes = [process.poll() for process in processes]
            killed = [rank for rank, code in enumerate(codes) if code is not None and code < 0]
            rank = (killed or failed)[0]
            code = codes[rank] or 1
            who = f"rank {rank}" if len(processes) > 1 else "the program"
            if code < 0:
                return f"{who} was killed by {signal.Signals(-code).name}", 128 - code
            return f"{who} ended with status {code}", code
        if all(code == 0 for code in codes):
            return "", 0
        if 0 in codes and first_ended is None:
            first_ended = monotonic()
        if first_ended is not None and monotonic() - first_ended >= _LATE_S:
            first_ended, late = inf, codes.index(None)
            tell(
                f"rank {late} still runs {_LATE_S:g} s after rank {codes.index(0)} has ended; if "
                f"it hangs, kill {processes[late].pid} ends it, and what was recorded is kept"
            )
        look()
        sleep(_POLL_S)


def record_rank(command: Sequence[str], folder: Path) -> int:
    """Run one rank of a program that torchrun or a lab has started; return its exit status."""
    own = folder / f"rank-{os.environ['RANK']}"
    ended = _ended(folder, os.environ["RANK"])
    ended.unlink(missing_ok=True)  # of an earlier recording
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    with _starting(command, own, os.environ) as start:
        process = start(None)
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

    def __call__(self) -> None:
        """Look, if it is time to.

        Raises
        ------
        RunError
            Where there are enough steps.
        """
        if self._most is None or monotonic() < self._due:
            return
        steps = 0
        with suppress(RunError):
            steps = int(join(self._folder, killed="not yet").about["steps"])
        if steps >= self._most:
            raise _EnoughError(ENOUGH)
        self._interval *= _LATER
        self._due = monotonic() + self._interval


def check_disk(folder: Path) -> None:
    """Refuse what processes could not write, because there was no room for it."""
    for path in folder.rglob("*.errno-*"):
        number = int(path.suffix.removeprefix(".errno-"))
        raise RunError(
            f"{folder}: {os.strerror(number)}; the recording could not be written while the "
            "program ran: make room, or give --out a place on another disk"
        )


def _on_loopback(nproc: int) -> Mapping[str, str]:
    """Say what torchrun says, and where rank 0 is: at a port that was free just now."""
    with on_loopback() as listening:
        found = environment_of(listening)
    return {
        **found,
        "WORLD_SIZE": str(nproc),
        "LOCAL_WORLD_SIZE": str(nproc),
        **({} if nproc == 1 else {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}),
    }


class _Process(subprocess.Popen[bytes]):
    """A process with all that it has started: they end together."""

    def ask(self, number: int) -> None:
        """Send a signal to all of them."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def left(self) -> bool:
        """Whether any of them is left."""
        self.poll()
        try:
            os.killpg(self.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True


def _end(processes: Sequence[_Process]) -> None:
    """End all at once, or the others would say that one is gone."""
    for process in processes:
        process.ask(signal.SIGTERM)
    end = monotonic() + _GRACE_S
    while any(process.left() for process in processes) and monotonic() < end:
        sleep(_POLL_S)
    for process in processes:
        process.ask(signal.SIGKILL)


Start = Callable[[int | None], _Process]


@contextmanager
def _starting(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> Iterator[Start]:
    """Yield how to start a rank, or a program that says itself who is who (None).

    At the end nothing is left of what was started, nor of what that has started.
    """
    started: list[_Process] = []
    others = environment.get("PYTHONPATH")
    common = {
        **environment,
        "PYTHONPATH": os.pathsep.join([str(INSIDE), *([others] if others else [])]),
        _ENVIRONMENT: str(folder.absolute()),
    }

    def start(rank: int | None) -> _Process:
        own = {} if rank is None else {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        try:
            started.append(_Process(list(command), env={**common, **own}, start_new_session=True))
        except OSError as error:
            why = "no such command" if error.errno == errno.ENOENT else str(error.strerror)
            raise RunError(f"{command[0]}: {why}") from error
        return started[-1]

    with guarded(f"{_ENVIRONMENT}={folder.absolute()}"):  # daemons, too
        try:
            yield start
        finally:
            _end(started)
