"""The workers of one machine, where torchrun has not started them: one process each."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import IO

from realrun.errors import AgreedError, PeerLostError, RunError, of_rank
from realrun.processes.forks import Forks, Worker, can_fork
from realrun.processes.namespaces import enter_in_thread
from sim.processes.signals import end_with

_POLL_S = 0.05
_GRACE_S = 2.0  # for the others' reasons, and then for them to end
_MESSAGES = "REALRUN_MESSAGES"
PARENT = "REALRUNPARENT"
STORE = "REALRUN_STORE"  # of rank 0: the file descriptor of the socket at which it listens
_LOOPBACK = {"linux": "lo", "darwin": "lo0"}  # by platform, as its card is called there
_LAST_PORT = 65535
_CARDS = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@dataclass(frozen=True)
class Handed:
    """What workers inherit of their launcher: open files, and the environment that names them."""

    environment: Mapping[str, str] = field(default_factory=dict)
    files: tuple[int, ...] = ()


Process = subprocess.Popen[bytes] | Worker
Start = Callable[[int, Sequence[str], Mapping[str, str], Sequence[int]], Process]


def launch(
    arguments: Sequence[str],
    workers: int,
    *,
    environment: Mapping[str, str] | None = None,
    handed: Sequence[Handed] = (),
    namespaces: Sequence[int] = (),
    start: Start | None = None,
    trouble: Callable[[], str | None] = lambda: None,
    explained: Callable[[str], str] = str,
    first_rank: int = 0,
    in_all: int | None = None,
) -> int:
    """Run ``python -m realrun`` with the same arguments once per worker; return the status.

    If one fails the others are ended. One line says why: a process that was killed, or the
    first reason that is not merely another one's end.

    Parameters
    ----------
    environment
        For every worker, in place of what is said here of where rank 0 is.
    handed
        What they inherit besides.
    namespaces
        File descriptors of the network namespaces that they enter, by rank; none: all stay here.
    start
        Takes a rank, a command, its environment and the file descriptors that it inherits, and
        starts a worker.
    trouble
        Asked now and then; what it says is why the run cannot continue.
    explained
        Takes the line that says why, and returns what is told.
    first_rank, in_all
        Of several machines: the rank of the first worker here, and how many there are on all.

    Raises
    ------
    RunError
        With that line.
    """
    with ExitStack() as parts:
        # Without a name: nothing to remove, however this process ends.
        messages = parts.enter_context(tempfile.TemporaryFile(buffering=0))
        listening = None
        if environment is None:
            listening = parts.enter_context(on_loopback())
            environment = environment_of(listening)
        common = {
            **os.environ,
            **environment,
            **{key: value for each in handed for key, value in each.environment.items()},
            "WORLD_SIZE": str(in_all or workers),
            "LOCAL_WORLD_SIZE": str(workers),
            _MESSAGES: str(messages.fileno()),
            PARENT: str(os.getpid()),
        }
        command = [sys.executable, "-m", "realrun", *arguments]
        files = [messages.fileno(), *(file for each in handed for file in each.files)]
        if start is None:
            of_first = [] if listening is None else [listening.fileno()]
            start = parts.enter_context(_starting(files, of_first, namespaces))
        processes: list[Process] = []
        try:
            for rank in range(workers):
                own = {**common, "RANK": str(first_rank + rank), "LOCAL_RANK": str(rank)}
                inherited = list(files)
                if rank == 0 and listening is not None:
                    own[STORE] = str(listening.fileno())
                    inherited.append(listening.fileno())
                processes.append(start(rank, command, own, inherited))
                if rank == 0 and listening is not None:
                    listening.close()  # rank 0 has it: where it has ended nobody listens
            failed = _until_one_fails(processes, trouble)
            if failed is None:
                return 0
            ends = {
                rank: process.poll() for rank, process in enumerate(processes, start=first_rank)
            }
        finally:
            _end(processes)
        message = _why(ends, messages)
        if message:
            raise RunError(explained(message))
        which = min(rank for rank, code in ends.items() if code)
        sys.stderr.write(f"realrun: rank {which} ended with status {ends[which]}\n")
        return failed


@contextmanager
def on_loopback() -> Iterator[socket.socket]:
    """Bind a port at which this machine alone can reach rank 0, which is handed the socket.

    Seconds pass until rank 0 listens there. Until then the port is bound: nobody else gets it.

    Raises
    ------
    RunError
        If the environment asks for a port that cannot be had.
    """
    asked = os.environ.get("MASTER_PORT", "0")
    if not asked.isdigit() or int(asked) > _LAST_PORT:
        raise RunError(f"MASTER_PORT={asked}: must be 1 to {_LAST_PORT}; or unset it")
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of an earlier run of ours
        try:
            held.bind(("127.0.0.1", int(asked)))
        except OSError as error:
            used = error.errno == errno.EADDRINUSE
            why = "is in use" if used else f"cannot be had ({error.strerror})"
            raise RunError(
                f"rank 0: port {asked} {why} on this machine; give another MASTER_PORT, or unset it"
            ) from error
        yield held


def environment_of(listening: socket.socket) -> dict[str, str]:
    """Say where rank 0 is, and that all the workers' sockets are to be this machine's alone.

    Network cards that the user has chosen stay.
    """
    host, port = listening.getsockname()
    cards = {key: _LOOPBACK[sys.platform] for key in _CARDS if sys.platform in _LOOPBACK}
    return {
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
        **{key: os.environ.get(key) or card for key, card in cards.items()},
    }


@contextmanager
def _starting(
    files: Sequence[int], of_first: Sequence[int], namespaces: Sequence[int]
) -> Iterator[Start]:
    """Yield how to start a worker: as a fork where that can be, else as a process of its own.

    ``files`` are inherited by all, ``of_first`` by rank 0 alone.
    """

    def place(rank: int) -> int | None:
        return namespaces[rank] if namespaces else None

    def alone(
        rank: int, command: Sequence[str], environment: Mapping[str, str], inherited: Sequence[int]
    ) -> Process:
        def process() -> Process:
            return subprocess.Popen(
                command,
                env=environment,
                start_new_session=True,  # Ctrl-C is for us; we end them
                pass_fds=inherited,
            )

        namespace = place(rank)
        return process() if namespace is None else enter_in_thread(namespace, process)

    if not can_fork():
        yield alone
        return
    with closing(Forks([*files, *of_first, *namespaces])) as forks:

        def forked(
            rank: int,
            command: Sequence[str],
            environment: Mapping[str, str],
            inherited: Sequence[int],
        ) -> Process:
            worker = forks.start(command[3:], environment, place(rank))
            for file in of_first if rank == 0 else ():
                forks.forget(file)
            return worker

        yield forked


def _until_one_fails(processes: Sequence[Process], trouble: Callable[[], str | None]) -> int | None:
    """Wait for all; return the status of the first that failed, some time after it did."""
    while True:
        codes = [process.poll() for process in processes]
        failed = [code for code in codes if code]
        if failed:
            end = monotonic() + _GRACE_S
            while monotonic() < end and any(process.poll() is None for process in processes):
                sleep(_POLL_S)
            return failed[0]
        if all(code == 0 for code in codes):
            return None
        reason = trouble()
        if reason is not None:
            raise RunError(reason)
        sleep(_POLL_S)


def _end(processes: Sequence[Process]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    end = monotonic() + _GRACE_S
    for process in processes:
        try:
            process.wait(timeout=max(0.0, end - monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _why(ends: dict[int, int | None], messages: IO[bytes]) -> str:
    # One that aborts may have lost a peer: it is named only where nothing else killed one.
    killed = [(rank, -code) for rank, code in ends.items() if code is not None and code < 0]
    for rank, number in sorted(killed, key=lambda end: end[1] == signal.SIGABRT):
        return (
            f"rank {rank} was killed by {signal.Signals(number).name}; the other workers were ended"
        )
    messages.seek(0)
    said = sorted(json.loads(line) for line in messages.read().splitlines())
    if not said:
        return ""
    _, _, rank, text, agreed = said[0]
    alike = agreed or (len(said) == len(ends) and len({text for *_, text, _ in said}) == 1)
    return text if alike else of_rank(rank, text)


def report(error: Exception, line: str, rank: int) -> bool:
    """Tell the launcher why this worker ends; False if there is none to tell."""
    messages = os.environ.get(_MESSAGES)
    if messages is None:
        return False
    # First what is not merely another one's end, then what was first, then by rank.
    order = getattr(error, "order", 0)
    said = [isinstance(error, PeerLostError), order, rank, line, isinstance(error, AgreedError)]
    # One write: workers share the file.
    try:
        os.write(int(messages), json.dumps(said).encode() + b"\n")
    except OSError:
        return False
    return True


def end_with_parent() -> None:
    """End this worker when the process that launched it is gone, however it went."""
    parent = os.environ.get(PARENT)
    if parent is not None:
        end_with(int(parent))
