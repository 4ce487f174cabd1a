"""Workers as forks of one process that has imported torch: many cost little more than one.

Importing torch takes seconds of a core and a quarter of a GiB. Where workers share a machine, a
process (:mod:`realrun.cli.fork_server`) imports it once and forks, which its memory pages survive.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from realrun.errors import RunError

SOCKET = "REALRUN_ORDERS"  # the file descriptor at which the server is told what to start
LAUNCHER = "REALRUN_LAUNCHER"  # the launcher's process
_POLL_S = 0.02
_DRIVERS = ("/proc/driver/nvidia", "/dev/kfd")  # a GPU may not be in use where a process forks


def can_fork() -> bool:
    """Whether workers can be forks here: on Linux, without a GPU."""
    return sys.platform == "linux" and not any(Path(each).exists() for each in _DRIVERS)


class Forks:
    """A server, and the workers that it has started; they end with it.

    Parameters
    ----------
    files
        File descriptors that any worker will inherit.
    """

    def __init__(self, files: Sequence[int]) -> None:
        self._here, there = socket.socketpair()
        with there:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "realrun.cli.fork_server"],
                env={
                    **os.environ,
                    SOCKET: str(there.fileno()),
                    LAUNCHER: str(os.getpid()),
                },
                pass_fds=[there.fileno(), *files],
                start_new_session=True,  # Ctrl-C is for the launcher, which ends the workers
            )
        self._said = b""
        self._statuses: dict[int, int] = {}

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        namespace: int | None = None,
    ) -> Worker:
        """Start ``python -m realrun`` with these arguments.

        Parameters
        ----------
        environment
            All of it.
        namespace
            File descriptor of the network namespace that it enters, or None.

        Raises
        ------
        RunError
            If the server has ended.
        """
        order = {
            "arguments": list(arguments),
            "environment": dict(environment),
            "namespace": namespace,
        }
        try:
            self._here.sendall(json.dumps(order).encode() + b"\n")
            while (started := self._heard()) is None:
                self._listen()
        except OSError:
            started = None
        if started is None:
            raise RunError(f"the process that starts the workers ended with {self._server.wait()}")
        return Worker(started, self)

    def forget(self, file: int) -> None:
        """Have the server close a file that its worker has."""
        with suppress(OSError):
            self._here.sendall(json.dumps({"forget": file}).encode() + b"\n")

    def status(self, process: int) -> int | None:
        """Return how a worker ended, as subprocess has it; None while it runs."""
        while self._listen(wait=False):
            self._heard()
        if process not in self._statuses and self._server.poll() is not None:
            return self._server.returncode or 1  # it ended, and its workers with it
        return self._statuses.get(process)

    def close(self) -> None:
        """End the server, and what is left of its workers."""
        self._here.close()
        self._server.wait()

    def _listen(self, *, wait: bool = True) -> bool:
        """Take in what the server says; whether there was anything."""
        try:
            more = self._here.recv(1 << 16, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except ConnectionResetError:  # it was killed before it had read all orders
            more = b""
        self._said += more
        if wait and not more:
            raise ConnectionResetError
        return bool(more)

    def _heard(self) -> int | None:
        """Note all that was said; return the process that was started, if any was."""
        *lines, self._said = self._said.split(b"\n")
        started = None
        for line in lines:
            said: dict[str, Any] = json.loads(line)
            if "started" in said:
                started = said["started"]
            else:
                self._statuses[said["ended"]] = said["status"]
        return started


class Worker:
    """A worker, with what is needed of :class:`subprocess.Popen`."""

    def __init__(self, pid: int, forks: Forks) -> None:
        self.pid, self._forks = pid, forks

    def poll(self) -> int | None:
        """Return its status; None while it runs."""
        return self._forks.status(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its status.

        Raises
        ------
        subprocess.TimeoutExpired
            If it does not end within ``timeout`` seconds.
        """
        end = None if timeout is None else monotonic() + timeout
        while (status := self.poll()) is None:
            if end is not None and timeout is not None and monotonic() >= end:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            sleep(_POLL_S)
        return status

    def terminate(self) -> None:
        """Ask it to end."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)
