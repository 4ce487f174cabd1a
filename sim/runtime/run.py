"""One run: all drivers, devices and groups, and the clock that they share."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any

from sim.clock import Clock
from sim.members import Members, is_transfer
from sim.methods import METHODS
from sim.methods.inside import INSIDE
from sim.models.sized import Sized
from sim.network.flows import Flows
from sim.network.links import Links
from sim.network.message_links import TooManyMessages
from sim.network.schedules import REQUANTIZED
from sim.network.states import LinksError
from sim.network.varying_flows import VaryingFlows
from sim.program import QUANTIZED, PeerLost
from sim.records.scenario import Scenario
from sim.records.varying import period_of
from sim.runtime import limits
from sim.runtime.computation import Computation, Factors
from sim.runtime.context import context_of
from sim.runtime.control import ControlGroup
from sim.runtime.device import Device
from sim.runtime.driver import MAIN, Driver
from sim.runtime.errors import (
    CollectiveMismatch,
    Deadlock,
    ReplayError,
    SimulationError,
    TooLarge,
)
from sim.runtime.gloo_groups import GlooGroup
from sim.runtime.groups import Collective, Group, Simulated
from sim.runtime.periods import simulate_periods
from sim.runtime.progress import Progress
from sim.runtime.shared import Replica, Running, Shared
from sim.runtime.transport import Transport
from sim.runtime.window import Longer, simulate_window
from sim.trace.packed import PackedRows
from sim.trace.table import Context, Trace


class NotAlikeError(SimulationError):
    """Workers that were simulated once are told apart: a collective is over some of them."""


class Runtime:
    """One run in virtual time. Use :func:`simulate`."""

    def __init__(
        self,
        scenario: Scenario,
        rounds: int,
        models: Mapping[int, Any] | None,
        replay: Trace | None,
        *,
        merge: bool = True,
    ) -> None:
        self.scenario = scenario
        self._clock = Clock()
        links = Links(scenario)
        flows = VaryingFlows(self._clock, links.states) if links.varies else Flows(self._clock)
        message_links = links.message_links(self._clock) if links.by_messages else None
        if message_links is not None:
            message_links.most = limits.MOST_MESSAGES
        # With gloo a collective does not end for all at once: no two workers are alike.
        merge = merge and models is None and replay is None and message_links is None
        self.standing_for = merged(scenario, merge=merge)
        collectives, workers = scenario.network.collectives, scenario.workers
        concurrent = collectives.concurrent
        machines = {rank: workers[rank].machine for rank in self.standing_for}
        devices = {
            rank: Device(
                self._clock,
                machine,
                links.slowest_from(rank) if machine.transmission_slowdown else inf,
                flows,
            )
            for rank, machine in machines.items()
        }
        self._sent_share: dict[str, tuple[float, ...]] = {}

        def simulated_of(members: Members, *, all_alike: bool = True) -> Simulated:
            if not members.name and all_alike:
                return self.standing_for
            if len(self.standing_for) < len(workers):
                raise NotAlikeError
            return {rank: (rank,) for rank in members.ranks}

        def new_control(name: str, members: Members) -> ControlGroup:
            slowest_s = links.slowest_round_trip(members)
            return ControlGroup(name, members, simulated_of(members), self._clock, slowest_s)

        def new_group(name: str, members: Members) -> Group | GlooGroup:
            simulated = simulated_of(members, all_alike=not is_transfer(name))
            block = collectives.quantize_block
            alone = len(members) == 1
            transport = Transport(
                members,
                links,
                flows,
                {rank: devices[rank] for rank in simulated},
                0.0 if alone else collectives.first_seconds,
                self._sent_share,
                self._clock,
            )
            given = (name, members, simulated, self._clock, transport, concurrent, block)
            return (
                Group(*given)
                if message_links is None or alone
                else GlooGroup(*given, message_links)
            )

        horizon = scenario.horizon_tokens
        self._shared = Shared(
            self._clock,
            len(workers),
            new_group,
            new_control,
            scenario.model.parameters,
            rounds,
            inf if horizon is None else horizon,
            quantize_block=collectives.quantize_block,
            by_tokens=scenario.run.average_by == "tokens",
            message_links=message_links,
        )
        self._shared.most_rows = limits.MOST_ROWS
        if message_links is None and len(machines) >= limits.PACKED_FROM:
            self._shared.rows = PackedRows()
            self._shared.most_rows *= limits.PACKED_TIMES
        if replay is not None:
            logged = replay.observations()
            self._shared.replay = {key: deque(answers) for key, answers in logged.items()}
        batches = tuple(worker.machine.batch_tokens for worker in workers)
        size = scenario.model
        self._replicas = [
            Replica(
                rank,
                scenario.ranks_by_site[workers[rank].site],
                models[rank]
                if models
                else Sized(size, machine.n_grad_accumulation, machine.batch_tokens),
                devices[rank],
                Computation(
                    machine,
                    size.layers,
                    scenario.shards,
                    Factors(
                        machine.jitter,
                        scenario.run.seed,
                        workers[rank].random_stream,
                        scenario.replication,
                    ),
                ),
                Progress(batches, scenario.tokens_per_step, rank),
            )
            for rank, machine in machines.items()
        ]

    def run(self, longer: Longer | None = None) -> Trace:
        """Let all programs run to their end; ``longer`` may have them begin more rounds."""
        method, shared = self.scenario.method, self._shared
        if longer is not None:
            shared.longer = partial(self._rounds, longer)
        for driver in [
            Driver(shared, replica, MAIN, MAIN, side=False) for replica in self._replicas
        ]:
            begin = partial(driver.begin, method.program(driver, **method.arguments), _ended)
            if skew := self.scenario.run.start_skew_s * driver.rank:
                self._clock.after(skew, begin)
            else:
                begin()
        try:
            self._clock.run()
        except TooManyMessages:
            raise self._too_many_messages() from None
        if shared.running:
            raise Deadlock(self._who_waits(list(shared.running)))
        for failed in shared.failed:
            _ended(failed.error)
        for group in (*shared.groups.values(), *shared.controls.values()):
            for call, collective in group.calls.items():
                missing = _missing(group, collective)
                if missing and not collective.failed:
                    raise CollectiveMismatch(
                        f"call {call} of group {group.name}: rank {collective.arrived[0]} called "
                        f"{collective.operation}, rank {missing[0]} never did; every worker must "
                        "issue the same collectives in the same order"
                    )
        if isinstance(shared.rows, PackedRows):
            shared.rows.close()
        return Trace(shared.rows, self._context(), shared.last_end)

    def _too_many_messages(self) -> TooLarge:
        now = max(replica.round for replica in self._replicas)
        return TooLarge(
            f"the simulation passed {limits.MOST_MESSAGES} messages of gloo's in round {now} of "
            f"{self._shared.rounds}, {self._clock.now:.3g} s into the run; ask for a smaller "
            'run.measured_rounds, or for network.collective.algorithm = "ring", which computes a '
            "collective's time without its messages"
        )

    def _rounds(self, longer: Longer) -> int:
        """Return how many rounds are begun, where the first program has begun them all."""
        shared, most = self._shared, self.scenario.run.rounds
        if most is not None and shared.rounds >= most:
            return shared.rounds
        asked = longer(shared.rows, self._clock.now)
        return asked if most is None else min(asked, most)

    def _who_waits(self, blocked: list[Running]) -> str:
        lines, groups = [], {**self._shared.groups, **self._shared.controls}
        for driver in blocked[:4]:
            activity = driver.blocked_on
            assert activity is not None
            text = f"rank {driver.rank} ({driver.name}) waits for {activity.text}"
            if activity.group in groups and activity.call >= 0:
                group = groups[activity.group]
                missing = _missing(group, group.calls.get(activity.call))
                text += f", call {activity.call} of group {activity.group}"
                if missing:
                    text += f", which rank {', '.join(map(str, missing[:4]))} never issued"
            lines.append(text)
        if len(blocked) > 4:
            lines.append(f"and {len(blocked) - 4} more")
        return "deadlock: " + "; ".join(lines)

    def _context(self) -> Context:
        found = context_of(self.scenario, self._sent_share)
        return replace(found, standing_for=self.standing_for, causes=self._shared.causes)


def _missing(group: Group | GlooGroup | ControlGroup, collective: Collective | None) -> list[int]:
    """Return the members of a group that have not called a collective."""
    arrived = set(collective.arrived) if collective is not None else set()
    return [rank for rank in group.simulated if rank not in arrived]


def _ended(failed: PeerLost | None) -> None:
    """End the run with a failure that no program has caught."""
    if failed is not None:
        raise SimulationError(str(failed)) from failed


def merged(scenario: Scenario, *, merge: bool) -> dict[int, tuple[int, ...]]:
    """Group ranks that behave alike: same machine and arguments, nothing random, a program of ours.

    Collectives are barriers over all workers, so two workers with the same machine and the same
    entries of arguments per worker have the same timeline wherever they stand. A method of the
    user's may look at its rank. One that names members is begun again with all workers apart.
    """
    method = scenario.method
    ours = (METHODS | INSIDE).get(method.name) is method.program
    each = [value for value in method.arguments.values() if isinstance(value, tuple)]
    per_worker = all(len(value) == len(scenario.workers) for value in each)
    if not merge or not ours or not per_worker or scenario.run.start_skew_s:
        return {worker.rank: (worker.rank,) for worker in scenario.workers}
    alike: dict[Any, list[int]] = {}
    for worker in scenario.workers:
        constant = worker.machine.jitter.distribution == "constant"
        own = tuple(value[worker.rank] for value in each)
        alike.setdefault((worker.machine, own) if constant else worker.rank, []).append(worker.rank)
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
        many as the window needs (:mod:`sim.runtime.window`).
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
        When the program cannot continue.
    sim.program.ArgumentError
        When the method's arguments exclude each other.
    """
    narrow = scenario.comm_dtype in QUANTIZED
    if models and narrow and scenario.network.collectives.algorithm == REQUANTIZED:
        raise SimulationError(
            f"{REQUANTIZED}: what {scenario.comm_dtype} by ring makes of numbers is not computed, "
            "only its time; train the model with another algorithm"
        )
    if replay is not None:
        _check_replay(scenario, replay)
        if rounds is None:
            rounds = len(replay.round_begins()) - 1

    def simulated(*, merge: bool) -> Trace:
        def run(asked: Scenario, limit: int, longer: Longer | None) -> Trace:
            # No more rounds than the horizon has: the program then ends by itself.
            limit = limit if asked.run.rounds is None else min(limit, asked.run.rounds)
            return Runtime(asked, limit, models, replay, merge=merge).run(longer)

        if rounds is not None:
            return Runtime(scenario, rounds, models, replay, merge=merge).run()
        period = period_of(scenario)
        if period is not None:
            return simulate_periods(scenario, run, period)
        return simulate_window(scenario, run)

    with _garbage_collection_paused():
        try:
            try:
                return simulated(merge=True)
            except NotAlikeError:
                return simulated(merge=False)
        except LinksError as error:
            raise SimulationError(str(error)) from None


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
