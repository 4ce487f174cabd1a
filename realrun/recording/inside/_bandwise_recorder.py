"""A process group that notes every collective, in the recorded program.

`torch.distributed` makes its process groups by calling ``distributed_c10d.ProcessGroup``. Where it
does, that name means a subclass that holds the real process group and passes every call on. DDP's
reducer and the functional collectives call process groups from C++, which finds the methods of a
Python subclass, so they are seen as well; functions of ``torch.distributed`` that are patched would
miss them.

A line of the file is a checksum and a list in JSON: what happened, and when, in nanoseconds of the
machine's monotonic clock. Lines are handed to the operating system twenty times a second, so that
they survive the process, however it ends. No tensor's contents are read.

This module needs torch and the standard library only, see `sitecustomize.py` next to it.
"""

from __future__ import annotations

import atexit
import errno
import functools
import json
import os
import sys
import time
import weakref
import zlib
from itertools import count
from typing import Any

now = time.monotonic_ns

SCHEMA = 1

# Method of a process group: operation, and which argument holds what is counted as its bytes.
# The size of a reduce_scatter, all_gather or all_to_all is that of the whole, not of a shard.
_METHODS = {
    "allreduce": ("all_reduce", 0),
    "allreduce_coalesced": ("all_reduce", 0),
    "broadcast": ("broadcast", 0),
    "reduce": ("reduce", 0),
    "allgather": ("all_gather", 0),
    "allgather_coalesced": ("all_gather", 0),
    "all_gather_single": ("all_gather", 0),
    "_allgather_base": ("all_gather", 0),
    "all_gather_single_coalesced": ("all_gather", 0),
    "allgather_into_tensor_coalesced": ("all_gather", 0),
    "gather": ("gather", 1),
    "scatter": ("scatter", 0),
    "reduce_scatter": ("reduce_scatter", 1),
    "reduce_scatter_single": ("reduce_scatter", 1),
    "_reduce_scatter_base": ("reduce_scatter", 1),
    "reduce_scatter_single_coalesced": ("reduce_scatter", 1),
    "reduce_scatter_tensor_coalesced": ("reduce_scatter", 1),
    "alltoall": ("all_to_all", 1),
    "alltoall_base": ("all_to_all", 1),
    "all_to_all_single": ("all_to_all", 1),
    "barrier": ("barrier", None),
    "monitored_barrier": ("barrier", None),
    "send": ("send", 0),
    "recv": ("recv", 0),
    "recv_anysource": ("recv", 0),
}
# Of these every member has a shard, and the tensor counted is one of them.
_SHARDED = ("gather", "scatter")
_FROM_ROOT = ("broadcast", "scatter")
_BOTH = (  # set on the process group that is held, and on the one that is seen
    "_register_backend",
    "_set_default_backend",
    "_set_group_name",
    "_set_group_desc",
)
_HELD = (  # answered by the process group that is held
    "_end_coalescing",
    "_get_sequence_number_for_group",
    "_set_sequence_number_for_group",
    "_start_coalescing",
    "_wait_for_pending_works",
    "abort",
    "get_group_store",
    "set_timeout",
    "shutdown",
)


_FLUSH_NS = 50_000_000  # at most that long nothing is handed to the system
_LOAD_NS = 250_000_000  # between two looks at who uses the processors
_MOST_HELD = 4096  # lines


class Stream:
    """The file of one process, made when it makes its first process group."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._file = -1
        self._pid = 0
        self._held: list[tuple[Any, ...]] = []
        self._due = self._load_due = 0

    def note(self, *what: Any) -> None:
        """Add a line; lines that come in quick succession are written together."""
        self._held.append(what)
        if now() >= self._due or len(self._held) >= _MOST_HELD:
            self.flush()

    def flush(self) -> None:
        """Hand all lines to the system; a disk that is full ends the recording, not the program."""
        moment = now()
        self._due = moment + _FLUSH_NS
        if moment >= self._load_due:
            self._load_due = moment + _LOAD_NS
            self._held.append(("load", moment, time.process_time_ns(), _busy_ns()))
        held, self._held = self._held, []
        if self._file == -2 or not held:
            return
        texts = [json.dumps(each, separators=(",", ":")) for each in held]
        lines = [f"{zlib.crc32(text.encode()):08x} {text}\n" for text in texts]
        content = "".join(lines).encode()
        try:
            if self._pid != (pid := os.getpid()):  # also a fork's, which has a file of its own
                self._pid = pid
                path = os.path.join(self._folder, f"{pid}-{now()}.part")
                self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            if os.write(self._file, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._file = -2
            self._say_why(error)

    def close(self) -> None:
        """Note that this process ends by itself."""
        if self._pid == os.getpid():
            self.note("exit", now())
            self.flush()

    def _say_why(self, error: OSError) -> None:
        try:  # as the name of an empty file, for which a full disk may still have room
            path = os.path.join(self._folder, f"{self._pid}.errno-{error.errno}")
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
        except OSError:
            pass


def _busy_ns() -> int | None:
    """Return for how long the machine's processors have computed, added up; None where unknown."""
    try:
        with open("/proc/stat") as file:
            user, nice, system, _, _, irq, softirq = map(int, file.readline().split()[1:8])
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


stream: Any = None
_kind: Any = None  # of process groups that are recorded


def step() -> None:
    """Mark that a step begins here; :func:`realrun.step` calls it."""
    if stream is not None:
        stream.note("step", now())


def install(c10d: Any) -> None:
    """Let ``torch.distributed`` make process groups that note what they are asked for."""
    global stream, _kind
    stream = Stream(os.environ["BANDWISE_RECORDING"])
    base, make = c10d.ProcessGroup, c10d._new_process_group_helper
    recorded = _kind = _recorded(c10d, base)

    @functools.wraps(make)
    def make_recorded(*arguments: Any, **named: Any) -> Any:
        # Only here: elsewhere the name stands for a type, which torch has registered.
        c10d.ProcessGroup = recorded
        try:
            return make(*arguments, **named)
        finally:
            c10d.ProcessGroup = base

    c10d._new_process_group_helper = make_recorded
    atexit.register(stream.close)


def install_in_torchft(module: Any) -> None:
    """Let torchft, which makes the process groups between its replicas itself, make recorded ones.

    What it calls is loaded under a name of its module's own.
    """
    module.BaseProcessGroup = _kind


def install_in_torchft_manager(module: Any) -> None:
    """Note torchft's quorums: control messages of all replicas, for which training waits.

    The first one makes the process group, and is not noted. The commit is decided inside a replica
    group, and stays part of the computation.
    """
    manager = module.Manager
    ask, settle = manager.start_quorum, manager.wait_quorum

    @functools.wraps(ask)
    def start_quorum(self: Any, *arguments: Any, **named: Any) -> None:
        group: Any = getattr(self._pg, "_pg", None)
        begin = now()
        ask(self, *arguments, **named)
        if type(group) is not _kind:
            return
        number = group._note("control", [], None, begin, begin)
        if self._use_async_quorum:
            self._bandwise_quorum = number
        else:  # has been waited for
            stream.note("wait", number, begin, now())

    @functools.wraps(settle)
    def wait_quorum(self: Any) -> None:
        number = self.__dict__.pop("_bandwise_quorum", None)
        begin = now()
        settle(self)
        if number is not None:
            stream.note("wait", number, begin, now())

    manager.start_quorum, manager.wait_quorum = start_quorum, wait_quorum


def _recorded(c10d: Any, base: Any) -> Any:
    """Return the subclass of ``ProcessGroup`` that is used in its place."""
    # Half of torch is loaded by now: it imports torch.distributed itself.
    torch: Any = sys.modules["torch"]
    calls, groups = count(), count()
    backward, futures = _Backward(torch), _Futures(torch)
    size = 0  # of the group by which this process was introduced

    class Waited(c10d.Work):  # type: ignore[misc]
        """What a collective returns: the real one's, with every wait noted."""

        def __init__(self, work: Any, call: int, from_any: bool) -> None:
            super().__init__()
            self._work, self._call, self._from_any = work, call, from_any

        def wait(self, timeout: Any = None) -> bool:
            begin = now()
            # C++ passes no time at all where it has none to give.
            limited = timeout is not None and timeout.total_seconds() > 0
            try:
                answer: bool = self._work.wait(timeout) if limited else self._work.wait()
            finally:
                stream.note("wait", self._call, begin, now())
            if self._from_any:
                stream.note("source", self._call, self._work._source_rank())
            return answer

        def synchronize(self) -> None:
            begin = now()
            self._work.synchronize()
            stream.note("wait", self._call, begin, now())

        def get_future(self) -> Any:
            """Return the real future; C++ waits for it where the backward pass ends."""
            future = self._work.get_future()
            backward.add(self._call, future)
            futures.calls[future] = (self._call,)
            return future

        def _source_rank(self) -> Any:
            return self._work._source_rank()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._work, name)

    for name in (
        "block_current_stream",
        "exception",
        "get_future_result",
        "is_completed",
        "is_success",
        "result",
        "source_rank",
        "_get_duration",
        "_get_op_type",
    ):
        if hasattr(c10d.Work, name):
            setattr(Waited, name, _passed_on(name, "_work"))

    class Kind(type(base)):  # type: ignore[misc]
        """While the name is replaced, what is asked of the type is asked of the real one."""

        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, base)

        def __subclasscheck__(cls, other: type) -> bool:
            return issubclass(other, base)

    class Recorded(base, metaclass=Kind):  # type: ignore[misc]
        """A process group that passes all calls on, and notes the collectives."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments[-2:])
            self._own = base(*arguments)
            self._number: int | None = None  # until its first collective

        def _known(self, tensors: list[Any]) -> int:
            """Return the number of this group in the file, where the first call introduces it."""
            nonlocal size
            if self._number is None:
                ranks = c10d._world.pg_group_ranks.get(self)
                default = c10d.GroupMember.WORLD
                # Replicas of which each is a world of its own know each other by another group.
                world = self if default is None or ranks is None else default
                if world.size() > size:
                    size = world.size()
                    stream.note("begin", _about(torch, world, default))
                self._number = next(groups)
                members = sorted(ranks, key=ranks.get) if ranks else list(range(self.size()))
                stream.note("group", self._number, members, self.name())
            if tensors and tensors[0].device.type != "cpu":
                stream.note("device", str(tensors[0].device.type))
            return self._number

        def _note(
            self, operation: str, tensors: list[Any], peer: int | None, begin: int, end: int
        ) -> int:
            group = self._known(tensors)
            number = next(calls)
            size = sum(each.numel() * each.element_size() for each in tensors)
            if operation in _SHARDED:
                size *= self.size()
            dtype = str(tensors[0].dtype).removeprefix("torch.") if tensors else ""
            stream.note("call", number, operation, size, dtype, group, peer, begin, end)
            return number

        def _start_coalescing(self, *arguments: Any) -> Any:
            return self._own._start_coalescing(*arguments)

    def method(name: str, operation: str, place: int | None) -> Any:
        def call(self: Any, *arguments: Any, **named: Any) -> Any:
            if type(self) is not Recorded:  # a process group of another library's
                return getattr(base, name)(self, *arguments, **named)
            own = getattr(self._own, name)
            begin = now()
            work = own(*arguments, **named)
            end = now()
            given = (*arguments, *named.values())
            tensors = [] if place is None else _flat(torch, given[place])
            if operation in _SHARDED and not tensors:
                tensors = _flat(torch, given[1 - int(place or 0)])[:1]
            peer = None
            if name in ("send", "recv"):
                peer = given[1]
            elif operation in _FROM_ROOT:
                peer = next((each.rootRank for each in given if hasattr(each, "rootRank")), None)
            number = self._note(operation, tensors, peer, begin, end)
            if work is None:
                if name == "monitored_barrier":
                    stream.note("wait", number, begin, end)
                return None
            return Waited(work, number, name == "recv_anysource")

        call.__name__ = name
        return call

    for name, (operation, place) in _METHODS.items():
        if hasattr(base, name):
            setattr(Recorded, name, method(name, operation, place))
    for name in _BOTH:
        if hasattr(base, name):
            setattr(Recorded, name, _on_both(base, name))
    for name in _HELD:
        if hasattr(base, name):
            setattr(Recorded, name, _passed_on(name, "_own"))
    Recorded.__name__ = Recorded.__qualname__ = "ProcessGroup"
    return Recorded


class _Backward:
    """Notes when futures that were asked for in a backward pass are waited for, and until when.

    DDP's reducer waits for the futures of its buckets in a callback at the end of the backward
    pass, which it queues when the last of them has been issued. One that is queued when the first
    is issued comes before it; and one that this queues comes after it.
    """

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._task = -1
        self._futures: list[tuple[int, Any]] = []

    def add(self, call: int, future: Any) -> None:
        """Take the future of a call; outside of a backward pass nobody knows who waits for it."""
        task = self._torch._C._current_graph_task_id()
        if task == -1:
            return
        if task != self._task:
            self._task, self._futures = task, []
            futures = self._futures
            engine = self._torch.autograd.Variable._execution_engine
            engine.queue_callback(lambda: self._begin(engine, futures))
        self._futures.append((call, future))

    def _begin(self, engine: Any, futures: list[tuple[int, Any]]) -> None:
        begin = now()
        # One that has completed calls back at once: only those that are waited for cost a thread
        # of the backend's time.
        for call, future in futures:
            future.add_done_callback(functools.partial(_completed, call))
        engine.queue_callback(lambda: self._end(begin, futures))

    def _end(self, begin: int, futures: list[tuple[int, Any]]) -> None:
        stream.note("finish", [call for call, _ in futures], begin, now())
        futures.clear()


class _Futures:
    """Notes when Python waits for the future of a call, or for what follows from it."""

    def __init__(self, torch: Any) -> None:
        #: Of futures that are in use, the calls that they wait for.
        self.calls: Any = weakref.WeakKeyDictionary()
        kind, calls = torch._C.Future, self.calls
        wait, then, collect = kind.wait, kind.then, torch._C._collect_all

        @functools.wraps(wait)
        def waits(future: Any) -> Any:
            awaited = calls.get(future, ())
            begin = now()
            try:
                return wait(future)
            finally:
                for call in awaited:
                    stream.note("wait", call, begin, now())

        @functools.wraps(then)
        def follows(future: Any, callback: Any) -> Any:
            found = then(future, callback)
            if (of := calls.get(future)) is not None:
                calls[found] = of
            return found

        @functools.wraps(collect)
        def collects(futures: Any) -> Any:
            found = collect(futures)
            if of := tuple(call for each in futures for call in calls.get(each, ())):
                calls[found] = of
            return found

        kind.wait, kind.then, torch._C._collect_all = waits, follows, collects


def _completed(call: int, _: Any) -> None:
    stream.note("end", call, now())


def _on_both(base: Any, name: str) -> Any:
    def call(self: Any, *arguments: Any) -> Any:
        getattr(base, name)(self, *arguments)
        return getattr(self._own, name)(*arguments)

    return call


def _passed_on(name: str, to: str) -> Any:
    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        return getattr(self.__dict__[to], name)(*arguments, **named)

    return call


def _flat(torch: Any, given: Any) -> list[Any]:
    """Return the tensors in a tensor, in a list of them, or in a list of lists."""
    if isinstance(given, torch.Tensor):
        return [given]
    return [tensor for each in given for tensor in _flat(torch, each)]


def _about(torch: Any, world: Any, default: Any) -> dict[str, Any]:
    """Return what the first line says: who this is, and of what."""
    try:
        boot = open("/proc/sys/kernel/random/boot_id").read().strip()  # noqa: SIM115
    except OSError:
        boot = ""
    return {
        "schema": SCHEMA,
        "rank": world.rank(),
        "workers": world.size(),
        "torch": torch.__version__,
        "backend": "" if default is None else str(torch.distributed.get_backend()),
        "threads": torch.get_num_threads(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "clock": boot,
        "at": now(),
    }
