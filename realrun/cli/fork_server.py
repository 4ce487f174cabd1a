"""The process of which workers are forks: ``python -m realrun.cli.fork_server``.

It has a single thread and has computed nothing, so nothing is lost in a fork. It ends when its
launcher does, and ends its workers.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from time import monotonic, sleep
from typing import Any, NoReturn

import numpy as np

from realrun.processes.forks import LAUNCHER, SOCKET
from realrun.processes.launch import PARENT
from realrun.processes.namespaces import enter

# What every worker imports; the last is what torch's first backward pass imports.
_IMPORTED = (
    *("torch", "torch.distributed", "realrun.training", "realrun.report"),
    "torch.fx.experimental.symbolic_shapes",
)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_POLL_S = 0.05
_GRACE_S = 1.0

Order = dict[str, Any]


def main() -> None:
    """Start workers as they are ordered until nobody orders any more."""
    _end_with(int(os.environ.pop(LAUNCHER)))
    orders = socket.socket(fileno=int(os.environ.pop(SOCKET)))
    for module in _IMPORTED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # so that a worker's collections leave these pages as they are
    server = os.getpid()
    order = _served(orders)
    if order is not None:
        orders.close()
        _work(order, server)


def _end_with(parent: int) -> None:
    """Have the kernel end this process with its parent, whatever it is doing.

    A thread that looks would be lost in a fork, and waits where a call keeps the interpreter.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before
        sys.exit(1)


def _served(orders: socket.socket) -> Order | None:
    """Serve; return an order in the worker that is to carry it out, None at the end."""
    children: set[int] = set()
    said = b""
    while True:
        if select.select([orders], [], [], _POLL_S)[0]:
            try:
                more = orders.recv(1 << 16)
            except ConnectionResetError:
                more = b""
            if not more:
                _end(children)
                return None
            *lines, said = (said + more).split(b"\n")
            for line in lines:
                order: Order = json.loads(line)
                if "forget" in order:
                    os.close(order["forget"])
                    continue
                child = os.fork()
                if not child:
                    return order
                children.add(child)
                _tell(orders, {"started": child})
        for child, status in _ended(children):
            _tell(orders, {"ended": child, "status": status})


def _tell(orders: socket.socket, what: dict[str, int]) -> None:
    with suppress(OSError):  # the launcher is gone: the next look says so
        orders.sendall(json.dumps(what).encode() + b"\n")


def _ended(children: set[int]) -> list[tuple[int, int]]:
    found = []
    for child in list(children):
        process, status = os.waitpid(child, os.WNOHANG)
        if process:
            children.discard(child)
            found.append((child, os.waitstatus_to_exitcode(status)))
    return found


def _end(children: set[int]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for child in children:
            os.kill(child, number)
        end = monotonic() + _GRACE_S
        while children and monotonic() < end:
            _ended(children)
            sleep(_POLL_S)


def _work(order: Order, server: int) -> NoReturn:
    """Be a worker: what ``python -m realrun`` with its arguments would be."""
    _end_with(server)
    os.setsid()
    os.environ.clear()
    os.environ.update(order["environment"])
    os.environ[PARENT] = str(server)
    if order["namespace"] is not None:
        enter(order["namespace"])
    np.random.seed()  # Python's random numbers differ between forks, numpy's would not
    sys.argv = ["realrun", *order["arguments"]]
    from realrun.cli import main as realrun

    realrun()


if __name__ == "__main__":
    main()
