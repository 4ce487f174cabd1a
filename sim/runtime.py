"""Runs programs in virtual time, on SimPy.

One driver per program of each worker asks its generator for the next activity and waits for
it. Computations queue on the worker; collectives are matched by group and call number, and
begin when the last member has called. Workers that nothing can tell apart are simulated once.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import simpy

from sim.compute import Computation, Factors, written
from sim.methods import METHODS
from sim.models import Sized
from sim.network import SAME_INSTANT, Links, Wire
from sim.program import QUANTIZED, Buffer, Program, wire_bytes
from sim.rounding import Floats, carried, reduced
from sim.trace import LOOK, ROUND, SPAWN, WAIT, Context, Row, Trace
from sim.window import rounds_to_simulate

if TYPE_CHECKING:
    from sim.scenario.resolved import Scenario, Worker

MAIN = "main"


class SimulationError(Exception):
    """A program cannot go on."""


class CollectiveMismatch(SimulationError):  # noqa: N818 - it says what it is
    """Members of a group called different collectives under one number."""


class Deadlock(SimulationError):  # noqa: N818
    """Workers wait for what will never come."""


class ReplayError(SimulationError):
    """A logged observation does not fit the program that is being replayed."""


class _Activity:
    """Something started; see :class:`sim.program.Activity`."""

    __slots__ = ("call", "driver", "ended", "group", "ready_s", "text", "waiters")

    def __init__(self, driver: _Driver, group: str = "", call: int = -1, text: str = "") -> None:
        self.driver = driver
        self.ended = False
        self.waiters: list[_Driver] = []
        self.group = group  # "" for a computation
        self.call = call
        self.ready_s = 0.0
        self.text = text

    @property
    def done(self) -> bool:
        return bool(self.driver.look(f"done {self.group} {self.call}", float(self.ended)))

    def end(self) -> None:
        self.ended = True
        waiters, self.waiters = self.waiters, []
        for driver in waiters:
            driver.advance()


class _Collective:
    """One call number of one group: who has arrived, and with what."""

    __slots__ = ("activities", "arrived", "bytes", "dtype", "mean", "numbers", "operation", "rows")

    def __init__(self, operation: str, dtype: str, size: float, mean: bool) -> None:
        self.operation = operation
        self.dtype = dtype
        self.bytes = size
        self.mean = mean
        self.arrived: list[int] = []
        self.rows: list[Row] = []
        self.activities: list[_Activity] = []
        self.numbers: list[tuple[int, Floats, Floats]] = []  # rank, as sent, where to write


class _Group:
    """The collectives of one group, carried out in the order of their call numbers."""

    def __init__(self, runtime: _Runtime, name: str) -> None:
        self.runtime = runtime
        self.name = name
        self.calls: dict[int, _Collective] = {}
        self.granted = 0  # call numbers below this are or were on the wire
        self.running = 0

    def arrive(
        self,
        driver: _Driver,
        call: int,
        buffer: Buffer,
        dtype: str,
        row: Row,
        activity: _Activity,
        mean: bool,
    ) -> None:
        runtime = self.runtime
        collective = self.calls.get(call)
        if collective is None:
            collective = _Collective(row.operation, dtype, row.bytes, mean)
            self.calls[call] = collective
        elif (row.operation, dtype, row.bytes) != (
            collective.operation,
            collective.dtype,
            collective.bytes,
        ):
            raise CollectiveMismatch(
                f"call {call} of group {self.name}: rank {driver.rank} calls {row.operation} of "
                f"{row.bytes:.0f} bytes ({dtype}), but rank {collective.arrived[0]} called "
                f"{collective.operation} of {collective.bytes:.0f} bytes ({collective.dtype}); "
                "every worker must issue the same collectives in the same order"
            )
        collective.arrived.append(driver.rank)
        collective.rows.append(row)
        collective.activities.append(activity)
        values = getattr(buffer, "values", None)
        if values is not None:
            sent = carried(values, dtype, runtime.quantize_block)
            if hasattr(buffer, "sent"):
                buffer.sent = sent
            collective.numbers.append((driver.rank, sent, values))
        if len(collective.arrived) == len(runtime.simulated):
            now = runtime.env.now
            for arrived in collective.rows:
                arrived.ready_s = now
            for waiting in collective.activities:
                waiting.ready_s = now
            self.grant()

    def grant(self) -> None:
        """Put on the wire what is ready and whose turn it is."""
        runtime = self.runtime
        while self.running < runtime.concurrent:
            collective = self.calls.get(self.granted)
            if collective is None or len(collective.arrived) < len(runtime.simulated):
                return
            call = self.granted
            self.granted += 1
            self.running += 1
            runtime.start(self, call, collective)

    def finish(self, call: int) -> None:
        collective = self.calls.pop(call)
        self.running -= 1
        now = self.runtime.env.now
        for row in collective.rows:
            row.end_s = now
        if collective.numbers:
            self.runtime.reduce(collective)
        self.grant()
        for activity in collective.activities:
            activity.end()


class _Queue:
    """One queue of a worker's device: computations one after the other, in order of the calls.

    ``stretch`` is how much slower than undisturbed it runs at present.
    """

    __slots__ = ("busy", "device", "jobs", "left", "runtime", "updated", "version")

    def __init__(self, runtime: _Runtime, device: _Device) -> None:
        self.runtime = runtime
        self.device = device
        self.jobs: deque[tuple[float, tuple[Row, ...], _Activity]] = deque()
        self.left = 0.0
        self.updated = 0.0
        self.version = 0
        self.busy = False

    def put(self, work: float, rows: tuple[Row, ...], activity: _Activity) -> None:
        if work <= 0 and not self.busy:
            now = self.runtime.env.now
            for row in rows:
                row.begin_s = row.end_s = now
            activity.ended = True
            return
        self.jobs.append((work, rows, activity))
        if not self.busy:
            self._begin()
            self.device.changed(self)

    def _begin(self) -> None:
        work, rows, _ = self.jobs[0]
        now = self.runtime.env.now
        for row in rows:
            row.begin_s = now
        self.busy = True
        self.left = work
        self.updated = now
        self.reschedule(self.device.stretch(self))

    def reschedule(self, stretch: float) -> None:
        self.version += 1
        version = self.version

        def fire(_: simpy.Event) -> None:
            if self.version == version:
                self._end()

        event = simpy.Timeout(self.runtime.env, self.left * stretch)
        event.callbacks.append(fire)

    def progress(self, stretch: float) -> None:
        """Account for the time since the last change, during which ``stretch`` held."""
        now = self.runtime.env.now
        self.left = max(0.0, self.left - (now - self.updated) / stretch)
        self.updated = now

    def _end(self) -> None:
        env = self.runtime.env
        self.runtime.wire.end_before(env.now * (1 + SAME_INSTANT))
        _, rows, activity = self.jobs.popleft()
        self.busy = False
        now = env.now
        if len(rows) == 1:
            rows[0].end_s = now
        else:  # several operations in one go: each its share of the time, in order
            begin = rows[0].begin_s
            total = sum(row.work_s for row in rows)
            for row in rows:
                row.begin_s = begin
                begin += (now - rows[0].begin_s) * (row.work_s / total if total else 0.0)
                row.end_s = begin
            rows[-1].end_s = now
        if self.jobs:
            self._begin()
        else:
            self.device.changed(self)
        activity.end()


class _Device:
    """The two queues of one worker and what disturbs them."""

    __slots__ = ("communicating", "contention", "queues", "side", "stretches")

    def __init__(self, runtime: _Runtime, worker: Worker) -> None:
        self.contention = worker.machine.communication_slowdown
        self.side = worker.machine.side_slowdown
        self.queues = (_Queue(runtime, self), _Queue(runtime, self))
        self.stretches = [1.0, 1.0]
        self.communicating = 0

    def stretch(self, queue: _Queue) -> float:
        factor = self.contention if self.communicating else 1.0
        if self.queues[0].busy and self.queues[1].busy:
            factor *= self.side
        self.stretches[self.queues.index(queue)] = factor
        return factor

    def changed(self, by: _Queue | None = None) -> None:
        """Something began or ended: bring the queues' speeds up to date."""
        if self.contention == 1.0 and self.side == 1.0:
            return
        for index, queue in enumerate(self.queues):
            if queue.busy and queue is not by:
                before = self.stretches[index]
                after = self.stretch(queue)
                if after != before:
                    queue.progress(before)
                    queue.reschedule(after)


class _Driver:
    """One program of one worker; the :class:`sim.program.Worker` that the program sees."""

    def __init__(self, runtime: _Runtime, rank: int, name: str, group: str, side: bool) -> None:
        self.runtime = runtime
        self.rank = rank
        self.name = name
        self.model = runtime.models[rank]
        self._group = group
        self._queue = runtime.devices[rank].queues[1 if side else 0]
        self._computation = runtime.computations[rank]
        self._observations = runtime.replay.get((rank, name)) if runtime.replay else None
        self._program: Generator[Any, None, None] | None = None
        self._waiting: Row | None = None
        self.blocked_on: _Activity | None = None
        self.ended: Callable[[], None] | None = None
        self.over = False
        self._round = 0
        self._steps = 0

    # -- driving -------------------------------------------------------------------------
    def begin(self, program: Program, ended: Callable[[], None]) -> None:
        self._program = program
        self.ended = ended
        self.advance()

    def advance(self) -> None:
        """Let the program go on until it waits for something that has not ended."""
        now = self.runtime.env.now
        if self._waiting is not None:
            self._waiting.end_s = now
            self._waiting.ready_s = self.blocked_on.ready_s  # type: ignore[union-attr]
            self._waiting = None
        self.blocked_on = None
        rows = self.runtime.rows
        for activity in self._program:  # type: ignore[union-attr]
            if activity.group:
                row = Row(
                    self.rank, self.name, WAIT, "", activity.group, activity.call, 0.0, 1, now
                )
                rows.append(row)
                if activity.ended:
                    row.end_s = now
                    row.ready_s = activity.ready_s
                    continue
                self._waiting = row
            elif activity.ended:
                continue
            self.blocked_on = activity
            activity.waiters.append(self)
            return
        self.over = True
        self.runtime.last_end = max(self.runtime.last_end, now)
        self.ended()  # type: ignore[misc]

    def look(self, what: str, answer: float) -> float:
        """Log an observation; in a replay, answer what was logged."""
        if self._observations is not None:
            if not self._observations:
                raise ReplayError(
                    f"rank {self.rank}, program {self.name}: looks once more ({what}) than the "
                    "trace has observations; replay a trace of the same method and horizon"
                )
            answer = self._observations.popleft()
        now = self.runtime.env.now
        self.runtime.rows.append(
            Row(self.rank, self.name, LOOK, what, "", -1, 0.0, 1, now, now, observed=answer)
        )
        return answer

    # -- what programs call ---------------------------------------------------------------
    @property
    def now(self) -> float:
        return self.look("now", self.runtime.env.now)

    def next_round(self, steps: int | None = None) -> bool:
        runtime = self.runtime
        now = runtime.env.now
        more = self._round < runtime.rounds and not self._reached(steps)
        row = Row(
            self.rank,
            self.name,
            ROUND,
            str(self._round),
            "",
            -1,
            0.0,
            (steps or 0) if more else 0,
            now,
            now,
        )
        runtime.rows.append(row)
        self._round += 1
        self._steps += steps or 0
        return more

    def _reached(self, steps: int | None) -> bool:
        horizon = self.runtime.horizon_tokens
        if steps is None:
            return bool(self.model.committed_tokens >= horizon)
        return self._steps * self.runtime.tokens_per_step >= horizon

    def compute(
        self, verb: Callable[..., None], *args: Any, times: int = 1, **kwargs: Any
    ) -> _Activity:
        operation = verb.__name__
        layers = args[0] if args and isinstance(args[0], range) else None
        detail = written(layers) if layers is not None else (str(args[0]) if args else "")
        try:
            work = self._computation.seconds(operation, layers, times)
        except KeyError:
            raise SimulationError(
                f"compute({operation}): no scenario has a time for this operation; "
                f"known are {', '.join(sorted(self._computation.knows_all))}"
            ) from None
        now = self.runtime.env.now
        row = Row(self.rank, self.name, operation, detail, "", -1, 0.0, times, now, now, now, work)
        self.runtime.rows.append(row)
        rows: tuple[Row, ...] = (row,)
        if operation == "inner_step":
            optimizer = self._computation.seconds("inner_optimizer", None, times)
            second = Row(
                self.rank,
                self.name,
                "inner_optimizer",
                f"0:{self.model.num_layers}",
                "",
                -1,
                0.0,
                times,
                now,
                now,
                now,
                optimizer,
            )
            self.runtime.rows.append(second)
            rows = (row, second)
            work += optimizer
        self.model.perform(verb, args, kwargs, times)
        activity = _Activity(self, text=f"{operation} {detail}".strip())
        self._queue.put(work, rows, activity)
        return activity

    def _collective(
        self, operation: str, buffer: Buffer, dtype: str, mean: bool = False
    ) -> _Activity:
        runtime = self.runtime
        size = wire_bytes(buffer.elements, dtype, runtime.quantize_block)
        group = runtime.group(self._group)
        call = runtime.count_call(self.rank, self._group)
        activity = _Activity(self, self._group, call, f"{operation} of {size:.0f} bytes")
        now = runtime.env.now
        if dtype in QUANTIZED:
            share = buffer.elements / runtime.parameters
            work = self._computation.seconds("quantize", None, 1) * share
            row = Row(
                self.rank, self.name, "quantize", buffer.detail, "", -1, 0.0, 1, now, now, now, work
            )
            runtime.rows.append(row)
            quantized = _Activity(self)
            self._queue.put(work, (row,), quantized)
        else:
            quantized = None
        detail = f"{buffer.name} {buffer.detail}".strip()
        row = Row(
            self.rank, self.name, operation, f"{detail} {dtype}", self._group, call, size, 1, now
        )
        runtime.rows.append(row)
        if quantized is None or quantized.ended:
            group.arrive(self, call, buffer, dtype, row, activity, mean)
        else:
            after = _After(lambda: group.arrive(self, call, buffer, dtype, row, activity, mean))
            quantized.waiters.append(after)  # type: ignore[arg-type]
        return activity

    def all_reduce(self, buffer: Buffer, dtype: str, *, mean: bool = True) -> _Activity:
        return self._collective("all_reduce", buffer, dtype, mean)

    def reduce_scatter(self, buffer: Buffer, dtype: str) -> _Activity:
        return self._collective("reduce_scatter", buffer, dtype)

    def all_gather(self, buffer: Buffer, dtype: str) -> _Activity:
        return self._collective("all_gather", buffer, dtype)

    def all_to_all(self, buffer: Buffer, dtype: str) -> _Activity:
        return self._collective("all_to_all", buffer, dtype)

    def broadcast(self, buffer: Buffer, dtype: str) -> _Activity:
        return self._collective("broadcast", buffer, dtype)

    def spawn(self, program: Callable[..., Program], *args: Any) -> _Activity:
        runtime = self.runtime
        name = program.__name__
        call = runtime.count_call(self.rank, f"spawn {name}")
        side = _Driver(runtime, self.rank, f"{name}#{call}", name, side=True)
        now = runtime.env.now
        runtime.rows.append(Row(self.rank, self.name, SPAWN, name, name, call, 0.0, 1, now, now))
        activity = _Activity(self, name, call, f"spawned {name}")
        runtime.drivers.append(side)

        def ended() -> None:
            runtime.drivers.remove(side)
            activity.ready_s = runtime.env.now
            activity.end()

        side.begin(program(side, *args), ended)
        return activity


class _After:
    """Stands among an activity's waiters to run something when it ends."""

    __slots__ = ("advance",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.advance = action


class _Runtime:
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
        self.env = simpy.Environment()
        self.wire = Wire(self.env)
        self.links = Links(scenario)
        self.rows: list[Row] = []
        self.standing_for = _standing_for(scenario, merge=models is None and replay is None)
        self.simulated = tuple(self.standing_for)
        collectives = scenario.network.collectives
        self.concurrent = collectives.concurrent
        self.quantize_block = collectives.quantize_block
        self.parameters = scenario.model.parameters
        self.last_end = 0.0
        self.drivers: list[_Driver] = []
        self.groups: dict[str, _Group] = {}
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
                Factors(workers[rank].machine.jitter, scenario.run.seed, rank),
            )
            for rank in self.simulated
        }
        self.devices = {rank: _Device(self, workers[rank]) for rank in self.simulated}
        self._disturbed = any(d.contention != 1.0 for d in self.devices.values())
        self.tokens_per_step = sum(worker.machine.batch_tokens for worker in workers)
        run = scenario.run
        self.horizon_tokens = float("inf")
        if run.tokens is not None:
            self.horizon_tokens = run.tokens
        elif run.steps is not None:
            self.horizon_tokens = run.steps * self.tokens_per_step

    def group(self, name: str) -> _Group:
        if name not in self.groups:
            self.groups[name] = _Group(self, name)
        return self.groups[name]

    def count_call(self, rank: int, group: str) -> int:
        key = (rank, group)
        number = self._calls.get(key, 0)
        self._calls[key] = number + 1
        return number

    def start(self, group: _Group, call: int, collective: _Collective) -> None:
        """Put a ready collective on the wire."""
        cost = self.links.cost(collective.operation, collective.dtype, collective.bytes)
        key = f"{collective.operation} {collective.dtype}"
        if key not in self._sent_share:
            share = self.links.sent_share(collective.operation, collective.dtype)
            self._sent_share[key] = tuple(share.tolist())
        first = self.scenario.network.collectives.first_seconds
        extra = first if call == 0 and len(self.scenario.workers) > 1 else 0.0
        for row in collective.rows:
            row.work_s = cost.seconds + extra
        self._communicating(+1)

        def ended() -> None:
            self._communicating(-1)
            group.finish(call)

        self.wire.start(cost, extra, ended)

    def _communicating(self, change: int) -> None:
        if self._disturbed:
            for device in self.devices.values():
                device.communicating += change
                device.changed()

    def reduce(self, collective: _Collective) -> None:
        """Let a collective act on buffers that hold numbers; rounded as its dtype rounds."""
        arrived = sorted(collective.numbers, key=lambda item: item[0])
        sent = [
            values
            for rank, values, _ in arrived
            for _ in range(len(self.standing_for[rank]))  # workers simulated once count all
        ]
        count = len(sent)
        length = len(sent[0])
        if collective.operation in ("all_reduce", "reduce_scatter"):
            # After a reduce-scatter a worker reads its own slice only; writing all is simpler.
            result = reduced(sent, collective.dtype, self.quantize_block, mean=collective.mean)
        elif collective.operation == "all_gather":
            slices = [slice(length * i // count, length * (i + 1) // count) for i in range(count)]
            result = np.concatenate([values[own] for values, own in zip(sent, slices, strict=True)])
        elif collective.operation == "broadcast":
            result = sent[0]
        else:
            for rank, _, target in arrived:
                own = slice(length * rank // count, length * (rank + 1) // count)
                target[...] = np.concatenate([values[own] for values in sent])
            return
        for _, _, target in arrived:
            target[...] = result

    def run(self) -> Trace:
        method = self.scenario.method
        for rank in self.simulated:
            driver = _Driver(self, rank, MAIN, MAIN, side=False)
            self.drivers.append(driver)
        for driver in list(self.drivers):
            driver.begin(method.program(driver, **method.arguments), lambda: None)
        self.env.run()
        blocked = [driver for driver in self.drivers if not driver.over]
        if blocked:
            raise Deadlock(self._who_waits(blocked))
        return Trace(self.rows, self._context(), self.last_end)

    def _who_waits(self, blocked: list[_Driver]) -> str:
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


def _standing_for(scenario: Scenario, *, merge: bool) -> dict[int, tuple[int, ...]]:
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
    CollectiveMismatch, Deadlock, ReplayError
        When the program cannot go on.
    sim.program.ArgumentError
        When the method's arguments exclude each other.
    """
    limit = rounds if rounds is not None else rounds_to_simulate(scenario)
    with _garbage_collection_paused():
        return _Runtime(scenario, limit, models, replay).run()


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
