"""How much of the machine other programs used meanwhile."""

from __future__ import annotations

import os
from math import isnan
from pathlib import Path
from time import monotonic, process_time

from realrun.processes.processors import TICKS, busy_s


def _of_process(number: int) -> float:
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


class OtherLoad:
    """CPU time that is not the run's own, between a beginning and now."""

    def __init__(self) -> None:
        self._switch: int | None = None
        self.begin()

    def also(self, process: int) -> None:
        """Count another process as the run's own: a lab's switch."""
        self._switch = process

    def begin(self) -> None:
        """Count from now on."""
        self._at, self._busy, self._own = monotonic(), busy_s(), process_time()
        self._of_switch = _of_process(self._switch) if self._switch is not None else 0.0

    def own_s(self) -> float:
        """CPU seconds of this process, and of the switch where this one has it."""
        switch = _of_process(self._switch) - self._of_switch if self._switch is not None else 0.0
        return process_time() - self._own + switch

    def others_share(self, own_s: float) -> float:
        """Fraction of the machine's CPU time that others used; ``own_s`` of all processes."""
        length = monotonic() - self._at
        used = busy_s() - self._busy - own_s
        share = used / (length * (os.cpu_count() or 1))
        return share if isnan(share) else max(0.0, share)
