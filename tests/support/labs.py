"""Labs in tests: whether there can be one here, and which processes are a command's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

from realrun.lab.devices import opened
from realrun.processes.namespaces import Namespace

NETWORK = ["network.bandwidth=50 Mbit/s", "network.rtt=20 ms"]


MARK = "BANDWISE_TEST_LAB"


METHOD = 'name = "diloco"\nsync_every = 2\ncomm_dtype = "fp32"'


def refusal() -> str:
    """Why this machine cannot have a lab; empty if it can."""
    if sys.platform != "linux":
        return "no Linux"
    try:
        namespace = Namespace()
        os.close(namespace.call(opened, 0, 1e6, 1 << 20))
        namespace.close()
    except OSError as error:
        return str(error)
    return ""


def nothing_measured() -> str:
    """Why no lab measures here; empty if one does."""
    if "BANDWISE_VALIDATE" not in os.environ:
        return "it measures in real time, which wants a quiet machine: run `make validate`"
    why_not = refusal()
    return f"NO LAB HERE: {why_not}" if why_not else ""


def marked(mark: str) -> list[int]:
    """Processes of a command, its children's children too, wherever they are now."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    end = monotonic() + seconds
    while monotonic() < end:
        if condition():
            return True
        sleep(0.05)
    return False


ROOT = str(Path(__file__).parents[2])
PATIENCE_S = 120
# The check of the network is left out, for what does not depend on how fast the machine is.
UNCHECKED = """
import realrun.lab.run as run
run.checked = lambda *_: iter(())
from realrun.cli import main
main()
"""


class Started:
    """``realrun lab quick_start -- sh -c SCRIPT``, of which nothing may be left."""

    def __init__(self, folder: Path, script: str, *options: str) -> None:
        self.mark = uuid4().hex
        sets = [word for setting in NETWORK for word in ("--set", setting)]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", UNCHECKED, "lab", "quick_start", *sets, *options),
                *("--", "sh", "-c", script, "sh", sys.executable),
            ],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": ROOT, "COLUMNS": "120", MARK: self.mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ended(self) -> tuple[int, str, list[str]]:
        """Status, output, and what was said on standard error after the preamble."""
        output, errors = self.process.communicate(timeout=PATIENCE_S)
        assert within(10, lambda: not marked(self.mark)), marked(self.mark)
        assert "Traceback" not in errors
        said = [line for line in errors.splitlines() if not line.startswith("In a lab")]
        return self.process.returncode, output, said
