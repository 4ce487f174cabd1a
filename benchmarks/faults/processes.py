"""Running a command so that everything it starts and leaves can be found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

_MARK = "BANDWISE_FAULTS"
_PATIENCE_S = 300.0
GONE_S = 5.0  # after which no process may be left


@dataclass
class Ended:
    """How a command ended: its status, standard error, and seconds; what is left of it."""

    status: int
    said: list[str]
    seconds: float
    disturbed: bool = False
    processes: int = 0
    files: tuple[str, ...] = ()

    @property
    def errors(self) -> list[str]:
        """Lines that tell of an error or an end."""
        marks = ("bandwise: ", "realrun: ")
        told = [line for line in self.said if line.startswith(marks)]
        ends = ("error:", "ended by", "interrupted", "warning:")
        return [line for line in told if any(end in line for end in ends)]

    @property
    def traceback(self) -> bool:
        """Whether anything was said that is not for a user."""
        words = ("Traceback", "Error:", "resource_tracker", "leaked", "Exception ignored")
        return any(word in line for line in self.said for word in words)


def run(
    folder: Path, words: tuple[str, ...], number: int | None = None, after_s: float = 0.0
) -> Ended:
    """Run a command in a folder; after some seconds send it a signal, if it still runs."""
    mark, temporary = uuid4().hex, folder / "tmp"
    temporary.mkdir(exist_ok=True)
    shared = _listed(Path("/dev/shm"))
    program = Path(sys.executable).with_name(words[0])
    environment = {**os.environ, _MARK: mark, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    began = monotonic()
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [str(program), *words[1:]],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        disturbed = False
        if number is not None:
            try:
                process.wait(after_s)
            except subprocess.TimeoutExpired:
                process.send_signal(number)
                disturbed = True
        try:
            status = process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
    seconds = monotonic() - began
    lines = (folder / "said").read_text(errors="replace").splitlines()
    left = _left(mark, 1.0 if number == signal.SIGTERM else GONE_S)
    new = [f"/dev/shm/{name}" for name in _listed(Path("/dev/shm")) - shared]
    new += [f"TMPDIR/{name}" for name in _listed(temporary) if not name.startswith("torch")]
    return Ended(status, lines, seconds, disturbed, left, tuple(sorted(new)))


def _left(mark: str, patience_s: float) -> int:
    """Count the processes that are left after some seconds; end them."""
    end = monotonic() + patience_s
    while (left := _marked(mark)) and monotonic() < end:
        sleep(0.05)
    for process in left:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return len(left)


def _marked(mark: str) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{_MARK}={mark}".encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def _listed(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()
