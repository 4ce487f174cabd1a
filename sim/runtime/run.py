"""One run: all drivers, devices and groups, and the clock that they share."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any

from sim.clock import Clock
from sim.compute import Computation, Factors
from sim.limits import Rows
from sim.methods import METHODS
from sim.models import Sized
from sim.network import Links, Wire
from sim.rounding import carried
from sim.runtime.device import Device
from sim.runtime.driver import Driver
from sim.runtime.errors import CollectiveMismatch, Deadlock, ReplayError
from sim.runtime.gloo_groups import GlooGroup
from sim.runtime.groups import Collective, Group, Numbers
from sim.trace import Context, Row, Trace
from sim.window import simulate_window

if TYPE_CHECKING:
    from sim.program import Buffer
    from sim.scenario.resolved import Scenario

MAIN = "main"


class Runtime:
    """One run in virtual time. Use :func:`simulate`."""

    def __init__(
        self,
        scenario: Scenario,
        rounds: int,
        models: Mapping[int, Any] | None,
        replay: Trace | None,
    ) -> None:
        self.scenario = scenario
        self.rounds = rounds
        self.clock = Clock()
        self.wire = Wire(self.clock)
        self.links = Links(scenario)
        self.wires = self.links.wires(self.clock) if self.links.by_messages else None
        self.rows = Rows(self._too_many_rows)
        self.unfinished = 0  # activities that have been started and have not ended
        # With gloo a collective does not end for all at once: no two workers are alike.
        merge = models is None and replay is None and self.wires is None
        self.standing_for = merged(scenario, merge=merge)
        self.simulated = tuple(self.standing_for)
        collectives = scenario.network.collectives
        self.concurrent = collectives.concurrent
        self.quantize_block = collectives.quantize_block
        self.parameters = scenario.model.parameters
        self.last_end = 0.0
        self.drivers: list[Driver] = []
        self.groups: dict[str, Group | GlooGroup] = {}
        self._calls: dict[tuple[int, str], int] = {}
        self._sent_share: dict[str, tuple[float, ...]] = {}
        self.replay = (
            {key: deque(answers) for key, answers in replay.observations().items()}
            if replay is not None
            else None
        )
        size, workers = scenario.model, scenario.workers
        self.models = models or {
            rank: Sized(
                size, workers[rank].machine.n_grad_accumulation, workers[rank].machine.batch_tokens
            )
            for rank in self.simulated
        }
        self.computations = {
            rank: Computation(
                workers[rank].machine,
                size.layers,
                len(workers),
                Factors(
                    workers[rank].machine.jitter,
                    scenario.run.seed,
                    workers[rank].random_stream,
                    scenario.replication,
                ),
            )
            for rank in self.simulated
        }
        self.devices = {rank: Device(self, workers[rank]) for rank in self.simulated}
        self._disturbed = any(d.disturbed for d in self.devices.values())
        self.by_tokens = scenario.run.average_by == "tokens"
        self.batch_tokens = tuple(worker.machine.batch_tokens for worker in workers)
        self.tokens_per_step = scenario.tokens_per_step
        horizon = scenario.horizon_tokens
        self.horizon_tokens = inf if horizon is None else horizon

    def _too_many_rows(self, row: Row) -> Exception:
        main = next(each for each in self.drivers if (each.rank, each.name) == (row.rank, MAIN))
        return main.too_many_rows()

    def group(self, name: str) -> Group | GlooGroup:
        """The lasting group of that name."""
        if name not in self.groups:
            self.groups[name] = (
                Group(self, name) if self.wires is None else GlooGroup(self, name, self.wires)
            )
        return self.groups[name]

    def count_call(self, rank: int, group: str) -> int:
        """Number of a rank's next call in a group."""
        key = (rank, group)
        number = self._calls.get(key, 0)
        self._calls[key] = number + 1
        return number

    def numbers_of(
        self, rank: int, buffer: Buffer, dtype: str, weight: float = 1.0
    ) -> Numbers | None:
        """Round what a buffer holds, times a weight, as its dtype does; None without numbers."""
        values = getattr(buffer, "values", None)
        if values is None:
            return None
        weighted = values if weight == 1 else values * weight
        sent = carried(weighted, dtype, self.quantize_block)
        if hasattr(buffer, "sent"):
            buffer.sent = sent
        return rank, sent, values

    def start(self, group: Group, call: int, collective: Collective) -> None:
        """Put a ready collective on the wire."""
        cost = self.links.cost(collective.operation, collective.dtype, collective.bytes)
        extra = self.first_extra(call)
        for row in collective.rows:
            row.work_s = cost.seconds + extra
        rates = self.rates(collective, cost.seconds)
        self._communicating(+1, rates)

        def ended() -> None:
            self._communicating(-1, rates)
            group.finish(call)

        self.wire.start(cost, extra, ended, group.name)

    def first_extra(self, call: int) -> float:
        """Seconds that a group's first collective takes longer."""
        first = self.scenario.network.collectives.first_seconds
        return first if call == 0 and len(self.scenario.workers) > 1 else 0.0

    def rates(self, collective: Collective, seconds: float) -> list[float]:
        """Bytes/s that each rank sends on average in a collective that takes so long alone."""
        key = f"{collective.operation} {collective.dtype}"
        if key not in self._sent_share:
            share = self.links.sent_share(collective.operation, collective.dtype)
            self._sent_share[key] = tuple(share.tolist())
        if not self._disturbed or seconds <= 0:
            return []
        return [share * collective.bytes / seconds for share in self._sent_share[key]]

    def _communicating(self, change: int, rates: list[float]) -> None:
        if self._disturbed:
            for rank, device in self.devices.items():
                device.communicates(change, rates[rank] if rates else 0.0)

    def run(self) -> Trace:
        """Let all programs run to their end."""
        method = self.scenario.method
        for rank in self.simulated:
            driver = Driver(self, rank, MAIN, MAIN, side=False)
            self.drivers.append(driver)
        for driver in list(self.drivers):
            driver.begin(method.program(driver, **method.arguments), lambda: None)
        self.clock.run()
        blocked = [driver for driver in self.drivers if not driver.over]
        if blocked:
            raise Deadlock(self._who_waits(blocked))
        for group in self.groups.values():
            for call, collective in group.calls.items():
                missing = [rank for rank in self.simulated if rank not in collective.arrived]
                if missing:
                    raise CollectiveMismatch(
                        f"call {call} of group {group.name}: rank {collective.arrived[0]} called "
                        f"{collective.operation}, rank {missing[0]} never did; every worker must "
                        "issue the same collectives in the same order"
                    )
        return Trace(self.rows, self._context(), self.last_end)

    def _who_waits(self, blocked: list[Driver]) -> str:
        lines = []
        for driver in blocked[:4]:
            activity = driver.blocked_on
            assert activity is not None
            text = f"rank {driver.rank} ({driver.name}) waits for {activity.text}"
            if activity.group in self.groups and activity.call >= 0:
                collective = self.groups[activity.group].calls.get(activity.call)
                arrived = collective.arrived if collective else []
                missing = [rank for rank in self.simulated if rank not in arrived]
                text += f", call {activity.call} of group {activity.group}"
                if missing:
                    text += f", which rank {', '.join(map(str, missing[:4]))} never issued"
            lines.append(text)
        if len(blocked) > 4:
            lines.append(f"and {len(blocked) - 4} more")
        return "deadlock: " + "; ".join(lines)

    def _context(self) -> Context:
        scenario = self.scenario
        workers = scenario.workers
        return Context(
            sites=tuple(site.name for site in scenario.sites),
            site_of=tuple(worker.site for worker in workers),
            layers=scenario.model.layers,
            n_grad_accumulation=tuple(w.machine.n_grad_accumulation for w in workers),
            step_s=tuple(w.machine.step_seconds / w.machine.speed for w in workers),
            micro_batch_tokens=tuple(
                w.machine.batch_tokens / w.machine.n_grad_accumulation for w in workers
            ),
            concurrent=self.concurrent,
            first_collective_s=scenario.network.collectives.first_seconds,
            standing_for=self.standing_for,
            sent_share=self._sent_share,
            method=scenario.method.name,
        )


def merged(scenario: Scenario, *, merge: bool) -> dict[int, tuple[int, ...]]:
    """Group ranks that behave alike: same machine, nothing random, a program of ours.

    Collectives are barriers over all workers, so two workers with the same machine have the
    same timeline wherever they stand. A method of the user's may look at its rank.
    """
    method = scenario.method
    ours = METHODS.get(method.name) is method.program
    by_rank = any(isinstance(value, tuple) for value in method.arguments.values())
    if not merge or not ours or by_rank:
        return {worker.rank: (worker.rank,) for worker in scenario.workers}
    alike: dict[Any, list[int]] = {}
    for worker in scenario.workers:
        constant = worker.machine.jitter.distribution == "constant"
        alike.setdefault(worker.machine if constant else worker.rank, []).append(worker.rank)
    return {ranks[0]: tuple(ranks) for ranks in alike.values()}


def simulate(
    scenario: Scenario,
    *,
    rounds: int | None = None,
    models: Mapping[int, Any] | None = None,
    replay: Trace | None = None,
) -> Trace:
    """Run a scenario's method in virtual time.

    Parameters
    ----------
    scenario
        What runs where; see :mod:`sim.scenario`.
    rounds
        Rounds of the method to simulate; by default the horizon or, if that is longer, as
        many as the window needs (:mod:`sim.window`).
    models
        Rank -> model with state; by default only sizes are tracked, and workers that cannot
        be told apart are simulated once.
    replay
        A trace whose logged observations are repeated instead of looking.

    Returns
    -------
    Trace
        Times in virtual seconds.

    Raises
    ------
    CollectiveMismatch, Deadlock, ReplayError, TooLarge
        When the program cannot go on.
    sim.program.ArgumentError
        When the method's arguments exclude each other.
    """
    if replay is not None:
        _check_replay(scenario, replay)
        if rounds is None:
            rounds = len(replay.round_begins()) - 1

    def run(asked: Scenario, limit: int) -> Trace:
        # No more rounds than the horizon has: the program then ends by itself.
        limit = limit if asked.run.rounds is None else min(limit, asked.run.rounds)
        return Runtime(asked, limit, models, replay).run()

    with _garbage_collection_paused():
        if rounds is not None:
            return Runtime(scenario, rounds, models, replay).run()
        return simulate_window(scenario, run)


def _check_replay(scenario: Scenario, replay: Trace) -> None:
    was, workers = replay.context.method, len(scenario.workers)
    if (was, replay.workers) != (scenario.method.name, workers):
        raise ReplayError(
            f"the trace is of {was} on {replay.workers} workers, not of {scenario.method.name} on "
            f"{workers}; replay it with the scenario that made it"
        )


@contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    """Rows live to the end; scanning them again and again would make time grow faster than they.

    What a run leaves in cycles (programs, drivers) is small and collected afterwards.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
