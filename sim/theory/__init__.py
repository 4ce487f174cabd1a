"""What the simulator must agree with: closed forms, and recurrences without events.

Everything here is stated a second time, from docs/background/ and the programs' texts, and
shares no code with the runtime; the tests hold the two together to 1e-9.

closed_forms: each with its equation, its source and a number. longest_path: one collective alone on
any network. wall_clock: the time of every method as a max-plus recurrence over workers;
recurrences, overlapped_outer_steps: those of methods that wait, and of methods whose outer steps
are communicated while training continues; inside: those of what a worker's accelerators do within
a step; costs: what they are made of.
"""

from __future__ import annotations

from sim.theory.closed_forms import (
    all_reduce_lower_bound,
    blocking_utilization,
    connection_rate,
    direct_seconds,
    halving_doubling_seconds,
    hierarchical_seconds,
    memory_bytes,
    required_bandwidth,
    ring_seconds,
    step_seconds,
    straggler_utilization,
    tree_seconds,
    utilization_bounds,
    windowed_ring_seconds,
)
from sim.theory.longest_path import Duration, longest_path
from sim.theory.wall_clock import Timing, wall_clock, wall_clock_of_averages

__all__ = [
    "Duration",
    "Timing",
    "all_reduce_lower_bound",
    "blocking_utilization",
    "connection_rate",
    "direct_seconds",
    "halving_doubling_seconds",
    "hierarchical_seconds",
    "longest_path",
    "memory_bytes",
    "required_bandwidth",
    "ring_seconds",
    "step_seconds",
    "straggler_utilization",
    "tree_seconds",
    "utilization_bounds",
    "wall_clock",
    "wall_clock_of_averages",
    "windowed_ring_seconds",
]
