"""Runs the programs of sim.methods on torch.distributed, in real time.

The worker that a program sees here does what it is told at once: a computation runs in the
calling thread (on a GPU it is queued on the stream), a collective is started asynchronously
on the process group of its program's group, a spawned program runs in a thread with a group
of its own. The rows it writes are those of the simulator.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from time import perf_counter, sleep
from typing import Any

import torch.distributed as dist

from realrun.collectives import Collective, start
from sim.compute import Computation, written
from sim.program import Buffer, CollectiveCalls, Program, wire_bytes
from sim.trace import LOOK, ROUND, SPAWN, WAIT, Row

MAIN = "main"


class WorkerError(Exception):
    """A worker cannot go on; the message names rank, call and cause."""


@dataclass
class Pace:
    """Replace computations by sleeps of the scenario's sampled durations.

    ``computation`` draws from the same random streams as the simulator.
    """

    computation: Computation


@dataclass
class Limits:
    """When to stop: rounds, or tokens that all workers together have trained on."""

    rounds: float = float("inf")
    tokens: float = float("inf")
    tokens_per_step: float = 1.0


@dataclass
class Shared:
    """What the programs of one process share: rows, groups, clock."""

    rank: int
    workers: int
    model: Any
    limits: Limits
    quantize_block: int = 256
    pace: Pace | None = None
    rows: list[Row] = field(default_factory=list)
    groups: dict[str, Any] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    origin: float = field(default_factory=perf_counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> float:
        """Seconds since this worker began."""
        return perf_counter() - self.origin

    def group(self, name: str) -> Any:
        """The process group of a program's group.

        Made when first asked for, by all ranks in the same order: the main program asks, in
        its own thread.
        """
        if name not in self.groups:
            everyone = dist.group.WORLD if name == MAIN else dist.new_group()
            self.groups[name] = everyone
        return self.groups[name]

    def count_call(self, group: str) -> int:
        """Number of this rank's next call in a group."""
        with self.lock:
            number = self.calls.get(group, 0)
            self.calls[group] = number + 1
            return number

    def record(self, row: Row) -> Row:
        """Append a row."""
        with self.lock:
            self.rows.append(row)
        return row


class Activity:
    """Something started: a computation (which has ended), a collective or a spawned program."""

    def __init__(self, worker: TorchWorker, group: str = "", call: int = -1) -> None:
        self._worker = worker
        self.group = group
        self.call = call

    @property
    def done(self) -> bool:
        """Whether it has ended; a look that is logged."""
        return bool(self._worker.look(f"done {self.group} {self.call}", float(self._ended())))

    def _ended(self) -> bool:
        return True

    def wait(self) -> None:
        """Block until it has ended; its result is then in place."""


class _Communication(Activity):
    def __init__(self, worker: TorchWorker, group: str, call: int, collective: Collective) -> None:
        super().__init__(worker, group, call)
        self._collective = collective

    def _ended(self) -> bool:
        return self._collective.ended()

    def wait(self) -> None:
        try:
            self._collective.finish()
        except RuntimeError as error:
            raise WorkerError(
                f"rank {self._worker.rank}: {self._collective.operation}, call {self.call} of "
                f"group {self.group}, failed: {_first_line(error)}"
            ) from error


class _Spawned(Activity):
    def __init__(self, worker: TorchWorker, group: str, call: int, run: Callable[[], None]) -> None:
        super().__init__(worker, group, call)
        self._error: BaseException | None = None

        def guarded() -> None:
            try:
                run()
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=guarded, name=f"{group}#{call}", daemon=True)
        self._thread.start()

    def _ended(self) -> bool:
        return not self._thread.is_alive()

    def wait(self) -> None:
        self._thread.join()
        if self._error is not None:
            raise self._error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class TorchWorker(CollectiveCalls[Activity]):
    """One program of one process; see :class:`sim.program.Worker`."""

    def __init__(self, shared: Shared, program: str = MAIN, group: str = MAIN) -> None:
        self._shared = shared
        self._program = program
        self._group = group
        self._round = 0
        self._steps = 0
        self.rank = shared.rank
        self.model = shared.model

    def drive(self, program: Generator[Any, None, None]) -> None:
        """Run a program to its end, waiting for what it yields."""
        for activity in program:
            if not activity.group:
                activity.wait()
                continue
            begin = self._shared.now()
            row = Row(
                self.rank, self._program, WAIT, "", activity.group, activity.call, 0.0, 1, begin
            )
            self._shared.record(row)
            activity.wait()
            row.end_s = self._shared.now()

    def look(self, what: str, answer: float) -> float:
        """Log an observation."""
        now = self._shared.now()
        self._shared.record(
            Row(self.rank, self._program, LOOK, what, "", -1, 0.0, 1, now, now, observed=answer)
        )
        return answer

    @property
    def now(self) -> float:
        """Seconds since this worker began (an observation)."""
        return self.look("now", self._shared.now())

    def next_round(self, steps: int | None = None) -> bool:
        """Begin a round; see :class:`sim.program.Worker`."""
        limits = self._shared.limits
        tokens = (
            self.model.committed_tokens if steps is None else self._steps * limits.tokens_per_step
        )
        more = self._round < limits.rounds and tokens < limits.tokens
        now = self._shared.now()
        times = (steps or 0) if more else 0
        self._shared.record(
            Row(self.rank, self._program, ROUND, str(self._round), "", -1, 0.0, times, now, now)
        )
        self._round += 1
        self._steps += steps or 0
        return more

    def compute(
        self, verb: Callable[..., None], *args: Any, times: int = 1, **kwargs: Any
    ) -> Activity:
        """Run a verb of the model; see :class:`sim.program.Worker`."""
        operation = verb.__name__
        layers = args[0] if args and isinstance(args[0], range) else None
        detail = written(layers) if layers is not None else (str(args[0]) if args else "")
        if operation == "inner_step":
            self._inner_steps(times)
        elif self._shared.pace is not None:
            self._paced(operation, detail, layers, times)
            self.model.perform(verb, args, kwargs, times)
        else:
            begin = self._shared.now()
            self.model.perform(verb, args, kwargs, times)
            self._computed(operation, detail, times, begin, self._shared.now())
        return Activity(self)

    def _computed(self, operation: str, detail: str, times: int, begin: float, end: float) -> None:
        self._shared.record(
            Row(self.rank, self._program, operation, detail, "", -1, 0.0, times, begin, end)
        )

    def _paced(self, operation: str, detail: str, layers: range | None, times: int) -> None:
        assert self._shared.pace is not None
        begin = self._shared.now()
        work = self._shared.pace.computation.seconds(operation, layers, times)
        remaining = begin + work - self._shared.now()
        if remaining > 0:
            sleep(remaining)
        self._computed(operation, detail, times, begin, self._shared.now())

    def _inner_steps(self, times: int) -> None:
        """Inner steps as two rows, as the simulator writes them: gradients, then optimizer."""
        model = self.model
        whole = range(model.num_layers)
        if self._shared.pace is not None:
            self._paced("inner_step", "", None, times)
            self._paced("inner_optimizer", written(whole), None, times)
            return
        begin = self._shared.now()
        optimizing = 0.0
        for _ in range(times):
            model.perform(model.accumulate, (), {}, model.n_grad_accumulation)
            before = self._shared.now()
            model.perform(model.inner_optimizer, (whole,), {}, 1)
            optimizing += self._shared.now() - before
        end = self._shared.now()
        self._computed("inner_step", "", times, begin, end - optimizing)
        self._computed("inner_optimizer", written(whole), times, end - optimizing, end)

    def _collective(
        self, operation: str, buffer: Buffer, dtype: str, mean: bool = False
    ) -> Activity:
        shared = self._shared
        size = wire_bytes(buffer.elements, dtype, shared.quantize_block)
        call = shared.count_call(self._group)
        detail = f"{buffer.name} {buffer.detail}".strip()
        row = Row(
            self.rank,
            self._program,
            operation,
            f"{detail} {dtype}",
            self._group,
            call,
            size,
            1,
            shared.now(),
        )

        def ended() -> None:
            row.end_s = shared.now()

        collective = start(operation, buffer, dtype, shared.group(self._group), mean, ended)
        shared.record(row)
        return _Communication(self, self._group, call, collective)

    def spawn(self, program: Callable[..., Program], *args: Any) -> Activity:
        """Start a program in a thread with a process group of its own."""
        shared = self._shared
        name = program.__name__
        call = shared.count_call(f"spawn {name}")
        shared.group(name)  # made here: all ranks' main programs come by in the same order
        now = shared.now()
        shared.record(Row(self.rank, self._program, SPAWN, name, name, call, 0.0, 1, now, now))
        side = TorchWorker(shared, f"{name}#{call}", name)
        return _Spawned(self, name, call, lambda: side.drive(program(side, *args)))
