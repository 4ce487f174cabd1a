"""A program run by one worker without peers: the least time that a setting takes.

Other workers are taken to call every collective when this one does, and nothing slows anything
down. As every time of a run is a maximum or a sum of earlier ones, the run with its peers takes at
least as long: each worker's rehearsal is a lower bound, and where all workers are equal and timing
is not random it is the time itself.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import floor, inf
from typing import Any, NamedTuple

import numpy as np

from sim.members import Members, group_of, members_of
from sim.models.sized import Sized
from sim.network.links import Links
from sim.program import QUANTIZED, Buffer, Program, declared_operation, wire_bytes
from sim.questions.cost import TB
from sim.records.scenario import Jitter, Scenario
from sim.runtime.computation import Computation, Factors
from sim.runtime.rehearsal import Alone
from sim.trace.layers import applied_to

_FEWEST, _MOST = 4, 40  # rounds
_LATER = 12  # rounds over which the least is taken where they do not repeat
_SAME = 1e-9
_MOST_CALLS = 100_000

EXCHANGES = {"acco": 2, "dpu": 1, "wp": 1}
"""Exchanges per committed update of the methods that take micro-batches until one is done."""


@dataclass(frozen=True)
class Bounds:
    """Bounds on what a setting gives, in its steady state."""

    #: Seconds per token of all workers, at least.
    token_s: float
    #: Compute utilization, at most.
    utilization: float
    #: The same two however communication is moved in time: by overlap and delays alone.
    least_token_s: float
    most_utilization: float
    #: Tokens of all workers per committed update; at least, where ``looks``.
    tokens_per_update: float
    #: Bytes that a worker sends per token of all workers, on average.
    sent_per_token: float
    #: Price of the bytes that leave sites per token of all workers, at least; 0 without prices.
    egress_money_per_token: float
    #: Whether the method looks at the clock, so that what it computes depends on the network.
    looks: bool
    #: Operation, type, bytes and members of every kind of collective.
    calls: frozenset[tuple[str, str, float, Members]]


class _Price(NamedTuple):
    """What a collective takes: seconds, those in which the fullest link is full, bytes, money."""

    seconds: float
    filling_s: float
    #: Bytes that a member sends on average.
    sent: float
    #: Price of the bytes that all members send to other sites.
    egress_money: float


class _Looks(Exception):  # noqa: N818 - not an error
    """The program looks at the clock."""


class _Enough(Exception):  # noqa: N818 - not an error
    """Enough rounds have been run."""


class _Ended:
    """Something started whose end is known already."""

    __slots__ = ("end_s",)

    def __init__(self, end_s: float) -> None:
        self.end_s = end_s

    @property
    def done(self) -> bool:
        raise _Looks


class _Alone(Alone[_Ended]):
    """One worker with a clock of its own; see :class:`sim.program.Worker`."""

    def __init__(self, scenario: Scenario, rank: int, links: Links) -> None:
        machine = scenario.workers[rank].machine
        model = Sized(scenario.model, machine.n_grad_accumulation, machine.batch_tokens)
        super().__init__(scenario, rank, model)
        self._links = links
        constant = Factors(Jitter(), 0, 0)
        self._computation = Computation(machine, scenario.model.layers, self.workers, constant)
        self._how = scenario.network.collectives
        self._group = ""
        self._calls = 0
        self._round_trips: dict[str, float] = {}  # by the members' name
        self._costs: dict[tuple[str, str, float, str], _Price] = {}
        sites = [worker.site for worker in scenario.workers]
        per_byte = [(site.tariff.per_tb or 0.0) / TB for site in scenario.sites]
        self._per_byte = np.array([per_byte[site] for site in sites])
        self.clock = self._free = 0.0
        #: Begin of every round; until then tokens, updates, bytes, seconds trained and computed,
        #: money for egress.
        self.rounds: list[tuple[float, ...]] = []
        self.updates = self.sent = self.trained_s = self.busy_s = self.egress_money = 0.0
        self.repeats = False
        #: Whether the steps of a round are not known beforehand.
        self.unknown = False
        #: Seconds on the wire of every group, and the ends of its collectives.
        self.wire_s: defaultdict[str, float] = defaultdict(float)
        self._ends: defaultdict[str, deque[float]] = defaultdict(
            lambda: deque(maxlen=self._how.concurrent)
        )
        self.calls: set[tuple[str, str, float, Members]] = set()
        #: Seconds of the first background task.
        self.background_s = 0.0

    @property
    def now(self) -> float:
        raise _Looks

    def drive(self, program: Program) -> None:
        """Run a program to its end."""
        for activity in program:
            self._count()
            self.clock = max(self.clock, activity.end_s)  # type: ignore[attr-defined]

    def _count(self) -> None:
        self._calls += 1
        if self._calls > _MOST_CALLS:
            raise _Enough

    def next_round(self, steps: int | tuple[int, ...] | None = None) -> bool:
        self.unknown = self.unknown or steps is None
        mark = (
            self.clock,
            self._progress.tokens,
            self.updates,
            self.sent,
            self.trained_s,
            self.busy_s,
            self.egress_money,
        )
        self.rounds.append(mark)
        self.repeats = self._repeat()
        if len(self.rounds) > _MOST or (self.repeats and not self.unknown):
            raise _Enough
        self._progress.begin(steps)
        return True

    def _repeat(self) -> bool:
        """Whether the last three rounds took, trained, applied and sent the same."""
        if len(self.rounds) <= _FEWEST:
            return False
        rounds = [[b - a for a, b in zip(*two, strict=True)] for two in pairwise(self.rounds[-4:])]
        return all(
            abs(before - after) <= _SAME * abs(after)
            for one, other in pairwise(rounds)
            for before, after in zip(one, other, strict=True)
        )

    def compute(
        self,
        verb: Callable[..., None],
        *args: Any,
        times: int = 1,
        commits: bool = False,
        **kwargs: Any,
    ) -> _Ended:
        self._count()
        name = verb.__name__
        layers = applied_to(args, kwargs)[0] if args or kwargs else None
        declared = declared_operation(verb)
        work = self._computation.seconds(name, layers, times, declared)
        if name in ("inner_step", "accumulate", "forward", "backward"):
            self.trained_s += work
        if name == "inner_step":
            work += self._computation.seconds("inner_optimizer", None, times)
        if commits:
            whole = self._scenario.model.layers
            self.updates += times * (len(layers) / whole if layers is not None else 1.0)
        self.model.perform(verb, args, kwargs, times)
        return self._queued(work)

    def _queued(self, work: float) -> _Ended:
        if not self._group:
            self.busy_s += work
        self._free = max(self._free, self.clock) + work
        return _Ended(self._free)

    def _collective(
        self,
        operation: str,
        buffer: Buffer,
        dtype: str,
        mean: bool = False,
        over: Iterable[int] | None = None,
    ) -> _Ended:
        self._count()
        members: Members = members_of(over, self.workers, self.rank)
        size = wire_bytes(buffer.elements, dtype, self._how.quantize_block)
        called = self.clock
        if dtype in QUANTIZED:
            share = buffer.elements / self._scenario.model.parameters
            called = self._queued(self._computation.seconds("quantize", None, 1) * share).end_s
        self.calls.add((operation, dtype, size, members))
        group = group_of(self._group, operation, members)
        price = self._priced(operation, dtype, size, members)
        ends = self._ends[group]
        begin = max(called, ends[0]) if len(ends) == self._how.concurrent else called
        end = begin + price.seconds
        ends.append(max(end, ends[-1]) if ends else end)
        self.wire_s[group] += price.filling_s
        self.sent += price.sent
        self.egress_money += price.egress_money
        return _Ended(end)

    def control(
        self, round_trips: int, seconds: float = 0.0, *, over: Iterable[int] | None = None
    ) -> _Ended:
        self._count()
        members = members_of(over, self.workers, self.rank)
        return _Ended(self.clock + round_trips * self._round_trip(members) + seconds)

    def _round_trip(self, members: Members) -> float:
        if members.name not in self._round_trips:
            self._round_trips[members.name] = self._links.slowest_round_trip(members)
        return self._round_trips[members.name]

    def _priced(self, operation: str, dtype: str, size: float, members: Members) -> _Price:
        key = operation, dtype, size, members.name
        if key not in self._costs:
            cost = self._links.cost(operation, dtype, size, members)
            share = self._links.sent_share(operation, dtype, members)
            egress = 0.0
            if self._per_byte.any():
                leaving = self._links.leaving_share(operation, dtype, members)
                egress = size * float(leaving @ self._per_byte[list(members.ranks)])
            self._costs[key] = _Price(
                cost.seconds,
                cost.transmit_s * float(cost.use.max(initial=0.0)),
                size * float(share.mean()),
                egress,
            )
        return self._costs[key]

    def spawn(self, program: Callable[..., Program], *args: Any) -> _Ended:
        self._count()
        main = self._group, self.clock, self._free
        self._group, self._free = f"{program.__name__}:", self.clock
        self.drive(program(self, *args))
        ended = _Ended(self.clock)
        self._group, self.clock, self._free = main
        self.background_s = self.background_s or ended.end_s - self.clock
        return ended


def rehearsed(scenario: Scenario, links: Links) -> Bounds:
    """Bound what a scenario takes.

    Parameters
    ----------
    scenario
        Whatever its method.
    links
        Of the same network and workers; costs are kept in it, so that many settings share them.

    Raises
    ------
    ArgumentError
        If the method's arguments exclude each other.
    """
    alone = _Alone(scenario, _slowest(scenario), links)
    try:
        alone.drive(scenario.method.program(alone, **scenario.method.arguments))
    except _Enough:
        pass
    except _Looks:
        return _of_one_that_looks(scenario, alone)
    return _of_rounds(scenario, alone)


def _slowest(scenario: Scenario) -> int:
    """Return the rank whose round takes longest, which is the tightest bound."""
    steps = scenario.method.arguments.get("sync_every", 1)

    def seconds(rank: int) -> float:
        machine = scenario.workers[rank].machine
        own = steps[rank] if isinstance(steps, tuple) else 1
        return own * machine.step_seconds / machine.speed

    return max(range(len(scenario.workers)), key=seconds)


def _of_rounds(scenario: Scenario, alone: _Alone) -> Bounds:
    marks = alone.rounds
    if alone.unknown or len(marks) < 2:
        return _of_one_that_looks(scenario, alone)
    later = marks[-2:] if alone.repeats else marks[-_LATER - 1 :]
    lengths = [b[0] - a[0] for a, b in pairwise(later)]
    rounds = 1 if alone.repeats else len(marks) // 2
    first, last = marks[-1 - rounds], marks[-1]
    tokens, updates = last[1] - first[1], last[2] - first[2]
    a_round = tokens / rounds
    wire = max(alone.wire_s.values(), default=0.0) * a_round / (last[1] - marks[0][1])
    if scenario.network.collectives.tables:
        wire = 0.0  # measured times say nothing of links
    least_s = max((last[5] - first[5]) / rounds, wire)
    round_s = max(min(lengths), wire)
    trained = (last[4] - first[4]) / rounds
    mean = _mean_work(scenario, trained)
    return Bounds(
        token_s=round_s / a_round,
        utilization=min(1.0, mean / round_s) if round_s > 0 else 1.0,
        least_token_s=least_s / a_round,
        most_utilization=min(1.0, mean / least_s) if least_s > 0 else 1.0,
        tokens_per_update=tokens / updates if updates > 0 else inf,
        sent_per_token=(last[3] - first[3]) / tokens,
        egress_money_per_token=(last[6] - first[6]) / tokens,
        looks=False,
        calls=frozenset(alone.calls),
    )


def _mean_work(scenario: Scenario, slowest_s: float) -> float:
    """Return the mean over workers of the seconds that a round trains, from the slowest one's."""
    steps = scenario.method.arguments.get("sync_every", 1)
    work = []
    for worker in scenario.workers:
        machine = worker.machine
        own = steps[worker.rank] if isinstance(steps, tuple) else 1
        work.append(own * machine.step_seconds / machine.speed)
    return slowest_s * sum(work) / len(work) / max(work)


def _of_one_that_looks(scenario: Scenario, alone: _Alone) -> Bounds:
    """Bound a method that computes while it communicates.

    At most every worker always computes. Where it takes micro-batches until an exchange of D
    seconds is done, each worker takes at least max(n_grad_accumulation, floor(D / micro-batch)).
    """
    exchanges = EXCHANGES.get(scenario.method.name, 0)
    pace = tokens = 0.0
    for machine in (worker.machine for worker in scenario.workers):
        step_s = machine.step_seconds / machine.speed
        pace += machine.batch_tokens / step_s if step_s > 0 else inf
        micro_batch_s = step_s / machine.n_grad_accumulation
        fitting = floor(alone.background_s / micro_batch_s) if micro_batch_s > 0 else 0
        most = max(machine.n_grad_accumulation, fitting)
        tokens += machine.batch_tokens / machine.n_grad_accumulation * most
    return Bounds(
        token_s=1 / pace,
        utilization=1.0,
        least_token_s=1 / pace,
        most_utilization=1.0,
        tokens_per_update=exchanges * tokens,
        sent_per_token=0.0,
        egress_money_per_token=0.0,
        looks=True,
        calls=frozenset(alone.calls),
    )
