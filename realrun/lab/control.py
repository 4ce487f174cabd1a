"""How a worker in a lab asks for another network: over a pair of sockets that it inherits.

They have no address, so nobody else can ask, and nothing of it travels on the lab's own lines.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from realrun.errors import RunError
from realrun.lab.run import Lab
from realrun.lab.topology import Topology
from realrun.processes.launch import Handed

SOCKET = "REALRUN_NETWORK"


def in_a_lab() -> bool:
    """Whether this process is a worker that may choose its network."""
    return SOCKET in os.environ


@contextmanager
def controlled(lab: Lab, networks: Sequence[Topology]) -> Iterator[Handed]:
    """Let a worker choose among networks; yields what it inherits.

    Every network is checked when it is chosen for the first time: the switch does not change.
    """
    here, there = socket.socketpair()
    with here, there:
        serving = threading.Thread(
            target=_serve, args=(here, lab, networks), name="control", daemon=True
        )
        serving.start()
        try:
            yield Handed({SOCKET: str(there.fileno())}, (there.fileno(),))
        finally:
            with suppress(OSError):
                here.shutdown(socket.SHUT_RDWR)  # wakes the thread


def _serve(asking: socket.socket, lab: Lab, networks: Sequence[Topology]) -> None:
    known: dict[int, list[str]] = {}
    with suppress(OSError), asking.makefile("rw") as lines:  # it ends when the lab does
        for line in lines:
            number = int(json.loads(line))
            answer: dict[str, Any] = {"switch": lab.switch}
            try:
                checks = lab.change(networks[number], check=number not in known)
                known.setdefault(number, [str(check) for check in checks])
                answer["checks"] = known[number]
            except (RunError, OSError) as error:
                answer["error"] = str(error)
            lines.write(json.dumps(answer) + "\n")
            lines.flush()


class Chooser:
    """A worker's end of it; only rank 0 has one.

    Raises
    ------
    RunError
        By :meth:`choose`, if this machine cannot emulate the network.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(fileno=int(os.environ[SOCKET]))
        self._lines = self._socket.makefile("rw")

    def choose(self, number: int) -> tuple[list[str], int]:
        """Ask for a network by its number; return its checks, and the switch's process."""
        line = ""
        with suppress(OSError):
            self._lines.write(json.dumps(number) + "\n")
            self._lines.flush()
            line = self._lines.readline()
        if not line:
            raise RunError("the lab has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise RunError(answer["error"])
        return answer["checks"], answer["switch"]

    def close(self) -> None:
        """Ask for no more."""
        with suppress(OSError):
            self._lines.close()
        self._socket.close()
