"""Runs programs in virtual time, on SimPy.

One driver per program of each worker asks its generator for the next activity and waits for
it. Computations queue on the worker; collectives are matched by group and call number, and
begin when the last member has called. Workers that nothing can tell apart are simulated once.
"""

from sim.runtime.errors import (
    CollectiveMismatch,
    Deadlock,
    ReplayError,
    SimulationError,
    TooLarge,
)
from sim.runtime.run import simulate

__all__ = [
    "CollectiveMismatch",
    "Deadlock",
    "ReplayError",
    "SimulationError",
    "TooLarge",
    "simulate",
]
