"""``realrun train`` in processes of its own: started, watched, found again in /proc."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

# -- the command, killed -------------------------------------------------------------------
SCENARIO = """
[run]
steps = {steps}
[model]
kind = "gpt"
hidden = 16
layers = 3
heads = 2
vocabulary = 256
context = 16
param_dtype = "fp32"
[method]
{method}
[[site]]
count = 2
step_time = "1 ms"
batch_tokens = 32
[network]
bandwidth = "1 Gbit/s"
per = "pair"
rtt = "1 ms"
[train]
learning_rate = 0.01
schedule = "cosine"
[data]
kind = "synthetic"
tokens = "64Ki"
"""


def begun(file: Path, folder: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "realrun", "train", str(file)),
            *("--checkpoints", str(folder), "--checkpoint-every", "3", *more),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children(parent: int) -> list[int]:
    """Whom a process started, as /proc tells."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, _, rest = entry.read_text().partition(" (")
        except OSError:
            continue
        if int(rest.rpartition(")")[2].split()[1]) == parent:
            found.append(int(number))
    return found


def workers_of(launcher: int) -> list[int]:
    """A launcher's workers: where it can, they are forks of a process of its own."""
    started = children(launcher)
    return [worker for server in started for worker in children(server)] or started


def gone(processes: list[int], within_s: float = 20) -> bool:
    end = monotonic() + within_s
    while monotonic() < end:
        if not any(Path(f"/proc/{number}").exists() for number in processes):
            return True
        sleep(0.1)
    return False


def newest(folder: Path) -> int:
    rounds = [int(path.name[6:14]) for path in folder.glob("round-*.safetensors")]
    return max(rounds, default=0)
