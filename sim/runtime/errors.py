"""Why a program cannot continue."""

from __future__ import annotations

HOW_LONG = (
    " (bandwise simulate --trace stops at the steady state; it continues for as many rounds as "
    "run.measured_rounds says)"
)
"""What to do about a trace that ends too early."""


class SimulationError(Exception):
    """A program cannot continue."""


class CollectiveMismatch(SimulationError):  # noqa: N818 - it says what it is
    """Members of a group called different collectives under one number."""


class Deadlock(SimulationError):  # noqa: N818
    """Workers wait for what will never come."""


class ReplayError(SimulationError):
    """A logged observation does not fit the program that is being replayed."""


class TooLarge(SimulationError):  # noqa: N818
    """Simulating this would take more time or memory than an answer is worth."""
