"""What the programs of one process share: model, limits, clock, groups, rows."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from realrun.checks.evaluating import Evaluating
from realrun.checks.not_finite import LossWatch
from realrun.checks.replica_check import ReplicaCheck
from realrun.communication.control import ControlGroup
from realrun.communication.groups import Group
from realrun.device import Host
from realrun.runtime.activities import Activity
from sim.runtime.computation import Computation
from sim.runtime.progress import Progress
from sim.trace.table import Row

MAIN = "main"


@dataclass
class Pace:
    """Replace computations by sleeps of the scenario's sampled durations.

    ``computation`` draws from the same random streams as the simulator.
    """

    computation: Computation


@dataclass
class Limits:
    """When to stop: rounds, or tokens that all workers together have trained on.

    ``batch_tokens``: tokens of one inner step by rank; none stands for one token each.
    """

    rounds: float = float("inf")
    tokens: float = float("inf")
    batch_tokens: tuple[float, ...] = ()


@dataclass
class Restart:
    """Where to resume: a round, and what the main program observed until then."""

    round: int
    observed: deque[float]


@dataclass
class Saving:
    """How to keep a run: ``save`` is called every ``rounds`` rounds and at the end."""

    rounds: int
    save: Callable[[int], None]


@dataclass
class Shared:
    """What the programs of one process share: rows, groups, clock.

    ``pace`` replaces computations by sleeps. ``slower`` stretches real ones: each is followed
    by a sleep, so that it takes ``slower`` times as long. ``replay``: program -> observations
    to be repeated instead of looking. ``restart``: set until its round is reached. ``check``:
    what compares replicas, if that is asked for. ``watch``: what looks at the losses, if any.
    ``evaluating``: what evaluates now and then, if that is asked for.
    ``late``: says in a clause who has not come to a group's call after a number of seconds.
    ``by_tokens``: whether a mean over workers weighs each by the tokens of its round.
    ``causes``: on what the operations that programs declared spend their time.
    """

    rank: int
    workers: int
    model: Any
    limits: Limits
    quantize_block: int = 256
    site: tuple[int, ...] = ()  # ranks at this worker's site; none: all are at one
    pace: Pace | None = None
    slower: float = 1.0
    replay: dict[str, deque[float]] | None = None
    restart: Restart | None = None
    saving: Saving | None = None
    check: ReplicaCheck | None = None
    watch: LossWatch | None = None
    evaluating: Evaluating | None = None
    by_tokens: bool = False
    timeout: timedelta = timedelta(minutes=5)  # of the groups made here
    fresh: bool = False  # whether all connections are made again, see Group
    device: Host = field(default_factory=Host)
    observed: list[float] = field(default_factory=list)  # by the main program
    in_flight: dict[int, Activity] = field(default_factory=dict)  # by identity
    rows: list[Row] = field(default_factory=list)
    causes: dict[str, str] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    controls: dict[str, ControlGroup] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    late: Callable[[str, int, float], str] = lambda group, call, waited_s: ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def progress(self) -> Progress:
        """Return a count of what all workers have trained on, from the beginning."""
        batches = self.limits.batch_tokens or (1.0,) * self.workers
        return Progress(batches, sum(batches), self.rank)

    def now(self) -> float:
        """Seconds since this worker began."""
        return self.device.now()

    def group(self, name: str) -> Group:
        """What stands behind a program's group.

        Made when first asked for. That of all workers by all ranks in the same order: the main
        program asks, in its own thread.
        """
        if name not in self.groups:
            self.groups[name] = Group(
                self.quantize_block,
                self.timeout,
                self.device,
                name=name,
                spawned=name != MAIN,
                fresh=self.fresh,
            )
        return self.groups[name]

    def control(self, name: str) -> ControlGroup:
        """What stands behind the control messages of a group; made as :meth:`group` says."""
        if name not in self.controls:
            self.controls[name] = ControlGroup(name, self.timeout, self.device)
        return self.controls[name]

    def time_on(self, device: Host) -> None:
        """Time all on a device from now on, what groups that are there already carry included."""
        self.device = device
        for group in self.groups.values():
            group.time_on(device)
        for control in self.controls.values():
            control.time_on(device)

    def close(self) -> None:
        """Wait for the device and let go of what the groups hold, when all programs ended."""
        self.device.close()
        for group in self.groups.values():
            group.close()
        for control in self.controls.values():
            control.close()

    def count_call(self, group: str) -> int:
        """Number of this rank's next call in a group."""
        with self.lock:
            number = self.calls.get(group, 0)
            self.calls[group] = number + 1
            return number
