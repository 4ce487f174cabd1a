"""Signals that ask a process to end: what it began ends first."""

from __future__ import annotations

import os
import signal
import sys
import threading
from time import sleep
from types import FrameType

_POLL_S = 0.5
_received: list[int] = []


def status_when_asked() -> int | None:
    """Return the status with which a signal has asked this process to end; None without one."""
    return 128 + _received[0] if _received else None


def end_when_asked(program: str) -> None:
    """Let SIGTERM and SIGHUP end this process as Ctrl-C does: what it began ends first.

    The status is the one by which a shell tells of that signal.
    """

    def end(number: int, _: FrameType | None) -> None:
        for each in asked:
            signal.signal(each, signal.SIG_IGN)  # once is enough
        _received.append(number)
        os.write(2, f"{program}: ended by {signal.Signals(number).name}\n".encode())
        sys.exit(128 + number)

    _received.clear()
    asked = [
        each
        for each in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
        if signal.getsignal(each) == signal.SIG_DFL  # not under nohup
    ]
    for each in asked:
        signal.signal(each, end)


def end_with(parent: int) -> None:
    """End this process when its parent is gone, however that went."""

    def watch() -> None:
        while os.getppid() == parent:
            sleep(_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
