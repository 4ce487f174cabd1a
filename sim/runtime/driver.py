"""One program of one worker, and the worker that the program sees."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from functools import lru_cache
from math import isnan, nan
from typing import Any

from sim.members import Members, control_group, group_of, members_of
from sim.operations import OPERATIONS
from sim.program import (
    QUANTIZED,
    ArgumentError,
    Buffer,
    CollectiveCalls,
    PeerLost,
    Program,
    check_control,
    declared_operation,
    wire_bytes,
)
from sim.runtime import limits
from sim.runtime.activity import Activity
from sim.runtime.errors import HOW_LONG, ReplayError, SimulationError, TooLarge
from sim.runtime.groups import Call, Numbers, numbers_of
from sim.runtime.shared import Replica, Shared
from sim.text.told import method_failed
from sim.trace.layers import applied_to
from sim.trace.table import CONTROL, LOOK, ROUND, SPAWN, WAIT, Row, note_cause

MAIN = "main"


@lru_cache(maxsize=16384)  # the same buffers are sent round after round
def _on_wire(
    name: str, detail: str, elements: int, dtype: str, quantize_block: int
) -> tuple[str, float]:
    """Return what traces write of a buffer that is sent, and its bytes on the wire."""
    described = f"{name} {detail}".strip()
    return f"{described} {dtype}", wire_bytes(elements, dtype, quantize_block)


class Driver(CollectiveCalls[Activity]):
    """One program of one worker; the :class:`sim.program.Worker` that the program sees.

    Parameters
    ----------
    shared, replica
        What it shares with all programs of the run, and with those of its worker.
    name, group
        Of the program, and of the group of its collectives.
    side
        Whether it computes on the device's second queue.
    """

    def __init__(
        self, shared: Shared, replica: Replica, name: str, group: str, *, side: bool
    ) -> None:
        self._shared = shared
        self._replica = replica
        self.rank, self.workers, self.site = replica.rank, shared.workers, replica.site
        self.name = name
        self.model = replica.model
        self._group = group
        self._clock = shared.clock
        self._rows = shared.rows
        self._queue = replica.device.queues[1 if side else 0]
        self._computation = replica.computation
        self._observations = shared.replay.get((self.rank, name)) if shared.replay else None
        self._program: Generator[Any, None, None] | None = None
        self._ended: Callable[[PeerLost | None], None] | None = None
        self._waiting: Row | None = None
        self.blocked_on: Activity | None = None
        self._round = 0
        self._progress = replica.progress
        #: Stands for all computations that take no time: nobody can wait for one before its end.
        self._at_once = Activity(self, Row(self.rank, name, "", "", "", -1, 0.0, 1, nan))
        self._at_once.ended = True
        shared.running[self] = None

    # -- driving -------------------------------------------------------------------------
    def begin(self, program: Program, ended: Callable[[PeerLost | None], None]) -> None:
        """Run a program; ``ended`` is called at its end, with the failure that it did not catch."""
        self._program = program
        self._ended = ended
        self.advance()

    def advance(self) -> None:
        """Let the program run until it waits for something that has not ended."""
        now = self._clock.now
        program = self._program
        assert program is not None
        activity, self.blocked_on = self.blocked_on, None
        error = failed = None
        if activity is not None:
            if self._waiting is not None:
                self._waiting.end_s = now
                self._waiting.ready_s = activity.ready_s
                self._waiting = None
            if activity.error is not None:
                error = self._known(activity)
        at_once = 0
        try:
            while True:
                try:
                    activity = next(program) if error is None else program.throw(error)
                except StopIteration:
                    break
                if at_once > limits.MOST_UNFINISHED or not isinstance(activity, Activity):
                    raise self._cannot_wait(activity)
                at_once += 1
                ended, group = activity.ended, activity.group
                if group:
                    row = Row(self.rank, self.name, WAIT, "", group, activity.call, 0.0, 1, now)
                    self._rows.append(row)
                    if ended:
                        row.end_s = now
                        row.ready_s = activity.ready_s
                    else:
                        self._waiting = row
                if not ended:
                    self.blocked_on = activity
                    activity.waiters.append(self.advance)
                    return
                error = None if activity.error is None else self._known(activity)
        except PeerLost as uncaught:
            failed = uncaught
        except (SimulationError, ArgumentError, MemoryError):
            raise
        except Exception as raised:
            if why := method_failed(program, raised):
                raise SimulationError(f"rank {self.rank}: {why}") from raised
            raise
        self._shared.last_end = max(self._shared.last_end, now)
        del self._shared.running[self]
        self._ended(failed)  # type: ignore[misc]

    def _cannot_wait(self, activity: object) -> SimulationError:
        """Return what is wrong with something that the program yields."""
        if isinstance(activity, Activity):
            return SimulationError(
                f"rank {self.rank} ({self.name}): the program has waited "
                f"{limits.MOST_UNFINISHED} times for what had ended, and no time passes; "
                "end its loop, or let it start something that takes time"
            )
        return SimulationError(
            f"rank {self.rank} ({self.name}): the program yielded {activity!r}; yield what "
            "worker.compute, a collective or worker.spawn returned"
        )

    def _known(self, activity: Activity) -> PeerLost | None:
        """Return why an activity has failed, to throw it into the program that waits for it."""
        if activity in self._shared.failed:
            self._shared.failed.remove(activity)
        return activity.error

    def over(self, activity: Activity) -> None:
        """Note that something this program has started has ended or failed."""
        self._shared.unfinished -= 1
        if activity.error is None:
            return
        self._shared.failed.append(activity)
        row, now = activity.row, self._clock.now
        if row.operation != SPAWN:
            row.end_s = now
            if isnan(row.ready_s):  # until now its members have waited for the last one
                row.ready_s = activity.ready_s = now

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
        if len(self._rows) >= self._shared.most_rows:
            raise self._too_many_rows()
        now = self._clock.now
        self._rows.append(
            Row(self.rank, self.name, LOOK, what, "", -1, 0.0, 1, now, now, observed=answer)
        )
        return answer

    def _too_many_rows(self) -> TooLarge:
        return TooLarge(
            f"the simulation passed {self._shared.most_rows} operations in round "
            f"{self._replica.round} of {self._shared.rounds}, {self._clock.now:.3g} s into the "
            "run; ask for fewer: "
            "more bandwidth (a method that accumulates meanwhile takes a micro-batch for "
            "every moment of waiting), larger method.bucket_bytes, fewer workers, or a smaller "
            "run.measured_rounds"
        )

    def _started(self, row: Row) -> Activity:
        """Return what has been started, unless the run has become too large."""
        shared = self._shared
        if shared.unfinished > limits.MOST_UNFINISHED:
            raise TooLarge(
                f"rank {self.rank} ({self.name}): {limits.MOST_UNFINISHED} operations have been "
                "started and none of them has ended; yield what is started, or start less at once"
            )
        if len(self._rows) >= shared.most_rows:
            raise self._too_many_rows()
        shared.unfinished += 1
        return Activity(self, row)

    # -- what programs call ---------------------------------------------------------------
    @property
    def now(self) -> float:
        return self.look("now", self._clock.now)

    def next_round(self, steps: int | tuple[int, ...] | None = None) -> bool:
        now, shared = self._clock.now, self._shared
        reached = self._reached(steps)
        if self._round == shared.rounds and not reached and shared.longer is not None:
            shared.rounds = shared.longer()
            if self._round == shared.rounds:  # others may have been told now that it was the last
                shared.longer = None
        more = self._round < shared.rounds and not reached
        if why := self._progress.endless(more):
            raise SimulationError(why)
        own = self._progress.begin(steps)
        self.model.pace = self._progress.pace
        times = own if more else 0
        detail = str(self._round)
        self._rows.append(Row(self.rank, self.name, ROUND, detail, "", -1, 0.0, times, now, now))
        self._round += 1
        if self.name == MAIN:
            self._replica.round = self._round
        return more

    def _reached(self, steps: int | tuple[int, ...] | None) -> bool:
        horizon = self._shared.horizon_tokens
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
        operation = verb.__name__
        declared = None
        if operation not in OPERATIONS:  # no declared operation has the name of one of these
            declared = declared_operation(verb)
            if declared is not None:
                note_cause(self._shared.causes, declared)
        layers: range | None = None
        detail = ""
        if args or kwargs:
            layers, detail = applied_to(args, kwargs)
        try:
            work = self._computation.seconds(operation, layers, times, declared)
        except KeyError:
            raise SimulationError(
                f"compute({operation}): no scenario has a time for this operation; "
                f"known are {', '.join(sorted(OPERATIONS))}; declare one of your own with "
                "@operation from sim.program"
            ) from None
        except ValueError as error:
            raise TooLarge(str(error)) from error
        now = self._clock.now
        row = Row(self.rank, self.name, operation, detail, "", -1, 0.0, times, now, nan, now, work)
        row.commits = commits and operation != "inner_step"  # then its optimizer does
        self._rows.append(row)
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
                nan,
                now,
                optimizer,
                commits=commits,
            )
            self._rows.append(second)
            rows = (row, second)
            work += optimizer
        self.model.perform(verb, args, kwargs, times)
        if work <= 0 and not self._queue.busy:
            if len(self._rows) >= self._shared.most_rows:
                raise self._too_many_rows()
            for row in rows:
                row.end_s = now
            return self._at_once
        activity = self._started(row)
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
        shared, block = self._shared, self._shared.quantize_block
        try:
            # Nearly always all of them.
            members = shared.everyone if over is None else members_of(over, self.workers, self.rank)
            detail, size = _on_wire(buffer.name, buffer.detail, buffer.elements, dtype, block)
        except ValueError as error:
            raise SimulationError(
                f"rank {self.rank} ({self.name}): {operation}: {error}"
            ) from error
        # What is sent is what the buffer holds now, however long quantizing takes.
        numbers = None
        if getattr(buffer, "values", None) is not None:
            numbers = self._numbers(buffer, dtype, members, mean=mean)
        name = group_of(self._group, operation, members)
        group = shared.groups.get(name) or shared.group(name, members)
        call = self._replica.count_call(name)
        quantized = self._quantize(buffer) if dtype in QUANTIZED else None
        now = self._clock.now
        row = Row(self.rank, self.name, operation, detail, name, call, size, 1, now)
        self._rows.append(row)
        activity = self._started(row)
        called = Call(row, activity, dtype, mean, numbers)
        if quantized is None or quantized.ended:
            group.arrive(called)
        else:
            quantized.waiters.append(lambda: group.arrive(called))
        return activity

    def _numbers(self, buffer: Any, dtype: str, members: Members, *, mean: bool) -> Numbers:
        shared, among = self._shared, self._progress.weight_among
        weight = among(members, by_tokens=shared.by_tokens) if mean else 1.0
        return numbers_of(self.rank, buffer, dtype, shared.quantize_block, weight)

    def note_sent(self, buffer: Buffer, dtype: str, over: Iterable[int], *, mean: bool) -> None:
        if hasattr(buffer, "sent") and getattr(buffer, "values", None) is not None:
            members = members_of(over, self.workers, self.rank)
            self._numbers(buffer, dtype, members, mean=mean)

    def control(
        self, round_trips: int, seconds: float = 0.0, *, over: Iterable[int] | None = None
    ) -> Activity:
        shared = self._shared
        try:
            check_control(round_trips, seconds)
            members = members_of(over, self.workers, self.rank)
        except ValueError as error:
            raise SimulationError(f"rank {self.rank} ({self.name}): {error}") from error
        name = control_group(self._group, members)
        group = shared.controls.get(name) or shared.control(name, members)
        call = self._replica.count_call(name)
        row = Row(self.rank, self.name, CONTROL, "", name, call, 0.0, round_trips, self._clock.now)
        self._rows.append(row)
        activity = self._started(row)
        group.arrive(Call(row, activity, "", False, None), round_trips, seconds)
        return activity

    def _quantize(self, buffer: Buffer) -> Activity:
        """Compute what a quantized collective waits for; the program does not."""
        share = buffer.elements / self._shared.parameters
        work = self._computation.seconds("quantize", None, 1) * share
        now = self._clock.now
        detail = buffer.detail
        row = Row(self.rank, self.name, "quantize", detail, "", -1, 0.0, 1, now, nan, now, work)
        self._rows.append(row)
        quantized = self._started(row)
        self._queue.put(work, (row,), quantized)
        return quantized

    def spawn(self, program: Callable[..., Program], *args: Any) -> Activity:
        shared = self._shared
        name = program.__name__
        call = self._replica.count_call(f"spawn {name}")
        side = Driver(shared, self._replica, f"{name}#{call}", name, side=True)
        now = self._clock.now
        row = Row(self.rank, self.name, SPAWN, name, name, call, 0.0, 1, now, now)
        self._rows.append(row)
        activity = self._started(row)

        def ended(failed: PeerLost | None) -> None:
            activity.ready_s = self._clock.now
            if failed is None:
                activity.end()
            else:
                activity.fail(failed)

        side.begin(program(side, *args), ended)
        return activity
