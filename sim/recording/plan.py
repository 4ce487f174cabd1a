"""What each worker does in a recorded step: computes, issues collectives, waits for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sim.members import family, is_send, named, root_of
from sim.program import bytes_per_element
from sim.recording.vocabulary import COMPUTATION
from sim.trace.table import CONTROL, ROUND, WAIT, Row, Trace


class PlanError(ValueError):
    """The rows of a recording make no program; the message says why."""


@dataclass(frozen=True)
class Computes:
    """The program computes; how long it did is in the plan's table, at this place."""

    place: int


@dataclass(frozen=True)
class Starts:
    """The program issues a collective."""

    #: Which of the step's collectives it is, from 0.
    number: int
    operation: str
    name: str
    elements: int
    dtype: str
    #: Its members; None are all workers.
    over: tuple[int, ...] | None

    @property
    def sends(self) -> tuple[int, int] | None:
        """Who sends and who receives, of a send or recv."""
        if self.over is None or not is_send(self.operation):
            return None
        first, second = self.over
        return (second, first) if root_of(self.operation) else (first, second)


@dataclass(frozen=True)
class Waits:
    """The program waits for a collective that it has issued ``back`` steps before."""

    number: int
    back: int


@dataclass(frozen=True)
class Agrees:
    """The program exchanges control messages with its peers; it waits for them later."""

    #: Which of the step's collectives it is, from 0, as if it were one.
    number: int
    round_trips: int
    #: Its members; None are all workers.
    over: tuple[int, ...] | None


Item = Computes | Starts | Agrees | Waits


@dataclass(frozen=True)
class Steps:
    """What one worker does: the same items in every step, and how long each computation took."""

    items: tuple[Item, ...]
    #: Seconds, shape [steps, computations of a step].
    seconds: NDArray[np.float64]

    @cached_property
    def median(self) -> Steps:
        """One step: of every computation the median over the steps."""
        return replace(self, seconds=np.median(self.seconds, axis=0, keepdims=True))


@dataclass(frozen=True)
class Plan:
    """What all workers do."""

    #: By rank.
    ranks: tuple[Steps, ...]
    #: Steps that were recorded and did something else than most, and are left out.
    unlike: int

    @property
    def workers(self) -> int:
        """How many there were."""
        return len(self.ranks)

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self.ranks[0].seconds)

    @cached_property
    def alike(self) -> bool:
        """Whether all workers do the same."""
        return len({each.items for each in self.ranks}) == 1

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Groups of some of the workers, not of all, that have collectives."""
        return tuple(
            sorted(
                {
                    item.over
                    for each in self.ranks
                    for item in each.items
                    if isinstance(item, Starts | Agrees) and item.over is not None
                }
            )
        )

    @cached_property
    def directed(self) -> tuple[tuple[int, int], ...]:
        """Who sends to whom, in sends that only the other one receives."""
        return tuple(
            sorted(
                {
                    item.sends
                    for each in self.ranks
                    for item in each.items
                    if isinstance(item, Starts) and item.sends is not None
                }
            )
        )

    @cached_property
    def step_s(self) -> float:
        """Seconds that a worker computes in a step, the median over steps and workers."""
        return float(np.median([each.seconds.sum(axis=1) for each in self.ranks]))

    @cached_property
    def elements(self) -> int:
        """Elements of the buffers that a step sends, at the worker that sends most."""
        return max(
            sum(item.elements for item in each.items if isinstance(item, Starts))
            for each in self.ranks
        )

    @cached_property
    def dtype(self) -> str:
        """The type of most of those elements."""
        counts: Counter[str] = Counter()
        for item in self.ranks[0].items:
            if isinstance(item, Starts):
                counts[item.dtype] += item.elements
        return counts.most_common(1)[0][0] if counts else ""

    @cached_property
    def operations(self) -> tuple[str, ...]:
        """The collectives that there are, as they are replayed."""
        return tuple(
            sorted(
                {
                    family(item.operation)
                    for each in self.ranks
                    for item in each.items
                    if isinstance(item, Starts)
                }
            )
        )

    @cached_property
    def agreements(self) -> int:
        """How often the workers exchange control messages in a step."""
        return sum(isinstance(item, Agrees) for item in self.ranks[0].items)

    @cached_property
    def stand_ins(self) -> tuple[tuple[str, str], ...]:
        """What was recorded and is carried out as something else: its name, and that."""
        return tuple(
            sorted(
                {
                    (item.name, family(item.operation))
                    for each in self.ranks
                    for item in each.items
                    if isinstance(item, Starts) and item.name != "buffer"
                }
            )
        )

    def on(self, workers: int) -> Plan:
        """Return what that many workers do.

        Each does what a recorded one does, in the median over the recorded ones; every
        collective keeps its bytes, and is over all workers.

        Raises
        ------
        PlanError
            If it does not follow from the recording what others would do.
        """
        if workers == self.workers:
            return self
        was = f"recorded on {self.workers} workers, not {workers}"
        if self.directed:
            sender, receiver = self.directed[0]
            raise PlanError(
                f"{was}, and rank {sender} sends to rank {receiver}; to whom each would send is "
                f"not known: keep {self.workers} workers, or record that many"
            )
        if self.groups:
            group = list(self.groups[0])
            raise PlanError(
                f"{was}, and a collective is over ranks {group} alone; which ranks it would be "
                f"over is not known: keep {self.workers} workers, or record that many"
            )
        if not self.alike:
            other = next(
                rank for rank, each in enumerate(self.ranks) if each.items != self.ranks[0].items
            )
            raise PlanError(
                f"{was}, and rank {other} issues or awaits other collectives than rank 0; which "
                f"of them a further worker would is not known: keep {self.workers} workers"
            )
        for item in self.ranks[0].items:
            if isinstance(item, Starts) and (root := root_of(item.operation)) >= workers:
                raise PlanError(f"{was}, and rank {root} broadcasts: keep {root + 1} or more")
        seconds = np.median([each.seconds for each in self.ranks], axis=0)
        one = Steps(self.ranks[0].items, seconds)
        return Plan((one,) * workers, self.unlike)


def plan_of(trace: Trace) -> Plan:
    """Return what each worker of a recording does.

    Steps that do something else than most (a rank's, or one's in which a program evaluates) are
    left out, on all ranks.

    Raises
    ------
    PlanError
        If no step is like another on all ranks.
    """
    by_rank: dict[int, list[Row]] = {rank: [] for rank in range(trace.workers)}
    for row in trace.rows:
        by_rank[row.rank].append(row)
    found = [_steps(rows, trace.workers) for rows in by_rank.values()]
    count = min(len(steps) for steps in found)
    if count == 0:
        raise PlanError("has no whole step")
    modes = [Counter(items for items, _ in steps[:count]).most_common(1)[0][0] for steps in found]
    kept = [
        number
        for number in range(count)
        if all(steps[number][0] == mode for steps, mode in zip(found, modes, strict=True))
    ]
    if not kept:
        raise PlanError(
            "has no step in which every rank does what it mostly does; record more steps, or mark "
            "where they begin with realrun.step()"
        )
    return Plan(
        tuple(
            _without_empty(mode, np.array([steps[number][1] for number in kept]))
            for steps, mode in zip(found, modes, strict=True)
        ),
        count - len(kept),
    )


def _without_empty(items: tuple[Item, ...], seconds: NDArray[np.float64]) -> Steps:
    """Return steps without the computations that never took any time."""
    kept = np.flatnonzero(seconds.any(axis=0))
    places = {int(was): now for now, was in enumerate(kept)}
    return Steps(
        tuple(
            Computes(places[item.place]) if isinstance(item, Computes) else item
            for item in items
            if not isinstance(item, Computes) or item.place in places
        ),
        seconds[:, kept],
    )


def _steps(rows: Sequence[Row], workers: int) -> list[tuple[tuple[Item, ...], list[float]]]:
    """Return the items and the seconds of each step of one rank.

    There is a computation before each other item and at the end, which may take no time: steps are
    alike whether or not a moment passed between two waits.
    """
    steps: list[tuple[list[Item], list[float]]] = []

    def add(item: Item) -> None:
        items, seconds = steps[-1]
        items.append(item)
        items.append(Computes(len(seconds)))
        seconds.append(0.0)

    issued: dict[tuple[str, int], tuple[int, int]] = {}
    number = 0
    for row in rows:
        if row.operation == ROUND:
            steps.append(([Computes(0)], [0.0]))
            number = 0
        elif not steps:
            continue
        elif row.operation == COMPUTATION:
            steps[-1][1][-1] += row.work_s
        elif row.operation == WAIT:
            if (at := issued.get((row.group, row.call))) is not None:
                add(Waits(at[1], len(steps) - 1 - at[0]))
        elif row.operation == CONTROL:
            issued[row.group, row.call] = len(steps) - 1, number
            members = named(row.group, workers)
            add(Agrees(number, row.times, members.ranks if members.name else None))
            number += 1
        elif row.bytes > 0 and len(named(row.group, workers)) > 1:  # alone it sends nothing
            issued[row.group, row.call] = len(steps) - 1, number
            add(_started(row, number, workers))
            number += 1
    # The last row of a rank says where its last step ends.
    return [(tuple(items), seconds) for items, seconds in steps[:-1]]


def _started(row: Row, number: int, workers: int) -> Starts:
    name, _, dtype = row.detail.rpartition(" ")
    members = named(row.group, workers)
    elements = max(1, round(row.bytes / bytes_per_element(dtype)))
    over = members.ranks if members.name or is_send(row.operation) else None
    return Starts(number, row.operation, name, elements, dtype, over)
