"""How long the processors of a machine have computed, for all processes together."""

from __future__ import annotations

import os
from pathlib import Path

_STAT = Path("/proc/stat")
TICKS = os.sysconf("SC_CLK_TCK")
"""Per second, in which the system counts processor time."""


def busy_s() -> float:
    """Return seconds of all cores since the machine started, idle and waiting left out.

    Not a number where the system does not tell.
    """
    if not _STAT.exists():
        return float("nan")
    user, nice, system, _, _, irq, softirq, *_ = map(int, _STAT.read_text().split()[1:9])
    return (user + nice + system + irq + softirq) / TICKS
