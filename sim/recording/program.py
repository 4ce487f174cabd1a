"""The method that replays a recording."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sim.members import BROADCAST, family, members_of, root_of
from sim.operations import Operation
from sim.program import Activity, ArgumentError, Program, Worker
from sim.recording.files import load
from sim.recording.plan import Agrees, Computes, PlanError, Starts
from sim.recording.vocabulary import COMPUTATION


@dataclass(frozen=True)
class _Buffer:
    """What a recorded collective carries: a size, and nothing in it."""

    name: str
    elements: int
    detail: str = ""


def recording(
    worker: Worker,
    *,
    path: str,
    steps: Literal["median", "each"] = "median",
    sha256: str | None = None,
    reduce_scatter: Literal["sharded", "torch"] | None = None,
) -> Program:
    """Do what a recorded program did, a recorded step in every round.

    Between collectives it computes for as long as the recorded program did. It issues and awaits
    them in the recorded order; how long they take is the network's business.

    Parameters
    ----------
    path
        A file that ``realrun record`` has written.
    steps
        "median": every step is the same, each of its computations the median over the recorded
        steps. "each": the recorded steps in turn, each with its own times.
    sha256
        Of the file; by default that of the file as it is now. Another file is refused.
    reduce_scatter
        "sharded": each worker sends the other workers their shards. "torch": as torch on gloo,
        which all-reduces the whole buffer. By default "torch" where the network's algorithm is
        gloo, else "sharded".
    """
    found = load(Path(path))
    if sha256 not in (None, found.sha256):
        raise ArgumentError(f"path = {path}: the file has changed; its sha256 is {found.sha256}")
    try:
        own = found.plan.on(worker.workers).ranks[worker.rank]
    except PlanError as error:
        raise ArgumentError(f"path = {path}: {error}") from error
    if steps == "median":
        own = own.median
    computations = [[_computation(s) for s in row] for row in own.seconds.tolist()]
    last = max((i for i, item in enumerate(own.items) if isinstance(item, Computes)), default=-1)
    in_flight: dict[tuple[int, int], Activity] = {}
    number = 0
    while worker.next_round(steps=1):
        of_step = computations[number % len(computations)]
        for place, item in enumerate(own.items):
            if isinstance(item, Computes):
                yield worker.compute(of_step[item.place], commits=place == last)
            elif isinstance(item, Starts):
                in_flight[number, item.number] = _start(worker, item, reduce_scatter)
            elif isinstance(item, Agrees):
                agreed = worker.control(item.round_trips, over=item.over)
                in_flight[number, item.number] = agreed
            elif (awaited := in_flight.get((number - item.back, item.number))) is not None:
                yield awaited
        number += 1
        # What has been awaited is forgotten, and what is never awaited as well.
        for key in [key for key in in_flight if key[0] < number - _KEPT]:
            del in_flight[key]


def _start(worker: Worker, item: Starts, reduce_scatter: str | None) -> Activity:
    """Issue a recorded collective, or one side of what one rank sends to another."""
    buffer, operation = _Buffer(item.name, item.elements), family(item.operation)
    if item.sends is not None:
        sender, receiver = item.sends
        if worker.rank == sender:
            return worker.send(buffer, item.dtype, to=receiver)
        return worker.receive(buffer, item.dtype, source=sender)
    if operation == BROADCAST:
        root = members_of(item.over, worker.workers).ranks[root_of(item.operation)]
        return worker.broadcast(buffer, item.dtype, over=item.over, root=root)
    if operation == "reduce_scatter" and reduce_scatter == "torch":
        operation = "all_reduce"
    start: Callable[..., Activity] = getattr(worker, operation)
    return start(buffer, item.dtype, over=item.over)


_KEPT = 8  # steps for which something may be in flight


def _computation(seconds: float) -> Callable[[], None]:
    """Return an operation that takes that long."""

    def computation() -> None: ...

    row = Operation(COMPUTATION, "compute", "nothing", seconds=seconds)
    computation.operation = row  # type: ignore[attr-defined]
    return computation
