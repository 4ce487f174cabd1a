"""What the time of a run is spent on."""

from __future__ import annotations

from sim.operations import COMPUTED

CAUSES = (
    *COMPUTED,
    "contention",
    "exposed_communication",
    "exposed_inside",
    "waiting",
    "setup",
    "other",
)
"""Where the time goes: fractions of workers x wall-clock that add up to one.

"exposed_communication" is between workers, "exposed_inside" between the accelerators of one.
"""

INSIDE = "exposed_inside"
"""The cause that only runs of islands have."""
