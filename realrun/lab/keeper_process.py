"""The keeper (:mod:`realrun.lab.keeper`), seen from the process that starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from signal import Signals

from realrun.errors import RunError

_END_S = 10.0  # more than the keeper takes: its grace, twice


@contextmanager
def started(files: Sequence[int]) -> Iterator[subprocess.Popen[bytes]]:
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


def wait_for(keeper: subprocess.Popen[bytes]) -> None:
    """Wait until the keeper is ready: what varies begins with the commands."""
    assert keeper.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(keeper.stdout.fileno(), 1 << 10)
        if not part:
            raise RunError(lost(keeper.wait()))
        line += part
    told = json.loads(line)
    if "impossible" in told:
        raise RunError(f"a lab runs commands in a PID namespace of their own: {told['impossible']}")


def lost(status: int) -> str:
    """Say how the keeper was lost."""
    how = f"was killed by {Signals(-status).name}" if status < 0 else f"ended with {status}"
    return f"the process that keeps the lab's commands {how}, and they with it"
