"""How a worker in a lab asks for another network: over a socket in the file system.

Network namespaces do not part such sockets, and nothing of it travels on the lab's own lines.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from realrun.errors import RunError
from realrun.lab.run import Lab
from realrun.lab.topology import Topology

ADDRESS = "REALRUN_NETWORK"


def in_a_lab() -> bool:
    """Whether this process is a worker that may choose its network."""
    return ADDRESS in os.environ


@contextmanager
def controlled(lab: Lab, networks: Sequence[Topology]) -> Iterator[dict[str, str]]:
    """Let a worker choose among networks; yields what its environment must have.

    Every network is checked when it is chosen for the first time: the switch does not change.
    """
    with tempfile.TemporaryDirectory(prefix="realrun-") as folder:
        path = str(Path(folder) / "network")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(1)
            threading.Thread(
                target=_serve, args=(listener, lab, networks), name="control", daemon=True
            ).start()
            yield {ADDRESS: path}
            _wake(path)


def _wake(path: str) -> None:
    """Let a thread that waits for a worker see the end."""
    try:
        with socket.socket(socket.AF_UNIX) as nobody:
            nobody.connect(path)
    except OSError:
        return


def _serve(listener: socket.socket, lab: Lab, networks: Sequence[Topology]) -> None:
    known: dict[int, list[str]] = {}
    try:
        asking, _ = listener.accept()
    except OSError:
        return
    with asking, asking.makefile("rw") as lines:
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
        By :meth:`choose`, if this machine cannot play the network.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(os.environ[ADDRESS])
        self._lines = self._socket.makefile("rw")

    def choose(self, number: int) -> tuple[list[str], int]:
        """Ask for a network by its number; return its checks, and the switch's process."""
        self._lines.write(json.dumps(number) + "\n")
        self._lines.flush()
        line = self._lines.readline()
        if not line:
            raise RunError("the lab has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise RunError(answer["error"])
        return answer["checks"], answer["switch"]
