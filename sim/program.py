"""The vocabulary in which training methods are written.

1. A program is what *one* worker does, written as a generator.
2. Calling starts, ``yield`` waits, ``.done`` and ``now`` look.
3. A program knows order and overlap. It knows neither clock nor tensors: *when* things
   happen is the worker's business (a runtime), *what* they do to state is the model's.
4. What touches state goes through :meth:`Worker.compute`; a buffer is sent only after the
   computation that writes it has been yielded, and is not reused while in flight.
5. Results never travel through ``yield``.
6. What is observed through ``.done`` or ``now`` may change how much is computed, never which
   collectives are issued, how many, or over whom: what depends on local time is a hang.
7. ``over=`` names the ranks that a collective is over. All of them name the same, each from the
   scenario, the number of the round and a seed alone, and issue the collectives of a group (a
   program's, over the same ranks) in the same order.
8. What has failed is thrown into the program that waits for it, as :class:`PeerLost`.

Two runtimes run the same text: :mod:`sim.runtime` in virtual time, realrun on
torch.distributed.
"""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from functools import lru_cache
from math import isfinite
from typing import Any, Generic, Literal, Protocol, TypeVar

from sim.members import broadcast_from, members_of, sent_by
from sim.operations import COMPUTED, OPERATIONS, Cause, Operation

Started = TypeVar("Started")
Method = TypeVar("Method", bound=Callable[..., Any])
_Verb = TypeVar("_Verb", bound=Callable[..., None])

DTYPE_BITS = {"fp32": 32, "bf16": 16, "fp16": 16, "int8": 8, "fp4": 4}
QUANTIZED = ("int8", "fp4")
MOST_BYTES = 8  # of an element: nothing wider is trained
_BYTES = re.compile(r"(\d+(?:\.\d*)?(?:e-?\d+)?)\s*B")


class ArgumentError(ValueError):
    """A method's arguments exclude each other or do not fit the model."""


class PeerLost(Exception):  # noqa: N818 - it says what it is
    """A collective has failed because a member is gone or did not come in time.

    It is thrown into the program that waits for the collective, or for the spawned program that
    waited for it. A program may catch it around its ``yield``; uncaught, it ends the run.
    """


def bytes_per_element(dtype: str) -> float:
    """Return the bytes of one value on the wire, scales apart.

    Parameters
    ----------
    dtype
        A key of ``DTYPE_BITS``, or bytes per element like "0.125B", which stand for a compressor
        (top-k, 1-bit, DCT): simulated only.

    Raises
    ------
    ValueError
        For anything else.

    Examples
    --------
    >>> bytes_per_element("bf16"), bytes_per_element("fp4"), bytes_per_element("0.125B")
    (2.0, 0.5, 0.125)
    """
    if dtype in DTYPE_BITS:
        return DTYPE_BITS[dtype] / 8
    number = _BYTES.fullmatch(dtype)
    size = float(number[1]) if number else 0.0
    if not 0 < size <= MOST_BYTES:
        raise ValueError(
            f"{dtype!r} is no type; one of {', '.join(DTYPE_BITS)}, or bytes per element like "
            f'"0.125B", at most {MOST_BYTES}'
        )
    return size


@lru_cache(maxsize=4096)
def wire_bytes(elements: int, dtype: str, quantize_block: int = 256) -> float:
    """Bytes of a buffer on the wire: its values, and one 16-bit scale per block if quantized.

    Parameters
    ----------
    elements
        Number of values.
    dtype
        As :func:`bytes_per_element` takes it.
    quantize_block
        Values per scale of int8 and fp4; 0 sends no scales.

    Examples
    --------
    >>> wire_bytes(1000, "bf16"), wire_bytes(512, "fp4"), wire_bytes(512, "fp4", 0)
    (2000.0, 260.0, 256.0)
    """
    size = elements * bytes_per_element(dtype)
    if dtype in QUANTIZED and quantize_block:
        size += 2 * -(-elements // quantize_block)
    return size


class Activity(Protocol):
    """Something started: a computation, a collective or a spawned program."""

    @property
    def done(self) -> bool:
        """Whether it has ended. Every look is an observation and is logged for replay."""
        ...


Program = Generator[Activity, None, None]

Equal = Literal["parameters", "outer parameters", "received"]
"""What a method keeps equal on all workers, see :func:`keeps_equal`."""


def keeps_equal(what: Equal | Callable[..., Equal]) -> Callable[[Method], Method]:
    """Declare what a method keeps equal on all workers; ``--check-replicas`` compares it.

    Parameters
    ----------
    what
        "parameters": the local parameters at the start of every round, and after every
        ``publish``. "outer parameters": those of some layers after their n-th outer step, whenever
        each worker takes it. "received": the result of every all_reduce, all_gather and
        broadcast; for methods whose parameters differ by design. Where it depends on the method's
        arguments, a function that takes them as keywords and returns one of these.
    """

    def declare(method: Method) -> Method:
        method.keeps_equal = what  # type: ignore[attr-defined]
        return method

    return declare


def kept_equal(method: Callable[..., Any], arguments: Mapping[str, Any]) -> Equal | None:
    """Return what a method has declared with :func:`keeps_equal`; None if nothing.

    Examples
    --------
    >>> @keeps_equal("received")
    ... def own(worker): ...
    >>> kept_equal(own, {}), kept_equal(print, {})
    ('received', None)
    """
    what: Equal | Callable[..., Equal] | None = getattr(method, "keeps_equal", None)
    if not callable(what):
        return what
    signature = inspect.signature(method).parameters.values()
    defaults = {each.name: each.default for each in signature if each.default is not each.empty}
    return what(**{**defaults, **arguments})


def operation(
    cause: Cause,
    *,
    seconds: float,
    scales_with: Literal["layers", "workers", "nothing"] = "layers",
) -> Callable[[_Verb], _Verb]:
    """Declare a function of one's own to be an operation, for :meth:`Worker.compute`.

    The simulator charges its time and runs the function only on models that hold numbers;
    realrun runs and times it. Traces have it under the function's name, figures under ``cause``.
    What it writes into the model is part of checkpoints, what it keeps elsewhere is not.

    Parameters
    ----------
    cause
        On what its time is spent.
    seconds
        Of one run at speed 1; with "layers" of a run on the whole model.
    scales_with
        "layers": a run on k of L layers, its first argument, takes k / L of it. "workers": a run
        takes it divided by the number of workers. "nothing": every run takes it.

    Raises
    ------
    ValueError
        For another cause or growth, a time that is negative or not finite, or the name of an
        operation that every scenario has a time for.

    Examples
    --------
    >>> @operation("quantize", seconds=0.02)
    ... def sparsify(layers): ...
    >>> declared_operation(sparsify).cause
    'quantize'
    """
    if cause not in COMPUTED:
        raise ValueError(f'cause "{cause}" must be one of {", ".join(COMPUTED)}')
    if scales_with not in (known := ("layers", "workers", "nothing")):
        raise ValueError(f'scales_with "{scales_with}" must be one of {", ".join(known)}')
    if not (isfinite(seconds) and seconds >= 0):
        raise ValueError(f"seconds must be finite and not negative, not {seconds}")

    def declare(verb: _Verb) -> _Verb:
        name = verb.__name__
        if name in OPERATIONS:
            raise ValueError(f"{name} is an operation of every model; give yours another name")
        verb.operation = Operation(name, cause, scales_with, seconds=seconds)  # type: ignore[attr-defined]
        return verb

    return declare


def check_control(round_trips: int, seconds: float) -> None:
    """Refuse control messages that are none.

    Raises
    ------
    ValueError
        If there is no round trip, or the seconds are negative or not finite.

    Examples
    --------
    >>> check_control(2, 0.005)
    """
    if round_trips < 1:
        raise ValueError(f"control: {round_trips} round trips; at least 1 is needed")
    if not (isfinite(seconds) and seconds >= 0):
        raise ValueError(f"control: seconds must be finite and not negative, not {seconds}")


def declared_operation(verb: Callable[..., None]) -> Operation | None:
    """Return what a function has been declared to be with :func:`operation`; None if nothing."""
    found = getattr(verb, "operation", None)
    return found if isinstance(found, Operation) else None


class Buffer(Protocol):
    """Something a collective can carry: ``elements`` numbers under a name.

    A buffer with numbers in it also has ``values`` (numpy) or ``tensor`` (torch), which a
    collective overwrites, and ``sent``, which the runtime sets to what the wire's dtype left
    of this worker's numbers (times M and its weight, in a weighted mean over M workers), or to a
    function that returns it until the collective is awaited.
    """

    @property
    def name(self) -> str:
        """What it is: "gradient", "delta", ..."""
        ...

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        ...

    @property
    def detail(self) -> str:
        """The layers it holds, as the trace writes them ("0:24:8")."""
        ...


class Model(Protocol):
    """What operations do to state. Verbs are passed to :meth:`Worker.compute` uncalled.

    ``layers`` arguments are ranges over layer numbers: ``range(0, L)`` is the whole model,
    ``range(p, L, P)`` a strided fragment, ``range(l, l + 1)`` one layer. ``slot`` tells apart
    several buffers of the same layers that are in flight at once.
    """

    num_layers: int
    param_dtype: str
    n_grad_accumulation: int
    committed_tokens: float  # of updates in the background; the horizon is read from it
    pace: float  # inner steps of an average worker per one of this one's; learning rates need it

    def perform(
        self, verb: Callable[..., None], args: tuple[Any, ...], kwargs: dict[str, Any], times: int
    ) -> None:
        """Carry out a verb ``times`` times: how a runtime runs what a program computes."""
        ...

    # Parts of buffers, for exchanges that do not send a buffer whole.
    def tensors(self, layers: range) -> Sequence[int]:
        """Elements of each tensor of some layers, in the order in which buffers hold them.

        Raises :class:`ArgumentError` where only the layers' sizes are known.
        """
        ...

    def parts(self, buffer: Buffer, edges: Sequence[int]) -> Sequence[Buffer]:
        """Parts of a buffer between edges, the first 0 and the last its elements, in place."""
        ...

    # Local training.
    def inner_step(self) -> None:
        """Take n_grad_accumulation micro-batches and one step of the inner optimizer."""
        ...

    def accumulate(self) -> None:
        """Add the gradient of one more micro-batch, over n_grad_accumulation, to the sum."""
        ...

    def forward(self, layers: range) -> None:
        """Run some layers forward; layer 0 begins a new micro-batch."""
        ...

    def backward(self, layers: range) -> None:
        """Run some layers backward and add their gradient, over n_grad_accumulation, to the sum."""
        ...

    def inner_optimizer(self, layers: range) -> None:
        """Apply the inner optimizer to some layers, from their gradient sum, and clear that."""
        ...

    # Synchronous data parallel.
    def gradient(self, layers: range, piece: int = 0, pieces: int = 1) -> Buffer:
        """Gradient sum of consecutive layers, or one of several equal pieces of it.

        After n_grad_accumulation micro-batches it is their mean.
        """
        ...

    def parameters(self, layers: range, piece: int = 0, pieces: int = 1) -> Buffer:
        """Parameters of consecutive layers, or one of several equal pieces of them."""
        ...

    def optimizer_shard(self, phase: str, gradients: Sequence[Buffer] = ()) -> None:
        """Apply the optimizer to this worker's own 1/M of what was reduce-scattered.

        That is rank i's slice, from n i // M to n (i + 1) // M, of each of the ``gradients``;
        without any, of the gradient handed over.

        ``phase``: "update" commits; "estimate" rolls the optimizer's state back; "predict"
        commits and then steps once more with the same gradient, rolled back.
        """
        ...

    # Outer steps.
    def average_parameters(self, layers: range) -> None:
        """Continue from the averaged parameters."""
        ...

    def outer_gradient(self, layers: range, slot: int = 0) -> None:
        """Write outer parameters minus local ones into ``delta(layers, slot)``."""
        ...

    def delta(self, layers: range, slot: int = 0) -> Buffer:
        """Outer gradient of some layers: this worker's, after the all-reduce the mean."""
        ...

    def outer_step(
        self, layers: range, slot: int, lr: float, momentum: float, nesterov: bool, alpha: float
    ) -> None:
        """Outer SGD with the mean in ``slot``; then local = alpha local + (1 - alpha) outer."""
        ...

    def eager_outer_step(
        self,
        layers: range,
        fresh: int | None,
        stale: int | None,
        lr: float,
        momentum: float,
        nesterov: bool,
    ) -> None:
        """Outer SGD with the mean in slot ``stale``, its own part exchanged for that in ``fresh``.

        None for either is zero.
        """
        ...

    # Accumulate while communicating.
    def hand_over(self, phase: str) -> None:
        """Hand gradient sum and count to the update; after "estimate" they count once more."""
        ...

    def publish(self, phase: str) -> None:
        """Continue from the parameters that the update has gathered."""
        ...

    def handed_count(self) -> Buffer:
        """Micro-batches and tokens handed over (two numbers)."""
        ...

    def handed_gradient(self) -> Buffer:
        """Gradient sum handed over, not divided by any count."""
        ...

    def handed_parameters(self) -> Buffer:
        """Parameters that the update writes."""
        ...


class Worker(Protocol):
    """One worker as its program sees it. Provided by a runtime."""

    @property
    def rank(self) -> int:
        """Number of this worker, from 0."""
        ...

    @property
    def workers(self) -> int:
        """How many workers there are."""
        ...

    @property
    def site(self) -> tuple[int, ...]:
        """Ranks of the workers at this one's site, itself included: ``over=worker.site``."""
        ...

    @property
    def model(self) -> Model:
        """The replica that this worker trains."""
        ...

    @property
    def now(self) -> float:
        """Seconds since the run began, as this worker's clock has them (an observation)."""
        ...

    def next_round(self, steps: int | tuple[int, ...] | None = None) -> bool:
        """Begin a round of ``steps`` inner steps; False once the horizon is reached.

        A tuple has one entry per worker and is the same on all of them: the horizon is reached
        when all workers together have trained on its tokens. ``None`` means that the number of
        steps is not known beforehand: the horizon is then read from the reduced count of
        micro-batches. Every worker gets the same answers.
        """
        ...

    def compute(
        self,
        verb: Callable[..., None],
        *args: Any,
        times: int = 1,
        commits: bool = False,
        **kwargs: Any,
    ) -> Activity:
        """Run a verb of the model, or an :func:`operation`, ``times`` times on this worker's queue.

        ``commits`` declares that this commits an update of the verb's layers (of all layers
        if it is given none): updates are counted from these declarations alone.
        """
        ...

    # ``over``: ranks, in any order, of which this worker is one; by default all workers. The
    # same ranks are the same members, and slices of a buffer go by the place among them.

    def all_reduce(
        self,
        buffer: Buffer,
        dtype: str,
        *,
        mean: bool = True,
        over: Iterable[int] | None = None,
    ) -> Activity:
        """Mean (or sum) over all members, in place.

        A mean counts every member once, or by the tokens of its round: the scenario says which.
        A member that takes no step in the round receives the mean and adds nothing to it.
        """
        ...

    def reduce_scatter(
        self,
        buffer: Buffer,
        dtype: str,
        *,
        mean: bool = False,
        over: Iterable[int] | None = None,
    ) -> Activity:
        """Sum (or mean) over all members; each keeps its own slice."""
        ...

    def all_gather(
        self, buffer: Buffer, dtype: str, *, over: Iterable[int] | None = None
    ) -> Activity:
        """Every member's own slice to all members."""
        ...

    def all_to_all(
        self, buffer: Buffer, dtype: str, *, over: Iterable[int] | None = None
    ) -> Activity:
        """Slice j of every member to member j."""
        ...

    def broadcast(
        self,
        buffer: Buffer,
        dtype: str,
        *,
        over: Iterable[int] | None = None,
        root: int | None = None,
    ) -> Activity:
        """The buffer of rank ``root``, by default the first member, to all members."""
        ...

    # What one worker sends to another is matched in the order of the two, in each direction by
    # itself, whatever else they call.

    def send(self, buffer: Buffer, dtype: str, *, to: int) -> Activity:
        """Send a buffer to rank ``to``, which receives it."""
        ...

    def receive(self, buffer: Buffer, dtype: str, *, source: int) -> Activity:
        """Receive into a buffer what rank ``source`` sends to this worker."""
        ...

    def control(
        self, round_trips: int, seconds: float = 0.0, *, over: Iterable[int] | None = None
    ) -> Activity:
        """Exchange control messages with all members, as a quorum or a commit does.

        It ends ``round_trips`` (at least 1) round trips of the slowest pair and ``seconds`` after
        the last member has called. Control messages have connections of their own: they wait for no
        collective, and no collective for them.
        """
        ...

    def spawn(self, program: Callable[..., Program], *args: Any) -> Activity:
        """Start ``program(worker, *args)`` as a background task, on the device's second queue.

        All its runs share one lasting group of their own. It touches only what it was
        handed; the caller publishes its result after yielding it.
        """
        ...


class CollectiveCalls(ABC, Generic[Started]):
    """The collectives of :class:`Worker` as one call; both runtimes' workers extend it."""

    rank: int
    workers: int

    @abstractmethod
    def control(
        self, round_trips: int, seconds: float = 0.0, *, over: Iterable[int] | None = None
    ) -> Started:
        """See :meth:`Worker.control`."""

    @abstractmethod
    def _collective(
        self,
        operation: str,
        buffer: Buffer,
        dtype: str,
        mean: bool = False,
        over: Iterable[int] | None = None,
    ) -> Started: ...

    def all_reduce(
        self,
        buffer: Buffer,
        dtype: str,
        *,
        mean: bool = True,
        over: Iterable[int] | None = None,
    ) -> Started:
        """See :meth:`Worker.all_reduce`."""
        return self._collective("all_reduce", buffer, dtype, mean, over)

    def note_sent(self, buffer: Buffer, dtype: str, over: Iterable[int], *, mean: bool) -> None:
        """Let a buffer that others send for this worker know what their all-reduce takes of it.

        Eager updates ask for that. Nothing is to be done where buffers hold no numbers.
        """

    def reduce_scatter(
        self,
        buffer: Buffer,
        dtype: str,
        *,
        mean: bool = False,
        over: Iterable[int] | None = None,
    ) -> Started:
        """See :meth:`Worker.reduce_scatter`."""
        return self._collective("reduce_scatter", buffer, dtype, mean, over)

    def all_gather(
        self, buffer: Buffer, dtype: str, *, over: Iterable[int] | None = None
    ) -> Started:
        """See :meth:`Worker.all_gather`."""
        return self._collective("all_gather", buffer, dtype, over=over)

    def all_to_all(
        self, buffer: Buffer, dtype: str, *, over: Iterable[int] | None = None
    ) -> Started:
        """See :meth:`Worker.all_to_all`."""
        return self._collective("all_to_all", buffer, dtype, over=over)

    def broadcast(
        self,
        buffer: Buffer,
        dtype: str,
        *,
        over: Iterable[int] | None = None,
        root: int | None = None,
    ) -> Started:
        """See :meth:`Worker.broadcast`."""
        if over is not None:
            over = tuple(over)
        try:
            operation = broadcast_from(root, members_of(over, self.workers))
        except ValueError as error:
            raise ArgumentError(f"broadcast: {error}") from None
        return self._collective(operation, buffer, dtype, over=over)

    def send(self, buffer: Buffer, dtype: str, *, to: int) -> Started:
        """See :meth:`Worker.send`."""
        return self._transfer(buffer, dtype, self.rank, to, f"send: to={to}")

    def receive(self, buffer: Buffer, dtype: str, *, source: int) -> Started:
        """See :meth:`Worker.receive`."""
        return self._transfer(buffer, dtype, source, self.rank, f"receive: source={source}")

    def _transfer(
        self, buffer: Buffer, dtype: str, sender: int, receiver: int, asked: str
    ) -> Started:
        """Call what one rank sends to another; both call the same."""
        if sender == receiver:
            raise ArgumentError(f"{asked}: is this worker itself")
        pair = sender, receiver
        try:
            operation = sent_by(sender, members_of(pair, self.workers))
        except ValueError as error:
            raise ArgumentError(f"{asked}: {error}") from None
        return self._collective(operation, buffer, dtype, over=pair)
