"""Collectives on buffers of sim's vocabulary, started asynchronously on a process group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from realrun.communication import nccl
from realrun.communication.connections import fresh_group, in_full_use
from realrun.communication.process_groups import Lane, of_members, store_of_all
from realrun.communication.quantize import Packed, carry_out, prepare
from realrun.communication.transfers import Peers, form
from realrun.device import Host
from sim.members import is_transfer, named
from sim.program import QUANTIZED, Buffer

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Ended = Callable[[float, str], None]
"""Takes the moment (seconds) at which a collective ended, and why it failed, if it did."""


class Collective:
    """One collective under way: ``wait`` for it, then ``place`` the result.

    Parameters
    ----------
    operation
        What it is.
    wait, completed, place
        What the methods do.
    held
        What must not be freed before.
    """

    def __init__(
        self,
        operation: str,
        wait: Callable[[], object],
        completed: Callable[[], bool],
        place: Callable[[], object],
        held: object = None,
    ) -> None:
        self.operation = operation
        self._wait, self._completed, self._place = wait, completed, place
        self._held = held

    def ended(self) -> bool:
        """Whether the result has arrived."""
        return self._completed()

    def wait(self) -> None:
        """Wait for the result; where it arrives on a stream the current one does, not the host.

        Raises
        ------
        RuntimeError
            From the backend: a peer is gone, or the timeout has passed.
        """
        self._wait()

    def place(self) -> None:
        """Write the result into the buffer, and let go of all else; a second call does nothing."""
        place = self._place
        self._wait = self._place = _nothing
        self._completed = _yes
        place()
        self._held = None

    def then(self, use: Callable[[], object]) -> None:
        """Call ``use`` once, as soon as the result is in the buffer."""
        place = self._place

        def both() -> None:
            place()
            use()

        self._place = both


def _nothing() -> None: ...


def _yes() -> bool:
    return True


class Group:
    """What stands behind the group of a program: process groups of its members.

    The backend carries out fp32, bf16 and fp16. An int8 or fp4 collective is two of the
    backend's with sums between them. NCCL queues all of it on a stream of the group's own.
    gloo has no stream: a thread of the group's carries these out, in the order of the calls, on
    a second process group, where nothing comes between the two. Where the members are not all
    workers, who make their process groups when they first need them, gloo's other collectives
    are issued by a thread as well (:mod:`realrun.communication.process_groups`).

    No process group is bound to a device: NCCL would then split each from the first one's
    communicator, which must have nothing to do meanwhile, and the first collective would no
    longer contain the setting up.

    Parameters
    ----------
    block
        Values per scale of int8 and fp4.
    timeout
        How long a peer is waited for; a new process group would take its backend's own, half
        an hour for gloo.
    device
        What computes.
    name
        As the trace has it; it says who the members are (:func:`sim.members.named`).
    spawned
        Whether it is a spawned program's. All ranks make process groups in the same order, so
        in their main threads: those of a spawned program are made here, both at once. The main
        program has the one of all, and :meth:`open` makes the other when it is first needed.
    fresh
        Whether the main program has one of its own instead, and all that are made here have
        connections in full use, see :mod:`realrun.communication.connections`: for labs.
    """

    def __init__(
        self,
        block: int,
        timeout: timedelta,
        device: Host,
        *,
        name: str = "",
        spawned: bool = False,
        fresh: bool = False,
    ) -> None:
        self._block = block
        self._timeout = timeout
        self._device = device
        self._fresh = fresh
        self._gloo = dist.get_backend(dist.group.WORLD) == "gloo"
        self._name, self._members = name, named(name, dist.get_world_size())
        self._everyone = not self._members.name and not is_transfer(name)
        self._peers = Peers(self._members, dist.get_rank())
        self._made: list[Any] = []
        own = spawned or fresh or not self._everyone
        self._plain = Lane(partial(self._new, "") if own else lambda: dist.group.WORLD)
        self._second = Lane(partial(self._new, " quantized"))
        self._stream: Any = None
        self._queued: list[Collective] = []
        if self._everyone:
            self._plain.open()
            if spawned and self._gloo:
                self._second.open()

    def _new(self, part: str) -> Any:
        if self._everyone:
            group = (fresh_group if self._fresh else dist.new_group)(timeout=self._timeout)
        else:
            name = f"{self._name}{part}"
            group = of_members(name, self._members, self._timeout, store_of_all())
            if self._fresh:
                in_full_use(group)
        self._made.append(group)
        return group

    def time_on(self, device: Host) -> None:
        """Read the ends of collectives on another device's clock."""
        self._device = device

    def open(self) -> None:
        """Make ready for int8 and fp4; the first time all ranks meet here, if all are members."""
        if self._gloo and self._everyone:
            self._second.open()

    def ahead(self, *, quantized: bool) -> list[Future[Any]]:
        """Make what some members' collectives need before the first of them; does not wait.

        Each process group comes about in its own thread, when all its members have called this.
        """
        lanes = [] if self._everyone else [self._plain, *[self._second] * quantized]
        return [lane.opened() for lane in lanes]

    def pack(self, operation: str, buffer: Buffer, dtype: str, weight: float = 1.0) -> Packed:
        """Quantize a buffer times a weight; the errors are those of :mod:`.quantize`."""
        target = tensor_of(buffer)
        packed = prepare(
            operation, _weighted(target, weight), dtype, self._block, self._peers.count
        )
        if self._by_host(target):
            packed = replace(packed, wire=packed.wire.cpu())
        _note_sent(buffer, lambda: packed.sent().to(target.device, target.dtype))
        return packed

    def _by_host(self, values: torch.Tensor) -> bool:
        """Whether they lie on a GPU and gloo carries them: then by way of the host's memory."""
        return values.is_cuda and self._gloo

    def _on_stream(self, values: torch.Tensor) -> bool:
        """Whether NCCL carries them: then the host waits for nothing."""
        return values.is_cuda and not self._gloo

    def start(
        self,
        operation: str,
        buffer: Buffer,
        dtype: str,
        mean: bool,
        ended: Ended,
        packed: Packed | None = None,
        weight: float = 1.0,
    ) -> Collective:
        """Start a collective on the whole of a buffer, which is written in ``place``.

        Parameters
        ----------
        operation
            all_reduce, reduce_scatter, all_gather, all_to_all or broadcast.
        dtype
            fp32, bf16, fp16: what travels, and what is summed in. int8, fp4: see ``packed``.
        mean
            Divide the sum by the number of members (all_reduce, reduce_scatter).
        ended
            Called once, maybe in another thread. What it raises comes out of the device's
            ``settle``, ``drain`` or ``close``.
        packed
            For int8 and fp4, what :meth:`pack` gave.
        weight
            What this rank's values are multiplied by before they are sent (not ``packed``).

        Raises
        ------
        torch.distributed.DistError
            From NCCL: a peer has not come to the first collective, or an earlier one has failed.
        """
        if packed is None:
            return self._start(operation, buffer, dtype, mean, ended, weight)
        own = target = tensor_of(buffer)
        if operation == "reduce_scatter":
            own = target[self._peers.own_slice(len(target))]
        result: Future[torch.Tensor] = Future()

        def place() -> None:
            arrived = result.result()
            own.copy_(arrived)
            if arrived.is_cuda:  # made on the group's stream, used on the caller's
                arrived.record_stream(torch.cuda.current_stream(arrived.device))

        if self._on_stream(target):

            def issue() -> Sequence[Any]:
                result.set_result(carry_out(packed, self._plain.open(), mean=mean))
                return ()

            return self._queue(operation, issue, place, ended)

        def call() -> None:
            try:
                try:
                    arrived = carry_out(packed, self._second.open(), mean=mean)
                finally:
                    ended(self._device.now(), "")  # before a waiting thread continues
                result.set_result(arrived)
            except Exception as error:
                result.set_exception(error)

        self._second.put(call)
        return Collective(operation, result.result, result.done, place)

    def _start(
        self,
        operation: str,
        buffer: Buffer,
        dtype: str,
        mean: bool,
        ended: Ended,
        weight: float,
    ) -> Collective:
        """Let the backend carry a collective out."""
        target = tensor_of(buffer)
        where = torch.device("cpu") if self._by_host(target) else target.device
        # In place where nothing is converted: programs leave alone what is in flight. Not where
        # someone may ask meanwhile for what was sent.
        own = _weighted(target, weight)
        sent = own.to(where, DTYPES[dtype], copy=own is target and hasattr(buffer, "sent"))
        # A copy even where nothing is rounded: the result will overwrite this worker's values.
        _note_sent(
            buffer,
            lambda: _rounded(target, dtype, weight),
        )
        issue, place = form(operation, self._peers, sent, target, mean)
        if self._on_stream(sent):

            def queue() -> Sequence[Any]:
                work = issue(self._plain.open())
                work.wait()  # lets this stream wait for NCCL's own
                return (work,)

            return self._queue(operation, queue, place, ended)

        def issued() -> Any:
            work = issue(self._plain.open())
            # The moment of the end is the backend's, not that of the thread that waits for it.
            work.get_future().add_done_callback(lambda _: ended(self._device.now(), ""))
            return work

        if self._everyone:
            work = issued()
            return Collective(operation, work.wait, work.is_completed, place)
        later: Future[Any] = Future()

        def call() -> None:
            try:
                later.set_result(issued())
            except Exception as error:
                later.set_exception(error)

        def completed() -> bool:
            if not later.done():
                return False
            return later.exception() is not None or bool(later.result().is_completed())

        self._plain.put(call)
        return Collective(operation, lambda: later.result().wait(), completed, place)

    def _queue(
        self,
        operation: str,
        issue: Callable[[], Sequence[Any]],
        place: Callable[[], object],
        ended: Ended,
    ) -> Collective:
        """Queue a collective on a stream of the group's own, behind what the caller has called.

        The host waits for nothing: a waiting thread makes its current stream wait.
        ``issue`` returns what tells whether it failed.
        """
        device, begun = self._device, self._device.now()
        if self._stream is None:
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        handed = device.mark()
        with torch.cuda.stream(self._stream):
            device.after(handed)
            works = issue()
            end = device.mark()

        def use(at: list[float]) -> None:
            # An int8 or fp4 collective tells nothing; torch measures timeouts from the call.
            late = not works and at[1] - begun > self._timeout.total_seconds()
            ended(at[1], nccl.TIMED_OUT if late else nccl.failure(works))

        device.later([handed, end], use)
        collective = Collective(
            operation,
            lambda: device.after(end),
            lambda: device.passed(end),
            place,
            held=issue,
        )
        # NCCL reads what this holds, also where a program never waits for it.
        self._queued = [other for other in self._queued if not other.ended()]
        self._queued.append(collective)
        return collective

    def close(self) -> None:
        """Carry out what was called, then end the threads and the process groups made here.

        For the regular end of a run: where a peer is lost this waits for the timeout.
        """
        self._plain.close()
        self._second.close()
        while self._made:
            dist.destroy_process_group(self._made.pop())

    def backends(self) -> list[Any]:
        """Return the process groups of NCCL."""
        if self._gloo or self._plain.process_group is None:
            return []
        return [self._plain.process_group, *self._made]


def _weighted(values: torch.Tensor, weight: float) -> torch.Tensor:
    return values if weight == 1 else values * weight


def _rounded(values: torch.Tensor, dtype: str, weight: float) -> torch.Tensor:
    """Return what a type that is not quantized leaves of values: a copy in their own type."""
    return _weighted(values, weight).to(DTYPES[dtype], copy=True).to(values.dtype)


def note_unsent(buffer: Buffer, dtype: str, weight: float, block: int, members: int) -> None:
    """Have a buffer tell what an all-reduce of this many members would take of its values.

    For parts that another accelerator of an island sends. Computed where someone asks.
    """
    target = tensor_of(buffer)

    def sent() -> torch.Tensor:
        if dtype in QUANTIZED:
            packed = prepare("all_reduce", _weighted(target, weight), dtype, block, members)
            return packed.sent().to(target.device, target.dtype)
        return _rounded(target, dtype, weight)

    _note_sent(buffer, sent)


def _note_sent(buffer: Buffer, own: Callable[[], torch.Tensor]) -> None:
    """Have the buffer tell what the wire's type left of this worker's values; eager updates ask.

    Until the result is there: a tensor's own values are then gone.
    """
    if not hasattr(buffer, "sent"):
        return
    if getattr(buffer, "tensor", None) is None:
        buffer.sent = own().numpy().copy()
    else:
        buffer.sent = own


def tensor_of(buffer: Buffer) -> torch.Tensor:
    """The flat tensor behind a buffer; numpy buffers share their memory.

    Raises
    ------
    TypeError
        If the buffer holds neither.
    """
    tensor = getattr(buffer, "tensor", None)
    if isinstance(tensor, torch.Tensor):
        return tensor.view(-1)
    values = getattr(buffer, "values", None)
    if isinstance(values, np.ndarray):
        return torch.from_numpy(values)
    raise TypeError(f"buffer {buffer.name} {buffer.detail}: holds no numbers to send")
