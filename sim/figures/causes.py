"""What the time of a run is spent on."""

from __future__ import annotations

from sim.operations import COMPUTED

CAUSES = (
    *COMPUTED,
    "contention",
    "exposed_communication",
    "waiting",
    "setup",
    "other",
)
"""Where the time goes: fractions of workers x wall-clock that add up to one."""
