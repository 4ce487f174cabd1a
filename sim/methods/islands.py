"""Methods between islands: each worker is several accelerators, which share the work of a step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial, wraps
from typing import Any, cast

from sim.program import (
    Activity,
    ArgumentError,
    Buffer,
    CollectiveCalls,
    Model,
    PeerLost,
    Program,
    Worker,
    declared_operation,
)

Method = Callable[..., Program]

# What a method may compute between islands, in addition to inner steps.
_OUTER = frozenset(["average_parameters", "outer_gradient", "outer_step", "eager_outer_step"])
# What an accelerator computes on its own part of the batch, before a gradient is averaged.
_PASSES = frozenset(["accumulate", "forward", "backward"])
_GRADIENT = "gradient"


def on_islands(
    outer: Method,
    inside: Method,
    accelerators: int,
    *,
    leader: bool = False,
    gradient_dtype: str | None = None,
) -> Method:
    """Return a method for accelerators: ``outer`` between islands, ``inside`` within a step.

    The workers of the method returned are accelerators; each run of that many ranks is an island.
    All accelerators of an island run the text of ``outer`` together, as one worker of it. Its
    inner steps are rounds of ``inside`` among them. Its all-reduces are among the accelerators at
    the same place in all islands, each with its own 1/G of the buffer; when the result is awaited,
    the island's accelerators gather it. With a leader, the first accelerators of all islands
    exchange the whole buffer, and each broadcasts the result inside. Between inner steps all of
    them hold the same parameters.

    A method that averages gradients in every step (ddp) has no inner steps: each accelerator
    computes on its part of the batch, and a gradient is reduce-scattered inside an island before
    it is exchanged between them (with a leader all-reduced inside). A method that optimizes single
    layers has their gradient averaged inside just before.

    Parameters
    ----------
    outer
        A method that trains by ``inner_step``, or that averages every gradient before the
        optimizer; and that exchanges by ``all_reduce`` alone.
    inside
        A method that takes one inner step in each round, without arguments but the worker.
    accelerators
        G, of one island.
    leader
        Whether one accelerator of each island exchanges for all.
    gradient_dtype
        Type in which the gradient of single layers travels inside; None where nothing but whole
        inner steps can be shared out, because the optimizer is.

    Raises
    ------
    ArgumentError
        When ``outer`` computes, exchanges or observes anything else.

    Notes
    -----
    Douillard et al. 2023, "DiLoCo", arXiv:2311.08105: a worker is a cluster. torchtitan with
    torchft reduces outer gradients among the ranks of the same position, each with its shard; it
    leaves out the gathering, since parameters stay sharded there.
    """

    @wraps(outer)
    def program(worker: Worker, **arguments: Any) -> Program:
        if worker.workers % accelerators:
            raise ArgumentError(
                f"{worker.workers} accelerators are no whole number of islands of {accelerators}"
            )
        seen = _Island(worker, inside, accelerators, leader, gradient_dtype)
        running = outer(seen, **arguments)
        lost = None
        while True:
            try:
                waited = next(running) if lost is None else running.throw(lost)
            except StopIteration:
                return
            lost = None
            try:
                yield from waited.rest if isinstance(waited, _Shared) else [waited]
            except PeerLost as error:
                lost = error

    return program


class _Shared:
    """What an island's accelerators do together; its rest is done when the outer text waits."""

    def __init__(self, rest: Program) -> None:
        #: Has ended once it has been awaited: a second wait finds nothing left.
        self.rest = rest

    @property
    def done(self) -> bool:
        raise ArgumentError(
            "a method between islands cannot look whether something has ended: its accelerators "
            "would see different answers"
        )


class _Calls(CollectiveCalls[Activity]):
    """A worker's calls, passed on."""

    def __init__(self, worker: Worker, rank: int, workers: int) -> None:
        self._worker, self.rank, self.workers = worker, rank, workers
        self.model: Model = worker.model

    @property
    def site(self) -> tuple[int, ...]:
        raise ArgumentError("worker.site is not known between and within islands")

    @property
    def now(self) -> float:
        raise ArgumentError(
            "a method between islands cannot look at the clock: its accelerators would see "
            "different times"
        )

    def spawn(self, program: Callable[..., Program], *args: Any) -> Activity:
        raise ArgumentError("a method between islands cannot spawn a background task")

    def control(
        self, round_trips: int, seconds: float = 0.0, *, over: Iterable[int] | None = None
    ) -> Activity:
        """See :meth:`sim.program.Worker.control`."""
        return self._worker.control(round_trips, seconds, over=self._ranks(over))

    def _ranks(self, over: Iterable[int] | None) -> tuple[int, ...]:
        """Return the ranks of accelerators that the members' numbers stand for."""
        raise NotImplementedError


class _Island(_Calls):
    """An accelerator as the outer text sees it: as its whole island."""

    def __init__(
        self,
        worker: Worker,
        inside: Method,
        accelerators: int,
        leader: bool,
        gradient_dtype: str | None,
    ) -> None:
        island, self._place = divmod(worker.rank, accelerators)
        super().__init__(worker, island, worker.workers // accelerators)
        self._accelerators, self._inside = accelerators, inside
        self._leader, self._gradient_dtype = leader, gradient_dtype
        self._averaged = False  # the gradients, since the last step of the optimizer
        first = island * accelerators
        self._members = tuple(range(first, first + accelerators))

    def next_round(self, steps: int | tuple[int, ...] | None = None) -> bool:
        """Begin a round, whose steps are given by island."""
        if steps is None:
            raise ArgumentError("a method between islands says how many inner steps a round has")
        if isinstance(steps, tuple):
            steps = tuple(own for own in steps for _ in range(self._accelerators))
        return self._worker.next_round(steps)

    def compute(
        self,
        verb: Callable[..., None],
        *args: Any,
        times: int = 1,
        commits: bool = False,
        **kwargs: Any,
    ) -> Activity:
        """Run an operation on every accelerator, and inner steps on all of them together."""
        if verb.__name__ == "inner_step":
            within = _Within(self._worker, self._members, times)
            return _Shared(self._inside(cast(Worker, within)))
        if verb.__name__ == "inner_optimizer":
            if not self._averaged:
                (layers,) = args
                return _Shared(self._optimized(layers, commits=commits))
            self._averaged = False
        elif verb.__name__ not in _OUTER | _PASSES and declared_operation(verb) is None:
            raise ArgumentError(
                f"compute({verb.__name__}): a method between islands trains by inner_step and "
                f"computes {', '.join(sorted(_OUTER))}"
            )
        return self._worker.compute(verb, *args, times=times, commits=commits, **kwargs)

    def _optimized(self, layers: range, *, commits: bool) -> Program:
        if self._gradient_dtype is None:
            raise ArgumentError(
                "compute(inner_optimizer): each accelerator's optimizer has a share of every "
                "layer; a method that optimizes single layers runs between islands with ddp inside"
            )
        gradient, worker = self.model.gradient(layers), self._worker
        yield worker.all_reduce(gradient, self._gradient_dtype, mean=True, over=self._members)
        yield worker.compute(self.model.inner_optimizer, layers, commits=commits)

    def _collective(
        self,
        operation: str,
        buffer: Buffer,
        dtype: str,
        mean: bool = False,
        over: Iterable[int] | None = None,
    ) -> Activity:
        if operation != "all_reduce":
            raise ArgumentError(f"{operation}: a method between islands exchanges by all_reduce")
        across = self._ranks(over)
        own = buffer.name == _GRADIENT  # each accelerator's: of its own part of the batch
        self._averaged = self._averaged or own
        if self._leader:
            return _Shared(self._by_leader(buffer, dtype, mean, across, own=own))
        count, elements = self._accelerators, buffer.elements
        if elements < count:  # nothing to share out
            everyone = tuple(range(count * self.workers)) if own else across
            return self._worker.all_reduce(buffer, dtype, mean=mean, over=everyone)
        edges = [elements * place // count for place in range(count + 1)]
        parts = self.model.parts(buffer, edges)
        shard = parts[self._place]
        for other in parts:
            if other is not shard and not own:
                self._note_sent(other, dtype, across, mean=mean)
        exchange = partial(self._worker.all_reduce, shard, dtype, mean=mean, over=across)
        if not own:
            return _Shared(self._gathered(exchange(), buffer))
        reduced = self._worker.reduce_scatter(buffer, dtype, mean=mean, over=self._members)

        def exchanged() -> Program:
            yield reduced
            yield from self._gathered(exchange(), buffer)

        return _Shared(exchanged())

    def _by_leader(
        self, buffer: Buffer, dtype: str, mean: bool, leaders: tuple[int, ...], *, own: bool
    ) -> Program:
        """Start what the leader exchanges; the program that is returned waits, and hands it on."""
        worker, started = self._worker, list[Activity]()
        if own:
            started.append(worker.all_reduce(buffer, dtype, mean=mean, over=self._members))
        elif self._place == 0:
            started.append(worker.all_reduce(buffer, dtype, mean=mean, over=leaders))
        else:
            self._note_sent(buffer, dtype, leaders, mean=mean)

        def rest() -> Program:
            yield from started
            if own and self._place == 0:
                yield worker.all_reduce(buffer, dtype, mean=mean, over=leaders)
            yield worker.broadcast(buffer, "fp32", over=self._members)

        return rest()

    def _gathered(self, exchange: Activity, buffer: Buffer) -> Program:
        yield exchange
        # As it is: the accelerators of an island must not come to differ by rounding.
        yield self._worker.all_gather(buffer, "fp32", over=self._members)

    def _note_sent(self, buffer: Buffer, dtype: str, over: tuple[int, ...], *, mean: bool) -> None:
        cast(CollectiveCalls[Activity], self._worker).note_sent(buffer, dtype, over, mean=mean)

    def _ranks(self, over: Iterable[int] | None) -> tuple[int, ...]:
        islands: Sequence[int] = range(self.workers) if over is None else tuple(over)
        return tuple(island * self._accelerators + self._place for island in islands)


class _Within(_Calls):
    """An accelerator as the inside's text sees it: the island is all there is."""

    def __init__(self, worker: Worker, members: tuple[int, ...], steps: int) -> None:
        super().__init__(worker, members.index(worker.rank), len(members))
        self._members, self._steps = members, steps

    def next_round(self, steps: int | tuple[int, ...] | None = None) -> bool:
        """Begin one of the inner steps."""
        if steps != 1:
            raise ArgumentError("inside an island a round is one inner step")
        self._steps -= 1
        return self._steps >= 0

    def compute(
        self,
        verb: Callable[..., None],
        *args: Any,
        times: int = 1,
        commits: bool = False,
        **kwargs: Any,
    ) -> Activity:
        """Run an operation; what commits an update is the outer text's to say."""
        return self._worker.compute(verb, *args, times=times, **kwargs)

    def _collective(
        self,
        operation: str,
        buffer: Buffer,
        dtype: str,
        mean: bool = False,
        over: Iterable[int] | None = None,
    ) -> Activity:
        members = self._ranks(over)
        match operation:
            case "all_reduce":
                return self._worker.all_reduce(buffer, dtype, mean=mean, over=members)
            case "reduce_scatter":
                return self._worker.reduce_scatter(buffer, dtype, mean=mean, over=members)
            case "all_gather":
                return self._worker.all_gather(buffer, dtype, over=members)
        raise ArgumentError(f"{operation}: not within an island")

    def _ranks(self, over: Iterable[int] | None) -> tuple[int, ...]:
        if over is None:
            return self._members
        return tuple(self._members[place] for place in over)
