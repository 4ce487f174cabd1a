"""What memory this machine has free, or the container that this process runs in."""

from __future__ import annotations

import os
from math import inf
from pathlib import Path

#: What a Linux control group may use, in its second and its first version.
CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def free_bytes() -> float:
    """Return the bytes that are free in this machine's memory.

    In a container no more than its limit; where the system does not say what is free, all the
    memory there is.
    """
    return min(_available(), *map(_number, CONTAINER_LIMITS))


def _number(path: Path) -> float:
    try:
        text = path.read_text().strip()
    except OSError:
        return inf
    return float(text) if text.isdigit() else inf


def _available() -> float:
    table = Path("/proc/meminfo")
    for line in table.read_text().splitlines() if table.exists() else []:
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024  # in KiB
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
