"""One program of one worker, and the worker that the program sees."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any

from sim import limits
from sim.compute import written
from sim.program import (
    QUANTIZED,
    ArgumentError,
    Buffer,
    CollectiveCalls,
    Program,
    wire_bytes,
)
from sim.progress import Progress
from sim.runtime.activity import Activity, After
from sim.runtime.errors import HOW_LONG, ReplayError, SimulationError, TooLarge
from sim.runtime.groups import Call
from sim.told import method_failed
from sim.trace import LOOK, ROUND, SPAWN, WAIT, Row

if TYPE_CHECKING:
    from sim.runtime.run import Runtime


class Driver(CollectiveCalls[Activity]):
    """One program of one worker; the :class:`sim.program.Worker` that the program sees."""

    def __init__(self, runtime: Runtime, rank: int, name: str, group: str, side: bool) -> None:
        self.runtime = runtime
        self.rank = rank
        self.workers = len(runtime.scenario.workers)
        self.site = runtime.scenario.ranks_by_site[runtime.scenario.workers[rank].site]
        self.name = name
        self.model = runtime.models[rank]
        self._group = group
        self._queue = runtime.devices[rank].queues[1 if side else 0]
        self._computation = runtime.computations[rank]
        self._observations = runtime.replay.get((rank, name)) if runtime.replay else None
        self._program: Generator[Any, None, None] | None = None
        self._waiting: Row | None = None
        self.blocked_on: Activity | None = None
        self.ended: Callable[[], None] | None = None
        self.over = False
        self._round = 0
        self._progress = Progress(runtime.batch_tokens, runtime.tokens_per_step, rank)

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
        try:
            self._go_on(now)
        except (SimulationError, ArgumentError, MemoryError):
            raise
        except Exception as error:
            if failed := method_failed(self._program, error):
                raise SimulationError(f"rank {self.rank}: {failed}") from error
            raise

    def _go_on(self, now: float) -> None:
        rows = self.runtime.rows
        for at_once, activity in enumerate(self._program):  # type: ignore[arg-type]
            if at_once > limits.MOST_UNFINISHED:
                raise SimulationError(
                    f"rank {self.rank} ({self.name}): the program has waited "
                    f"{limits.MOST_UNFINISHED} times for what had ended, and no time passes; "
                    "end its loop, or let it start something that takes time"
                )
            if not isinstance(activity, Activity):
                raise SimulationError(
                    f"rank {self.rank} ({self.name}): the program yielded {activity!r}; yield what "
                    "worker.compute, a collective or worker.spawn returned"
                )
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
                    "trace has observations; replay a trace of the same scenario, at least as "
                    f"long{HOW_LONG}"
                )
            answer = self._observations.popleft()
        now = self.runtime.env.now
        self.runtime.rows.append(
            Row(self.rank, self.name, LOOK, what, "", -1, 0.0, 1, now, now, observed=answer)
        )
        return answer

    def too_many_rows(self) -> TooLarge:
        return TooLarge(
            f"the simulation passed {limits.MOST_ROWS} operations in round {self._round} of "
            f"{self.runtime.rounds}, {self.runtime.env.now:.3g} s into the run; ask for fewer: "
            "more bandwidth (a method that accumulates meanwhile takes a micro-batch for "
            "every moment of waiting), larger method.bucket_bytes, fewer workers, or a smaller "
            "run.measured_rounds"
        )

    def _check_size(self) -> None:
        if self.runtime.unfinished > limits.MOST_UNFINISHED:
            raise TooLarge(
                f"rank {self.rank} ({self.name}): {limits.MOST_UNFINISHED} operations have been "
                "started and none of them has ended; yield what is started, or start less at once"
            )
        wires = self.runtime.wires
        if wires is not None and wires.messages > limits.MOST_MESSAGES:
            raise TooLarge(
                f"the simulation passed {limits.MOST_MESSAGES} messages of gloo's in round "
                f"{self._round} of {self.runtime.rounds}, {self.runtime.env.now:.3g} s into the "
                "run; ask for a smaller run.measured_rounds, or for "
                'network.collective.algorithm = "ring", '
                "which computes a collective's time without its messages"
            )

    # -- what programs call ---------------------------------------------------------------
    @property
    def now(self) -> float:
        return self.look("now", self.runtime.env.now)

    def next_round(self, steps: int | tuple[int, ...] | None = None) -> bool:
        runtime = self.runtime
        now = runtime.env.now
        more = self._round < runtime.rounds and not self._reached(steps)
        if why := self._progress.endless(more):
            raise SimulationError(why)
        own = self._progress.begin(steps)
        self.model.pace = self._progress.pace
        row = Row(
            self.rank,
            self.name,
            ROUND,
            str(self._round),
            "",
            -1,
            0.0,
            own if more else 0,
            now,
            now,
        )
        runtime.rows.append(row)
        self._round += 1
        return more

    def _reached(self, steps: int | tuple[int, ...] | None) -> bool:
        horizon = self.runtime.horizon_tokens
        if steps is None:
            return bool(self.model.committed_tokens >= horizon)
        return self._progress.tokens >= horizon

    def compute(
        self,
        verb: Callable[..., None],
        *args: Any,
        times: int = 1,
        commits: bool = False,
        **kwargs: Any,
    ) -> Activity:
        self._check_size()
        operation = verb.__name__
        first = args[0] if args else kwargs.get("layers")
        layers = first if isinstance(first, range) else None
        detail = (
            written(layers) if layers is not None else (str(first) if first is not None else "")
        )
        try:
            work = self._computation.seconds(operation, layers, times)
        except KeyError:
            raise SimulationError(
                f"compute({operation}): no scenario has a time for this operation; "
                f"known are {', '.join(sorted(self._computation.knows_all))}"
            ) from None
        except ValueError as error:
            raise TooLarge(str(error)) from error
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
                commits=commits,
            )
            self.runtime.rows.append(second)
            rows = (row, second)
            work += optimizer
        else:
            row.commits = commits
        self.model.perform(verb, args, kwargs, times)
        activity = Activity(self, text=f"{operation} {detail}".strip())
        self._queue.put(work, rows, activity)
        return activity

    def _collective(
        self,
        operation: str,
        buffer: Buffer,
        dtype: str,
        mean: bool = False,
        over: Iterable[int] | None = None,
    ) -> Activity:
        if over is not None:
            raise SimulationError("over= of a collective is not simulated yet; leave it out")
        self._check_size()
        runtime = self.runtime
        try:
            size = wire_bytes(buffer.elements, dtype, runtime.quantize_block)
        except ValueError as error:
            raise SimulationError(
                f"rank {self.rank} ({self.name}): {operation}: {error}"
            ) from error
        # What is sent is what the buffer holds now, however long quantising takes.
        weight = self._progress.weight if mean and runtime.by_tokens else 1.0
        numbers = runtime.numbers_of(self.rank, buffer, dtype, weight)
        group = runtime.group(self._group)
        call = runtime.count_call(self.rank, self._group)
        activity = Activity(self, self._group, call, f"{operation} of {size:.0f} bytes")
        now = runtime.env.now
        if dtype in QUANTIZED:
            share = buffer.elements / runtime.parameters
            work = self._computation.seconds("quantize", None, 1) * share
            row = Row(
                self.rank, self.name, "quantize", buffer.detail, "", -1, 0.0, 1, now, now, now, work
            )
            runtime.rows.append(row)
            quantized = Activity(self)
            self._queue.put(work, (row,), quantized)
        else:
            quantized = None
        detail = f"{buffer.name} {buffer.detail}".strip()
        row = Row(
            self.rank, self.name, operation, f"{detail} {dtype}", self._group, call, size, 1, now
        )
        runtime.rows.append(row)
        called = Call(row, activity, dtype, mean, numbers)
        if quantized is None or quantized.ended:
            group.arrive(called)
        else:
            after = After(lambda: group.arrive(called))
            quantized.waiters.append(after)  # type: ignore[arg-type]
        return activity

    def spawn(self, program: Callable[..., Program], *args: Any) -> Activity:
        self._check_size()
        runtime = self.runtime
        name = program.__name__
        call = runtime.count_call(self.rank, f"spawn {name}")
        side = Driver(runtime, self.rank, f"{name}#{call}", name, side=True)
        side._progress = self._progress
        now = runtime.env.now
        runtime.rows.append(Row(self.rank, self.name, SPAWN, name, name, call, 0.0, 1, now, now))
        activity = Activity(self, name, call, f"spawned {name}")
        runtime.drivers.append(side)

        def ended() -> None:
            runtime.drivers.remove(side)
            activity.ready_s = runtime.env.now
            activity.end()

        side.begin(program(side, *args), ended)
        return activity
