"""What the programs of one run share, and what those of one worker share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any, Protocol

from sim.clock import Clock
from sim.members import Members, everyone
from sim.network.message_links import MessageLinks
from sim.runtime import limits
from sim.runtime.activity import Activity
from sim.runtime.computation import Computation
from sim.runtime.control import ControlGroup
from sim.runtime.device import Device
from sim.runtime.gloo_groups import GlooGroup
from sim.runtime.groups import Group
from sim.runtime.progress import Progress
from sim.trace.packed import PackedRows
from sim.trace.table import Row


class Running(Protocol):
    """A program that has not ended."""

    rank: int
    name: str
    blocked_on: Activity | None


@dataclass
class Replica:
    """What the programs of one worker share."""

    rank: int
    #: Ranks of the workers at its site.
    site: tuple[int, ...]
    model: Any
    device: Device
    computation: Computation
    progress: Progress
    #: Rounds that its main program has begun.
    round: int = 0
    #: How often it has called each group, by name.
    calls: dict[str, int] = field(default_factory=dict)

    def count_call(self, group: str) -> int:
        """Number of this worker's next call in a group."""
        number = self.calls.get(group, 0)
        self.calls[group] = number + 1
        return number


@dataclass
class Shared:
    """What the programs of one run share: clock, rows, groups."""

    clock: Clock
    #: How many there are in all.
    workers: int
    #: Makes the group of a name and of members.
    new_group: Callable[[str, Members], Group | GlooGroup]
    #: The same for control messages.
    new_control: Callable[[str, Members], ControlGroup]
    #: Of the whole model.
    parameters: int
    #: Rounds after which the run ends, or tokens of all workers.
    rounds: int
    horizon_tokens: float = inf
    #: Asked once all rounds have been begun: how many it shall be.
    longer: Callable[[], int] | None = None
    quantize_block: int = 256
    #: Whether a mean over workers weighs each by the tokens of its round.
    by_tokens: bool = False
    #: By rank and program, observations to be repeated instead of looking.
    replay: dict[tuple[int, str], deque[float]] | None = None
    #: What carries gloo's messages, if collectives are gloo's.
    message_links: MessageLinks | None = None
    rows: list[Row] | PackedRows = field(default_factory=list)
    #: How many rows a run may come to.
    most_rows: int = limits.MOST_ROWS
    #: On what the operations that programs declared spend their time.
    causes: dict[str, str] = field(default_factory=dict)
    groups: dict[str, Group | GlooGroup] = field(default_factory=dict)
    controls: dict[str, ControlGroup] = field(default_factory=dict)
    #: Programs that have not ended.
    running: dict[Running, None] = field(default_factory=dict)
    #: Activities that have been started and have not ended.
    unfinished: int = 0
    #: Activities that have failed, and of which no program that waited for them knows it.
    failed: list[Activity] = field(default_factory=list)
    #: When the last program ended, so far.
    last_end: float = 0.0

    def __post_init__(self) -> None:
        self.everyone = everyone(self.workers)

    def group(self, name: str, members: Members) -> Group | GlooGroup:
        """Return the lasting group of that name, which says whose it is."""
        if name not in self.groups:
            self.groups[name] = self.new_group(name, members)
        return self.groups[name]

    def control(self, name: str, members: Members) -> ControlGroup:
        """Return the lasting group of that name for control messages."""
        if name not in self.controls:
            self.controls[name] = self.new_control(name, members)
        return self.controls[name]
