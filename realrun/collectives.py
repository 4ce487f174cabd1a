"""Collectives on buffers of sim's vocabulary, started asynchronously on a process group."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from realrun.device import Host, Mark
from realrun.quantize import Packed, all_gather_single, carry_out, prepare
from sim.program import Buffer

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Collective:
    """One collective under way. ``finish`` waits and puts the result where it belongs."""

    def __init__(
        self,
        operation: str,
        wait: Callable[[], object],
        completed: Callable[[], bool],
        place: Callable[[], None],
    ) -> None:
        self.operation = operation
        self._wait = wait
        self._completed = completed
        self._place = place
        self._finished = False

    def ended(self) -> bool:
        """Whether the result has arrived."""
        return self._completed()

    def finish(self) -> None:
        """Wait for the result and write it into the buffer; a second call does nothing."""
        if not self._finished:
            self._wait()
            self._place()
            self._finished = True


class Group:
    """What stands behind the group of a program: process groups of all workers, and a thread.

    The backend carries out fp32, bf16 and fp16. An int8 or fp4 collective is two of the
    backend's with sums between them: a thread of the group's own carries these out, in the
    order of the calls, on a second process group, where nothing comes between the two.

    Parameters
    ----------
    block
        Values per scale of int8 and fp4.
    timeout
        How long a peer is waited for; a new process group would take its backend's own, half
        an hour for gloo.
    device
        What computes.
    spawned
        Whether it is a spawned program's. All ranks make process groups in the same order, so
        in their main threads: those of a spawned program are made here, both at once. The main
        program has the one of all, and :meth:`open` makes the other when it is first needed.
    """

    def __init__(
        self, block: int, timeout: timedelta, device: Host, *, spawned: bool = False
    ) -> None:
        self._block = block
        self._timeout = timeout
        self._device = device
        self._made: list[Any] = []
        self._process_group: Any = self._new() if spawned else dist.group.WORLD
        self._second: Any = self._new() if spawned else None
        self._stream: Any = None
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # A daemon: where a peer is lost, the process must not wait for the thread to end.
        self._thread = threading.Thread(target=self._serve, name="collectives", daemon=True)

    def _new(self) -> Any:
        group = dist.new_group(timeout=self._timeout)
        self._made.append(group)
        return group

    def open(self) -> None:
        """Make ready for int8 and fp4; the first time all ranks meet here."""
        if self._second is None:
            self._second = self._new()
        if not self._thread.is_alive():
            self._thread.start()

    def pack(self, operation: str, buffer: Buffer, dtype: str) -> Packed:
        """Quantise the own values; see :func:`realrun.quantize.prepare` for the errors."""
        target = tensor_of(buffer)
        count = dist.get_world_size(self._process_group)
        packed = prepare(operation, target, dtype, self._block, count)
        if self._by_host(target):
            packed = replace(packed, wire=packed.wire.cpu())
        _note_sent(buffer, lambda: packed.sent().to(target.device, target.dtype))
        return packed

    def _by_host(self, values: torch.Tensor) -> bool:
        """Whether they lie on a GPU and gloo carries them: then by way of the host's memory."""
        return values.is_cuda and dist.get_backend(self._process_group) == "gloo"

    def start(
        self,
        operation: str,
        buffer: Buffer,
        dtype: str,
        mean: bool,
        ended: Callable[[float], None],
        packed: Packed | None = None,
    ) -> Collective:
        """Start a collective on the whole of a buffer, which is written in ``finish``.

        Parameters
        ----------
        operation
            all_reduce, reduce_scatter, all_gather, all_to_all or broadcast.
        dtype
            fp32, bf16, fp16: what travels, and what is summed in. int8, fp4: see ``packed``.
        mean
            Divide the sum by the number of workers (all_reduce).
        ended
            Called once, maybe in another thread, with the moment (seconds) at which the result
            arrived.
        packed
            For int8 and fp4, what :meth:`pack` gave.
        """
        if packed is None:
            return self._start(operation, buffer, dtype, mean, ended)
        target, group = tensor_of(buffer), self._second
        # On a GPU the thread's sums begin when the values are packed.
        ready = self._device.mark() if packed.wire.is_cuda else None
        result: Future[torch.Tensor] = Future()

        def call() -> None:
            try:
                try:
                    with self._beside(target.device, ready):
                        arrived = carry_out(packed, group, mean=mean)
                finally:
                    ended(self._device.now())  # before whoever waits goes on
                result.set_result(arrived)
            except Exception as error:
                result.set_exception(error)

        def place() -> None:
            arrived, own = result.result(), target
            if operation == "reduce_scatter":
                count, rank = dist.get_world_size(group), dist.get_rank(group)
                own = target[len(target) * rank // count : len(target) * (rank + 1) // count]
            own.copy_(arrived)
            if arrived.is_cuda:  # made on the stream of the thread, used on the caller's
                arrived.record_stream(torch.cuda.current_stream(arrived.device))

        self._calls.put(call)
        return Collective(operation, result.result, result.done, place)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    @contextmanager
    def _beside(self, device: torch.device, packed: Mark) -> Iterator[None]:
        """On a GPU: work on a stream of the thread's own, where no computation is in the way.

        It begins when the values are packed, and ends when the GPU has ended.
        """
        if packed is None:
            yield
            return
        with torch.cuda.device(device):
            stream = self._own_stream()
            stream.wait_event(packed)
            with torch.cuda.stream(stream):
                yield
            stream.synchronize()

    def _own_stream(self) -> Any:
        if self._stream is None:
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        return self._stream

    def _start(
        self,
        operation: str,
        buffer: Buffer,
        dtype: str,
        mean: bool,
        ended: Callable[[float], None],
    ) -> Collective:
        """Let the backend carry a collective out.

        gloo carries out reduce_scatter as a whole all-reduce, twice what it should cost; here
        it is an all-to-all of slices and a local sum in the order of the ranks.
        """
        target, group = tensor_of(buffer), self._process_group
        where = torch.device("cpu") if self._by_host(target) else target.device
        sent = target.to(where, DTYPES[dtype], copy=True)
        _note_sent(buffer, lambda: target.to(DTYPES[dtype]).to(target.dtype))
        count, rank = dist.get_world_size(group), dist.get_rank(group)
        edges = [len(sent) * i // count for i in range(count + 1)]
        sizes = [b - a for a, b in pairwise(edges)]
        own_slice = slice(edges[rank], edges[rank + 1])

        if operation == "all_reduce":

            def issue() -> Any:
                return dist.all_reduce(sent, group=group, async_op=True)

            def place() -> None:
                result = sent.to(target.device, target.dtype)
                target.copy_(result / count if mean else result)

        elif operation in ("reduce_scatter", "all_to_all"):
            mine = sizes[rank]
            received = sent.new_empty(mine * count)

            def issue() -> Any:
                return dist.all_to_all_single(
                    received, sent, [mine] * count, sizes, group=group, async_op=True
                )

            def place() -> None:
                parts = received.view(count, mine)
                if operation == "all_to_all":
                    target[: mine * count].copy_(parts.reshape(-1))
                    return
                total = parts[0].clone()
                for part in parts[1:]:
                    total += part
                target[own_slice].copy_(total)

        elif operation == "all_gather":
            longest = max(sizes)
            padded = sent.new_zeros(longest)
            padded[: sizes[rank]] = sent[own_slice]
            gathered = sent.new_empty(longest * count)

            def issue() -> Any:
                return all_gather_single(gathered, padded, group=group, async_op=True)

            def place() -> None:
                for part, size, start in zip(
                    gathered.view(count, longest), sizes, edges[:-1], strict=True
                ):
                    target[start : start + size].copy_(part[:size])

        else:

            def issue() -> Any:
                return dist.broadcast(sent, src=0, group=group, async_op=True)

            def place() -> None:
                target.copy_(sent)

        if sent.is_cuda:
            return self._on_stream(operation, issue, place, ended)
        work = issue()
        # The moment of the end is the backend's, not that of whoever waits for it.
        work.get_future().add_done_callback(lambda _: ended(self._device.now()))
        return Collective(operation, work.wait, work.is_completed, place)

    def _on_stream(
        self,
        operation: str,
        issue: Callable[[], Any],
        place: Callable[[], None],
        ended: Callable[[float], None],
    ) -> Collective:
        """Let NCCL carry a collective out on a stream of the group's own.

        The host waits for nothing: whoever waits lets the stream that is current then wait.
        """
        device, stream = self._device, self._own_stream()
        stream.wait_event(device.mark())
        with torch.cuda.stream(stream):
            issue().wait()  # lets this stream wait for NCCL's
            end = device.mark()
        device.later([end], lambda at: ended(at[0]))
        return Collective(operation, lambda: device.after(end), lambda: device.passed(end), place)

    def close(self) -> None:
        """Carry out what was called, then end the thread and the process groups made here.

        For the regular end of a run: where a peer is lost this waits for the timeout.
        """
        if self._thread.is_alive():
            self._calls.put(None)
            self._thread.join()
        while self._made:
            dist.destroy_process_group(self._made.pop())


def _note_sent(buffer: Buffer, own: Callable[[], torch.Tensor]) -> None:
    """Have the buffer tell what the wire's type left of the own values; eager updates ask.

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
