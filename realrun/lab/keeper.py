"""A process in which the commands of a lab are started, and with which all of theirs end.

    python -m realrun.lab.keeper < commands

It is the first process of a PID namespace. Whatever a command starts stays in there, however it
is detached, and the kernel ends all of it when the first process ends: by an order, or because
the lab's own process is gone. Nobody inside can end it, nor see the switch. Its standard input is
one line of JSON, the commands, and stays open until they are to end; on its standard output is a
line of JSON when it is ready, and one for each command that has ended. The mount namespace is new
as well: ``/proc`` shows the processes inside, and what is left in ``/dev/shm`` goes with them.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn

from realrun.processes.namespaces import enter

GRACE_S = 2.0
_SETTLE_S = 0.5  # in which what a command has started may end after it
_POLL_S = 0.05
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_NEWNS, _NEWPID = 0x00020000, 0x20000000  # linux/sched.h
_NOSUID, _NODEV, _NOEXEC, _REC, _PRIVATE = 0x2, 0x4, 0x8, 0x4000, 0x40000  # linux/mount.h


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _mounted(source: str, target: str, kind: str, flags: int) -> bool:
    """Mount; return whether that was possible."""
    call = _libc().mount
    call.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]
    return bool(call(source.encode(), target.encode(), kind.encode(), flags, None) == 0)


def _own_mounts() -> None:
    """Show the processes inside, and keep what they share in memory to them, where possible."""
    if not _mounted("none", "/", "", _REC | _PRIVATE):
        return  # nothing may be mounted that others would see
    _mounted("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    if Path("/dev/shm").is_dir():
        _mounted("tmpfs", "/dev/shm", "tmpfs", _NOSUID | _NODEV)


def _with_parent() -> None:
    """Have the kernel end this process with its parent."""
    _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class Kept:
    """The commands that run: process numbers by rank, and when each was started."""

    namespaces: list[int]
    running: dict[int, int] = field(default_factory=dict)
    begun: dict[int, float] = field(default_factory=dict)

    def start(self, rank: int, command: dict[str, Any]) -> None:
        """Start a rank's command in its network namespace."""
        enter(self.namespaces[rank])
        self.begun[rank] = monotonic()
        try:
            process = subprocess.Popen(
                command["arguments"],
                env=command["environment"],
                stdin=subprocess.DEVNULL,
                stdout=command["output"],
                stderr=command["errors"],
                start_new_session=True,
            )
        except OSError as error:
            _say({"rank": rank, "refused": error.strerror or str(error)})
        else:
            self.running[process.pid] = rank
            process.returncode = 0  # it is waited for below, with all others
        finally:
            os.close(command["output"])
            os.close(command["errors"])

    def reap(self) -> bool:
        """Take in what has ended; return whether any process is left."""
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not process:
                return True
            rank = self.running.pop(process, None)
            if rank is not None:
                seconds = monotonic() - self.begun[rank]
                ended = {"status": os.waitstatus_to_exitcode(status), "seconds": seconds}
                _say({"rank": rank, **ended})

    def wait(self, seconds: float) -> bool:
        """Wait until no process is left; return whether any is after so long."""
        end = monotonic() + seconds
        while self.reap() and monotonic() < end:
            select.select([], [], [], _POLL_S)
        return self.reap()

    def left(self) -> list[tuple[int, str]]:
        """Return the rank and the name of every process that is left."""
        numbers = {os.fstat(each).st_ino: rank for rank, each in enumerate(self.namespaces)}
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            if folder.name == "1":
                continue
            with suppress(OSError):  # it has just ended
                name = (folder / "comm").read_text().strip()
                rank = numbers.get((folder / "ns" / "net").stat().st_ino)
                if rank is not None:
                    found.append((rank, name))
        return sorted(found)


def _say(what: dict[str, Any]) -> None:
    with suppress(OSError):  # nobody listens any more: standard input says so, too
        os.write(1, json.dumps(what).encode() + b"\n")


def _asked() -> dict[str, Any]:
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(0, 1 << 16)
        if not part:
            os._exit(1)
        line += part
    found: dict[str, Any] = json.loads(line)
    return found


def _keep(asked: dict[str, Any]) -> None:
    """Run the commands until all have ended or are to end; then end what is left."""
    signal.signal(signal.SIGCHLD, lambda *_: None)  # so that it wakes what waits
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    kept = Kept(asked["namespaces"])
    for rank, command in enumerate(asked["commands"]):
        kept.start(rank, command)
    while kept.running:
        ready, _, _ = select.select([0, woken], [], [])
        with suppress(BlockingIOError):
            os.read(woken, 1 << 12)
        kept.reap()
        if 0 in ready:
            break
    else:
        if kept.wait(_SETTLE_S):
            _say({"left": kept.left()})
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(-1, number)  # all in here but this one
        if not kept.wait(GRACE_S):
            return


def main() -> NoReturn:
    """Be the first process of a PID namespace."""
    _with_parent()
    libc = _libc()
    if libc.unshare(_NEWPID | _NEWNS):
        _say({"impossible": os.strerror(ctypes.get_errno())})
        sys.exit(1)
    inside = os.fork()
    if inside:
        os.close(0)
        os.close(1)
        _, status = os.waitpid(inside, 0)
        os._exit(0 if status == 0 else 1)
    _with_parent()  # if it is gone already, standard input has ended
    _own_mounts()
    _say({"ready": True})
    _keep(_asked())
    os._exit(0)


if __name__ == "__main__":
    main()
