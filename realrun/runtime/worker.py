"""Runs the programs of sim.methods on torch.distributed, in real time.

The worker that a program sees here does what it is told at once: a computation runs in the
calling thread (on a GPU it is queued on the stream), a collective is started asynchronously
on the process group of its program's group, a spawned program runs in a thread with a group
of its own. The rows it writes are those of the simulator.

A generator cannot be saved. A run that is resumed has its model's state back and runs the
program's text again from its beginning, without work and with the logged observations, up to
the round of the checkpoint. Whatever a method keeps in its local variables is then as it was,
and what was in flight counts as received.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from functools import partial
from math import nan
from time import sleep
from typing import Any, TypeVar

from torch.distributed import DistError

from realrun.checks.evaluating import Evaluating
from realrun.communication.groups import note_unsent
from realrun.communication.nccl import abandon
from realrun.device import Host, Mark
from realrun.errors import PeerLostError, RunError
from realrun.runtime.activities import Activity, Communication, Spawned
from realrun.runtime.shared import MAIN, Saving, Shared
from sim.members import Members, control_group, group_of, members_of
from sim.operations import Operation
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
from sim.runtime.errors import HOW_LONG
from sim.scenario import ScenarioError
from sim.text.told import first_line, method_failed
from sim.trace.layers import applied_to, written
from sim.trace.table import CONTROL, LOOK, ROUND, SPAWN, WAIT, Row, note_cause

T = TypeVar("T")


def _when(device: Host, row: Row, begin: Mark, end: Mark) -> None:
    """Fill in when a row happened, once the device has come by."""
    device.later((begin, end), partial(_fill, row))


def _fill(row: Row, at: list[float]) -> None:
    row.begin_s, row.end_s = at


class TorchWorker(CollectiveCalls[Activity]):
    """One program of one process; see :class:`sim.program.Worker`."""

    def __init__(self, shared: Shared, program: str = MAIN, group: str = MAIN) -> None:
        self._shared = shared
        self._program = program
        self._group = group
        self._round = 0
        self._progress = shared.progress()
        self.rank, self.workers = shared.rank, shared.workers
        self.site = shared.site or tuple(range(shared.workers))
        self.model = shared.model
        self.device = shared.device
        self._computed = Activity(self)  # what has ended when the call returns is one and the same

    def drive(self, program: Generator[Any, None, None]) -> None:
        """Run a program to its end, waiting for what it yields.

        What fails of what it waits for is thrown into it where it waits, as the simulator does. Of
        a collective of NCCL's that has failed the host hears when it next waits for the device: at
        a look, at a checkpoint, at a round now and then, at the end.

        Raises
        ------
        PeerLostError
            With the collective that failed, where the program does not catch it.
        """
        try:
            self._drive(program)
        except (RunError, ScenarioError, ArgumentError):
            raise
        except Exception as error:
            if failed := method_failed(program, error):
                raise RunError(f"rank {self.rank}: {failed}") from error
            raise

    def _drive(self, program: Generator[Any, None, None]) -> None:
        shared = self._shared
        failed: PeerLost | None = None
        while True:
            try:
                activity = next(program) if failed is None else program.throw(failed)
            except StopIteration:
                break
            failed = None
            self._count()
            if not activity.group or shared.restart is not None:
                continue
            row = self._row(WAIT, "", activity.group, activity.call)
            begin = self.device.mark()
            try:
                activity.wait()
            except PeerLost as error:
                failed = error
            _when(self.device, row, begin, self.device.mark())
            shared.in_flight.pop(id(activity), None)
        if self._program == MAIN:
            self.drain()
            if shared.check is not None:
                shared.check.end()

    def _count(self) -> None:
        if why := self._progress.endless_round():
            raise RunError(why)

    def lost(
        self, operation: str, group: str, call: int, why: str, waited_s: float
    ) -> PeerLostError:
        """Return what to raise where a collective of a group has failed."""
        why += self._shared.late(group, call, waited_s)
        abandon(made for each in self._shared.groups.values() for made in each.backends())
        return PeerLostError(
            f"rank {self.rank}: {operation}, call {call} of group {group}, failed: {why}"
        )

    def look(self, what: str, answer: float) -> float:
        """Log an observation; where one was logged before, answer that."""
        shared = self._shared
        if shared.replay is not None:
            logged = shared.replay.get(self._program)
            if not logged:
                raise RunError(
                    f"rank {self.rank}, program {self._program}: looks once more ({what}) than the "
                    "replayed trace has observations; replay a trace of the same scenario, at "
                    f"least as long{HOW_LONG}"
                )
            answer = logged.popleft()
        if shared.restart is not None:
            answer = shared.restart.observed.popleft()
        if self._program == MAIN:
            shared.observed.append(answer)
        if shared.restart is not None:
            return answer
        row = self._row(LOOK, what)
        row.observed = answer
        row.begin_s = row.end_s = shared.now()
        return answer

    @property
    def now(self) -> float:
        """Seconds since this worker began (an observation)."""
        self.drain()
        return self.look("now", self._shared.now())

    def drain(self) -> None:
        """Let the host wait for what the device still has to do."""
        if self._shared.restart is None:
            self.device.drain()

    def paced_drain(self) -> None:
        """Where sleeps stand for computation the host is the device: it waits itself."""
        if self._shared.pace is not None:
            self.device.drain()

    def _row(
        self,
        operation: str,
        detail: str,
        group: str = "",
        call: int = -1,
        bytes_: float = 0.0,
        times: int = 1,
        commits: bool = False,
    ) -> Row:
        """Append a row; when it happened is filled in later."""
        row = Row(self.rank, self._program, operation, detail, group, call, bytes_, times, nan)
        row.commits = commits
        self._shared.rows.append(row)
        return row

    def next_round(self, steps: int | tuple[int, ...] | None = None) -> bool:
        """Begin a round; see :class:`sim.program.Worker`."""
        shared, limits = self._shared, self._shared.limits
        if shared.restart is not None:
            if self._round < shared.restart.round:
                self._round += 1
                self._progress.begin(steps)
                return True
            shared.restart = None
            saved = True
        else:
            saved = self._round == 0
        tokens = self.model.committed_tokens if steps is None else self._progress.tokens
        more = self._round < limits.rounds and tokens < limits.tokens
        if why := self._progress.endless(more):
            raise RunError(why)
        if shared.watch is not None:
            shared.watch.look(self._round, by_steps=steps is not None)
        evaluating = shared.evaluating  # first: a checkpoint holds its round's evaluation
        if evaluating is not None and more and evaluating.due(self._round):
            self._evaluate(evaluating, tokens)
        saving = shared.saving
        if saving is not None and not saved and (self._round % saving.rounds == 0 or not more):
            self._save(saving)
        self.device.settle()
        if shared.check is not None:
            self.device.drain()  # what has failed is not compared
            shared.check.start_round(self._round)
        own = self._progress.begin(steps)
        self.model.pace = self._progress.pace
        row = self._row(ROUND, str(self._round), times=own if more else 0)
        mark = self.device.mark()
        _when(self.device, row, mark, mark)
        self._round += 1
        return more

    def _evaluate(self, evaluating: Evaluating, tokens: float) -> None:
        """Evaluate at the beginning of a round; what is in flight stays so."""

        def evaluate() -> None:
            self.device.drain()
            evaluating.evaluate(self._round, tokens)

        self._timed("evaluate", str(self._round), 1, evaluate)

    def _save(self, saving: Saving) -> None:
        """Keep the state at the beginning of a round, with what is in flight received."""

        def save() -> None:
            for activity in self._shared.in_flight.values():
                activity.wait()
            self._shared.in_flight.clear()
            self.device.drain()  # what has failed is not saved
            if self._shared.watch is not None:
                self._shared.watch.check_parameters(self._round)
            saving.save(self._round)

        self._timed("checkpoint", str(self._round), 1, save)

    def compute(
        self,
        verb: Callable[..., None],
        *args: Any,
        times: int = 1,
        commits: bool = False,
        **kwargs: Any,
    ) -> Activity:
        """Run a verb of the model; see :class:`sim.program.Worker`."""
        self._count()
        operation, check = verb.__name__, self._shared.check
        declared = declared_operation(verb)
        if declared is not None:
            note_cause(self._shared.causes, declared)
        layers, detail = applied_to(args, kwargs)
        if self._shared.restart is not None:
            if check is not None:
                check.computed(operation, layers, skipped=True)
            return self._computed  # its effect is in the restored state
        perform = self.model.perform
        if operation == "inner_step":
            self._inner_steps(times, commits)
            return self._computed
        timed = partial(self._timed, operation, detail, times, commits=commits)
        if self._shared.pace is not None:
            timed(self._pace, operation, layers, times, declared)
            perform(verb, args, kwargs, times)
        else:
            timed(perform, verb, args, kwargs, times)
        if check is not None:
            check.computed(operation, layers)
        return self._computed

    def _timed(
        self,
        operation: str,
        detail: str,
        times: int,
        run: Callable[..., T],
        *args: Any,
        commits: bool = False,
    ) -> T:
        """Run something and write a row about it, unless it fails."""
        begin = self.device.mark()
        result = self._run(run, *args)
        row = self._row(operation, detail, times=times, commits=commits)
        _when(self.device, row, begin, self.device.mark())
        return result

    def _run(self, run: Callable[..., T], *args: Any) -> T:
        """Run something, and sleep for as long as a slower machine would still compute."""
        shared = self._shared
        if shared.slower <= 1:
            return run(*args)
        self.device.drain()
        began = shared.now()
        result = run(*args)
        self.device.drain()
        sleep((shared.now() - began) * (shared.slower - 1))
        return result

    def _pace(
        self, operation: str, layers: range | None, times: int, declared: Operation | None = None
    ) -> None:
        """Sleep instead of computing."""
        assert self._shared.pace is not None
        began = self._shared.now()
        work = self._shared.pace.computation.seconds(operation, layers, times, declared)
        sleep(max(0.0, began + work - self._shared.now()))

    def _inner_steps(self, times: int, commits: bool) -> None:
        """Inner steps as two rows, as the simulator writes them: gradients, then optimizer."""
        model = self.model
        whole = range(model.num_layers)
        if self._shared.pace is not None:
            for operation, detail in (("inner_step", ""), ("inner_optimizer", written(whole))):
                paced = (self._pace, operation, None, times)
                last = operation == "inner_optimizer"
                self._timed(operation, detail, times, *paced, commits=commits and last)
            return
        gradients = self._row("inner_step", "", times=times)
        optimizer = self._row("inner_optimizer", written(whole), times=times, commits=commits)
        marks = [self.device.mark()]
        for _ in range(times):
            for verb, args, count in (
                (model.accumulate, (), model.n_grad_accumulation),
                (model.inner_optimizer, (whole,), 1),
            ):
                self._run(model.perform, verb, args, {}, count)
                marks.append(self.device.mark())

        def split(at: list[float]) -> None:
            optimizing = sum(b - a for a, b in zip(at[1::2], at[2::2], strict=True))
            gradients.begin_s, gradients.end_s = at[0], at[-1] - optimizing
            optimizer.begin_s, optimizer.end_s = at[-1] - optimizing, at[-1]

        self.device.later(marks, split)

    def _collective(
        self,
        operation: str,
        buffer: Buffer,
        dtype: str,
        mean: bool = False,
        over: Iterable[int] | None = None,
    ) -> Activity:
        self._count()
        shared = self._shared
        try:
            members = members_of(over, self.workers, self.rank)
        except ValueError as error:
            raise RunError(f"rank {self.rank} ({self._program}): {operation}: {error}") from error
        name = group_of(self._group, operation, members)
        size = wire_bytes(buffer.elements, dtype, shared.quantize_block)
        call = shared.count_call(name)
        if shared.restart is not None:
            return Activity(self, name, call)  # received before the checkpoint
        group = shared.group(name)
        weight = self._weight(members) if mean else 1.0
        packed = None
        if dtype in QUANTIZED:
            group.open()
            try:
                detail = buffer.detail
                what = (operation, buffer, dtype, weight)
                packed = self._timed("quantize", detail, 1, group.pack, *what)
            except (ValueError, NotImplementedError) as error:
                raise RunError(f"rank {self.rank} ({self._program}): {error}") from error
        carried = f"{buffer.name} {buffer.detail}".strip()
        row = self._row(operation, f"{carried} {dtype}", name, call, size)
        self.device.later([self.device.mark()], lambda at: setattr(row, "begin_s", at[0]))

        def ended(at: float, why: str) -> None:
            row.end_s = at
            if why:
                raise self.lost(operation, name, call, why, at - row.begin_s)

        try:
            collective = group.start(operation, buffer, dtype, mean, ended, packed, weight)
        except DistError as error:
            self.device.drain()  # the one that failed first is told
            waited_s = shared.now() - row.begin_s
            raise self.lost(operation, name, call, first_line(error), waited_s) from error
        if shared.check is not None:
            shared.check.watch(collective, operation, buffer, name, call)
        return self._started(Communication(self, name, call, collective))

    def note_sent(self, buffer: Buffer, dtype: str, over: Iterable[int], *, mean: bool) -> None:
        """Let a buffer that others send for this worker know what goes of it."""
        shared, members = self._shared, members_of(over, self.workers, self.rank)
        if shared.restart is None:
            weight = self._weight(members) if mean else 1.0
            note_unsent(buffer, dtype, weight, shared.quantize_block, len(members))

    def _weight(self, members: Members) -> float:
        return self._progress.weight_among(members, by_tokens=self._shared.by_tokens)

    def control(
        self, round_trips: int, seconds: float = 0.0, *, over: Iterable[int] | None = None
    ) -> Activity:
        """Exchange control messages with all members; see :class:`sim.program.Worker`."""
        self._count()
        shared = self._shared
        try:
            check_control(round_trips, seconds)
            members = members_of(over, self.workers, self.rank)
        except ValueError as error:
            raise RunError(f"rank {self.rank} ({self._program}): {error}") from error
        name = control_group(self._group, members)
        call = shared.count_call(name)
        group = shared.control(name)  # made here, as a spawned program's is
        if shared.restart is not None:
            return Activity(self, name, call)
        row = self._row(CONTROL, "", name, call, times=round_trips)
        self.device.later([self.device.mark()], lambda at: setattr(row, "begin_s", at[0]))

        def ended(at: float, why: str) -> None:
            row.end_s = at

        self.drain()  # the messages are the host's: they leave when what was computed is there
        return self._started(
            Communication(self, name, call, group.start(round_trips, seconds, ended))
        )

    def spawn(self, program: Callable[..., Program], *args: Any) -> Activity:
        """Start a program in a thread with a process group of its own."""
        self._count()
        shared = self._shared
        name = program.__name__
        call = shared.count_call(f"spawn {name}")
        shared.group(name)  # made here: all ranks' main programs come by in the same order
        if shared.restart is not None:
            return Activity(self, name, call)
        row = self._row(SPAWN, name, name, call)
        mark = self.device.mark()
        _when(self.device, row, mark, mark)
        side = TorchWorker(shared, f"{name}#{call}", name)
        side._progress = self._progress
        return self._started(Spawned(self, name, call, lambda: side.drive(program(side, *args))))

    def _started(self, activity: Activity) -> Activity:
        """Remember what the main program has in flight, if it may have to be saved."""
        if self._shared.saving is not None and self._program == MAIN:
            self._shared.in_flight[id(activity)] = activity
        return activity
