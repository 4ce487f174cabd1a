"""How many cores this process may use."""

from __future__ import annotations

import os


def cores_allowed() -> int:
    """Return the cores that this process may run on, which may be fewer than the machine has."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return here or 1
