"""Runs programs in virtual time, on SimPy.

One driver per program of each worker asks its generator for the next activity and waits for
it. Computations queue on the worker; collectives are matched by group and call number, and
begin when the last member has called. Workers that nothing can tell apart are simulated once.

run: one run, and which workers are simulated once. driver: one program, and the worker that it
sees. shared: what the programs of a run share. activity: what they start and wait for. device:
computations and what slows them down. groups, gloo_groups: collectives in the order of their calls.
control: control messages. transport: what happens to a collective that is ready. errors: why a
program cannot continue. computation: seconds per operation, jitter. progress: what all workers have
trained on. limits: how much one run may come to. window, periods, backlog: over which rounds
figures are taken, also where links vary, and the pace where rounds do not repeat. rehearsal: a
program without clock and peers. context: what figures need besides the rows.
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
