"""Any command in a lab: once per worker, each in its own network namespace.

One loop in one thread hands on what the commands print, counts what they send, and waits for
their ends. All processes are the keeper's (:mod:`realrun.lab.keeper`).
"""

from __future__ import annotations

import json
import os
import re
import selectors
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from signal import Signals
from time import monotonic
from typing import IO

from realrun.errors import RunError
from realrun.lab.devices import DEVICE, address
from realrun.lab.run import Lab
from realrun.lab.said import Lines
from realrun.lab.traffic import SAMPLE_S, Traffic
from sim.output.errors import did_you_mean

_GRACE_S = 2.0  # for the others' reasons, after one has failed
_END_S = 10.0  # more than the keeper takes: its grace, twice
_FILLED_IN = ("rank", "address")
_BRACES = re.compile(r"\{(\w+)\}")


@dataclass
class Ended:
    """How a rank's command ended.

    ``status`` as subprocess has it: negative for a signal. ``by_lab`` is whether it was ended
    because another one had failed, or the lab could not continue. ``left`` are names of processes
    that it left behind.
    """

    rank: int
    status: int
    seconds: float
    by_lab: bool = False
    left: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Ran:
    """What became of a command: its end on each rank, and what was sent.

    ``trouble`` is why the lab itself could not continue, if it could not.
    """

    ends: list[Ended]
    traffic: Traffic
    trouble: str | None = None

    @property
    def first_failed(self) -> Ended | None:
        """The rank that failed first."""
        failed = [end for end in self.ends if end.status and not end.by_lab]
        return min(failed, key=lambda end: end.seconds, default=None)


def checked(command: Sequence[str]) -> str:
    """Refuse a command that cannot be started; return a remark on its braces, or "".

    Raises
    ------
    RunError
        One line.
    """
    program = command[0]
    if not program:
        raise RunError("the command after -- is empty: it begins with a program")
    if shutil.which(program) is None:
        if os.path.sep in program and os.path.isdir(program):
            raise RunError(f"{program}: is a folder; a command after -- begins with a program")
        if os.path.sep in program and os.path.exists(program):
            text = f"{program}: is not executable; chmod +x it, or write its interpreter before it"
            raise RunError(text)
        known = ("python", "python3", "torchrun", "realrun", "bash", "sh", "env")
        text = f"{program}: no such command{did_you_mean(program, known)}"
        if os.path.exists(program):
            text = f"{program}: no such command; a file of this folder is written ./{program}"
        raise RunError(text)
    for word in command[1:]:
        for name in _BRACES.findall(word):
            near = did_you_mean(name, _FILLED_IN)
            if name not in _FILLED_IN and near:
                return f"{{{name}}} is not filled in{near}"
    return ""


def filled_in(command: Sequence[str], rank: int) -> list[str]:
    """Return a command with ``{rank}`` and ``{address}`` in its arguments replaced.

    Examples
    --------
    >>> filled_in(["sh", "-c", "echo {rank} {address} ${HOME} {x}"], 1)
    ['sh', '-c', 'echo 1 198.18.0.2 ${HOME} {x}']
    """
    values = {"rank": str(rank), "address": address(rank)}

    def value(found: re.Match[str]) -> str:
        return values.get(found[1], found[0])

    return [_BRACES.sub(value, word) for word in command]


def environment_of(lab: Lab, rank: int, cores: int) -> dict[str, str]:
    """Return the environment of a rank's command.

    Each namespace is a host of its own, with one worker. Threads and buffering are chosen unless
    the user has done it: all workers share this machine's cores, and lines should come when they
    are printed.
    """
    workers = lab.topology.workers
    chosen = {"OMP_NUM_THREADS": str(max(1, cores // workers)), "PYTHONUNBUFFERED": "1"}
    return {
        **chosen,
        **os.environ,
        **lab.environment,
        "RANK": str(rank),
        "WORLD_SIZE": str(workers),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "NCCL_SOCKET_IFNAME": DEVICE,
        "NCCL_HOSTID": f"lab-{rank}",  # else NCCL would pass the network by, in shared memory
    }


def run(lab: Lab, command: Sequence[str], cores: int, *, plain: bool, aside: bool) -> Ran:
    """Run a command once per worker; return how it ended when all of them have.

    If one fails the others are ended: they are given two seconds to fail themselves, then asked
    with SIGTERM, then killed. Nothing that a command has started outlives this call.

    Parameters
    ----------
    command
        A program and its arguments; ``{rank}`` and ``{address}`` are filled in.
    cores
        Of this machine, which the workers share.
    plain
        Whether lines are printed without the rank.
    aside
        Whether their standard output is printed on standard error, too.

    Raises
    ------
    RunError
        If it could not be started.
    BrokenPipeError
        If nobody reads its output any more.
    """
    workers = lab.topology.workers
    with ExitStack() as parts:
        pipes = [[_pipe(parts) for _ in range(2)] for _ in range(workers)]
        namespaces = [namespace.file for namespace in lab.namespaces]
        asked = {
            "namespaces": namespaces,
            "commands": [
                {
                    "arguments": filled_in(command, rank),
                    "environment": environment_of(lab, rank, cores),
                    "output": pipes[rank][0][1],
                    "errors": pipes[rank][1][1],
                }
                for rank in range(workers)
            ],
        }
        writers = [each[1] for both in pipes for each in both]
        keeper = parts.enter_context(_keeper([*namespaces, *writers]))
        for writer in writers:
            os.close(writer)
        running = _Running(lab, command[0], keeper)
        for rank, both in enumerate(pipes):
            for (reader, _), stream in zip(both, _streams(aside=aside), strict=True):
                mark = b"" if plain else b"[%d] " % rank
                running.reads(reader, Lines(stream, mark))
        _wait_for(keeper)
        lab.vary()
        try:
            running.begin(json.dumps(asked).encode() + b"\n")
            return running.to_the_end()
        except BrokenPipeError:
            raise
        except BaseException:
            running.drain()
            raise


def _pipe(parts: ExitStack) -> tuple[int, int]:
    reader, writer = os.pipe()
    parts.callback(os.close, reader)
    return reader, writer


def _streams(*, aside: bool) -> tuple[IO[bytes], IO[bytes]]:
    return (sys.stderr if aside else sys.stdout).buffer, sys.stderr.buffer


@contextmanager
def _keeper(files: Sequence[int]) -> Iterator[subprocess.Popen[bytes]]:
    """Start the keeper; it ends, and all in it, with its standard input."""
    process = subprocess.Popen(
        [sys.executable, "-m", "realrun.lab.keeper"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=files,
        start_new_session=True,  # Ctrl-C is for us
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process
    finally:
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            process.kill()  # with what is left in it
            process.wait()
            process.stdout.close()


def _wait_for(keeper: subprocess.Popen[bytes]) -> None:
    """Wait until the keeper is ready: what varies begins with the commands."""
    assert keeper.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(keeper.stdout.fileno(), 1 << 10)
        if not part:
            raise RunError(_lost(keeper.wait()))
        line += part
    told = json.loads(line)
    if "impossible" in told:
        raise RunError(f"a lab runs commands in a PID namespace of their own: {told['impossible']}")


def _lost(status: int) -> str:
    how = f"was killed by {Signals(-status).name}" if status < 0 else f"ended with {status}"
    return f"the process that keeps the lab's commands {how}, and they with it"


class _Running:
    """The loop: what the commands print, send and end with."""

    def __init__(self, lab: Lab, program: str, keeper: subprocess.Popen[bytes]) -> None:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        self._lab, self._program, self._keeper = lab, program, keeper
        self._orders, self._answers = keeper.stdin, keeper.stdout.fileno()
        self._ends: dict[int, Ended] = {}
        self._said = b""
        self._ending = False
        self._refused = ""
        self._open = selectors.DefaultSelector()
        self._open.register(self._answers, selectors.EVENT_READ, None)

    def reads(self, reader: int, lines: Lines) -> None:
        """Hand on what comes from a pipe."""
        os.set_blocking(reader, False)
        self._open.register(reader, selectors.EVENT_READ, lines)

    def begin(self, asked: bytes) -> None:
        """Tell the keeper what to run."""
        self.traffic = Traffic(self._lab.topology.workers, self._lab.delivered(), monotonic())
        with suppress(BrokenPipeError):  # it ends: its answer says how
            self._orders.write(asked)
            self._orders.flush()

    def to_the_end(self) -> Ran:
        """Wait for all; see that the others end where one has failed."""
        failed_at, trouble = None, None
        while self._turn():
            now = monotonic()
            if failed_at is None and any(end.status for end in self._ends.values()):
                failed_at = now
            if self._refused or (failed_at is not None and now - failed_at >= _GRACE_S):
                self.end()
            if trouble is None and not self._ending and (trouble := self._lab.trouble()):
                self.end()
        self.traffic.sample(self._lab.delivered(), monotonic())
        if self._refused:
            raise RunError(self._refused)
        workers = self._lab.topology.workers
        if len(self._ends) < workers and not self._ending:
            trouble = _lost(self._keeper.wait())
        for rank in range(workers):  # killed with the keeper
            self._ends.setdefault(rank, Ended(rank, -9, self.traffic.seconds, by_lab=True))
        return Ran([self._ends[rank] for rank in range(workers)], self.traffic, trouble)

    def end(self) -> None:
        """Have the keeper end all that it has started."""
        self._ending = True
        with suppress(OSError):
            self._orders.close()

    def drain(self) -> None:
        """End all, and hand on the last that they have to say."""
        self.end()
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Do what there is to do; return whether there is more to come."""
        left = self.traffic.last + SAMPLE_S - monotonic()
        for key, _ in self._open.select(max(0.0, min(left, SAMPLE_S / 4))):
            self._read(key.fd, key.data)
        if monotonic() >= self.traffic.last + SAMPLE_S:
            self.traffic.sample(self._lab.delivered(), monotonic())
        return bool(self._open.get_map())

    def _read(self, reader: int, lines: Lines | None) -> None:
        try:
            part = os.read(reader, 1 << 16)
        except BlockingIOError:
            return
        if lines is not None:
            lines.take(part)
        else:
            self._hear(part)
        if not part:
            self._open.unregister(reader)

    def _hear(self, part: bytes) -> None:
        *whole, self._said = (self._said + part).split(b"\n")
        for line in whole:
            self._note(json.loads(line))

    def _note(self, told: Mapping[str, object]) -> None:
        if "refused" in told:
            self._refused = self._refused or f"{self._program}: {told['refused']}"
        elif "left" in told:
            for rank, name in told["left"]:  # type: ignore[attr-defined]
                self._ends[rank].left.append(name)
        else:
            rank, status = int(told["rank"]), int(told["status"])  # type: ignore[call-overload]
            seconds = float(told["seconds"])  # type: ignore[arg-type]
            self._ends[rank] = Ended(rank, status, seconds, by_lab=self._ending)
