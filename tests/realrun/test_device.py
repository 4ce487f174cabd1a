"""A GPU's clock, streams and collectives, in virtual time: no GPU is needed here.

What is queued on a stream begins when the stream comes to it, and not before the host has called
it. The host's time passes only where it waits, or calls: so a test can tell whether it has
waited. Numbers are computed at once and on the CPU; only times are simulated.
"""

from __future__ import annotations

import datetime
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402

from realrun import device as module  # noqa: E402
from realrun.communication.groups import Group  # noqa: E402
from realrun.device import Card  # noqa: E402
from realrun.errors import PeerLostError, RunError  # noqa: E402
from realrun.model.buffers import Flat  # noqa: E402
from realrun.runtime.shared import MAIN, Limits, Saving, Shared  # noqa: E402
from realrun.runtime.worker import TorchWorker  # noqa: E402
from sim.program import Program  # noqa: E402
from sim.trace.table import LOOK, WAIT, Row  # noqa: E402

CUDA = torch.device("cuda", 0)


class Gpu:
    """Virtual time in seconds; ``gains`` is what the GPU's own clock gains in a second."""

    def __init__(self, gains: float = 0.0, call_s: float = 0.0) -> None:
        self.host, self.waits = 0.0, 0
        self.gains, self.call_s = gains, call_s
        self.streams: list[Stream] = []
        self.default = Stream(self)
        self.nccl = Stream(self)
        self.local = threading.local()

    def current(self, device: object = None) -> Stream:
        found: Stream = getattr(self.local, "stream", self.default)
        return found

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        before, self.local.stream = self.current(), stream
        yield
        self.local.stream = before

    @contextmanager
    def nowhere(self, device: object) -> Iterator[None]:
        yield

    def until(self, time: float) -> None:
        """The host waits."""
        self.waits += 1
        self.host = max(self.host, time)

    def synchronize(self, device: object = None) -> None:
        self.until(max(stream.free for stream in self.streams))

    def kernel(self, seconds: float) -> None:
        self.current().queue(seconds)
        self.host += self.call_s


class Stream:
    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.free = gpu, 0.0
        gpu.streams.append(self)

    def queue(self, seconds: float) -> None:
        self.free = max(self.free, self.gpu.host) + seconds

    def wait_event(self, event: Event) -> None:
        self.free = max(self.free, event.at)

    def synchronize(self) -> None:
        self.gpu.until(self.free)


class Event:
    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.at = gpu, float("nan")

    def record(self, stream: Stream) -> None:
        self.at = max(stream.free, self.gpu.host)

    def query(self) -> bool:
        return self.at <= self.gpu.host

    def synchronize(self) -> None:
        self.gpu.until(self.at)

    def elapsed_time(self, end: Event) -> float:
        assert self.query(), "CUDA knows no time of an event that has not happened"
        assert end.query()
        assert end.at >= self.at, "nobody promises a negative number"
        return float(np.float32((end.at - self.at) * (1 + self.gpu.gains) * 1e3))


class Told:
    def __init__(self, value: int) -> None:
        self._value = value

    def done(self) -> bool:
        return True

    def value(self) -> int:
        return self._value


class Work:
    """A collective of NCCL: on a stream of its own, behind what the current one has."""

    def __init__(self, gpu: Gpu, seconds: float, told: int) -> None:
        self._gpu, self._told = gpu, told
        begin, self._end = Event(gpu), Event(gpu)
        begin.record(gpu.current())
        gpu.nccl.wait_event(begin)
        gpu.nccl.queue(seconds)
        self._end.record(gpu.nccl)

    def wait(self) -> None:
        self._gpu.current().wait_event(self._end)

    def get_future_result(self) -> Told:
        return Told(self._told)


class Verbs:
    """A model whose operations only take time on the GPU; notes when the host called them."""

    num_layers, n_grad_accumulation, committed_tokens = 1, 1, 0.0

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.called_at: list[float] = []
        self.queued_before: list[float] = []

    def perform(self, verb: Any, args: Any, kwargs: Any, times: int) -> None:
        assert len(self.called_at) < 1000, "the host runs away"
        for _ in range(times):
            self.called_at.append(self.gpu.host)
            self.queued_before.append(self.gpu.current().free - self.gpu.host)
            verb(*args, **kwargs)

    def accumulate(self) -> None:
        self.gpu.kernel(1.0)

    def optimizer_shard(self, phase: str) -> None:
        self.gpu.kernel(2.0)


class Bench:
    """A worker of one, whose collectives take ``seconds`` each; ``told`` is how they end."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.seconds, self.told = gpu, 3.0, 0
        self.sent: list[weakref.ref[Any]] = []
        self.broken_off = 0
        self.model = Verbs(gpu)
        self.shared = Shared(0, 1, self.model, Limits(rounds=1), device=Card(CUDA))

    def reduce(self, tensor: Any, **rest: Any) -> Work:
        return self.exchange(tensor, tensor)

    def exchange(self, received: Any, sent: Any, *rest: Any, **more: Any) -> Work:
        if received is not sent:
            received.copy_(sent)
        self.sent.append(weakref.ref(sent))
        return Work(self.gpu, self.seconds, self.told)

    def abandoned(self) -> list[Any]:
        self.broken_off += 1
        return []

    def run(self, program: Callable[[Any], Program]) -> list[Row]:
        worker = TorchWorker(self.shared)
        worker.drive(program(worker))
        self.shared.device.close()
        return self.shared.rows

    def times(self, operation: str, program: str = "main") -> list[tuple[float, float]]:
        return [
            (row.begin_s, row.end_s)
            for row in self.shared.rows
            if row.operation == operation and row.program == program
        ]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group(
        "gloo",
        init_method=f"file://{tmp_path}/store",
        rank=0,
        world_size=1,
        timeout=datetime.timedelta(seconds=30),
    )
    yield
    dist.destroy_process_group()


Made = Callable[..., Bench]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, world: None) -> Made:
    """Make a worker on a GPU that gains so much, whose host needs so long for a call."""

    def make(**gpu: float) -> Bench:
        it = Gpu(**gpu)
        monkeypatch.setattr(module, "perf_counter", lambda: it.host)
        for name, what in {
            "Event": lambda enable_timing: Event(it),
            "Stream": lambda device=None: Stream(it),
            "current_stream": it.current,
            "stream": it.on,
            "device": it.nowhere,
            "synchronize": it.synchronize,
        }.items():
            monkeypatch.setattr(torch.cuda, name, what)
        made = Bench(it)
        monkeypatch.setattr(dist, "get_backend", lambda group: "nccl")
        monkeypatch.setattr(Group, "_on_stream", lambda self, values: True)
        monkeypatch.setattr(dist, "all_reduce", made.reduce)
        monkeypatch.setattr(dist, "all_to_all_single", made.exchange)
        monkeypatch.setattr(Group, "backends", lambda self: made.abandoned())
        return made

    return make


def gradient() -> Flat:
    return Flat("gradient", "0:1", torch.arange(4.0))


def test_a_wait_orders_the_stream_and_does_not_stop_the_host(bench: Made) -> None:
    made = bench()
    buffer = gradient()

    def overlapped(worker: Any) -> Program:
        yield worker.compute(made.model.accumulate)
        reduction = worker.all_reduce(buffer, "bf16")
        yield worker.compute(made.model.accumulate)
        yield reduction
        yield worker.compute(made.model.accumulate)

    made.run(overlapped)
    assert made.model.called_at == [0.0, 0.0, 0.0]
    assert made.times("accumulate") == [(0.0, 1.0), (1.0, 2.0), (4.0, 5.0)]
    assert made.times("all_reduce") == [(1.0, 4.0)]
    assert made.times(WAIT) == [(2.0, 4.0)]
    assert buffer.tensor.tolist() == [0, 1, 2, 3]


def test_done_waits_for_the_computation_and_then_looks(bench: Made) -> None:
    """Else the host would look a thousand times before the GPU has done anything."""
    made = bench()
    made.seconds = 2.5

    def as_long_as_it_takes(worker: Any) -> Program:
        reduction = worker.all_reduce(gradient(), "fp32")
        while not reduction.done:
            yield worker.compute(made.model.accumulate)
        yield reduction

    rows = made.run(as_long_as_it_takes)
    assert [(r.begin_s, r.observed) for r in rows if r.operation == LOOK] == [
        (0.0, 0.0),
        (1.0, 0.0),
        (2.0, 0.0),
        (3.0, 1.0),
    ]
    assert made.model.queued_before == [0.0, 0.0, 0.0]  # nothing is ahead of a micro-batch
    assert made.times(WAIT) == [(3.0, 3.0)]


def test_now_is_when_the_computation_has_ended(bench: Made) -> None:
    made = bench()
    seen = []

    def looks(worker: Any) -> Program:
        yield worker.compute(made.model.accumulate, times=2)
        seen.append(worker.now)

    made.run(looks)
    assert seen == [2.0]


def test_a_spawned_program_runs_beside_from_the_spawning_on(bench: Made) -> None:
    made = bench()
    made.seconds = 1.0

    def side(worker: Any, buffer: Flat) -> Program:
        yield worker.compute(made.model.optimizer_shard, "update")
        yield worker.all_reduce(buffer, "fp32")

    def main(worker: Any) -> Program:
        yield worker.compute(made.model.accumulate)
        background = worker.spawn(side, gradient())
        yield worker.compute(made.model.accumulate)
        yield background
        yield worker.compute(made.model.accumulate)

    made.run(main)
    assert set(made.model.called_at) == {0.0}  # nobody has waited
    assert made.times("optimizer_shard", "side#0") == [(1.0, 3.0)]
    assert made.times("all_reduce", "side#0") == [(3.0, 4.0)]
    assert made.times(WAIT, "side#0") == [(3.0, 4.0)]
    assert made.times("accumulate") == [(0.0, 1.0), (1.0, 2.0), (4.0, 5.0)]
    assert made.times(WAIT) == [(2.0, 4.0)]


def test_a_spawned_program_is_done_when_the_device_has_come_to_its_end(bench: Made) -> None:
    made = bench()
    queued = threading.Event()

    def side(worker: Any) -> Program:
        yield worker.compute(made.model.optimizer_shard, "update")
        queued.set()

    def main(worker: Any) -> Program:
        background = worker.spawn(side)
        queued.wait()
        background._thread.join()  # its text has ended; the device has not
        while not background.done:
            yield worker.compute(made.model.accumulate)
        yield background

    rows = made.run(main)
    assert [r.observed for r in rows if r.operation == LOOK] == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("operation", ["all_reduce", "reduce_scatter", "all_to_all"])
def test_what_is_sent_lives_until_the_waiting_stream_is_behind_it(
    bench: Made, operation: str
) -> None:
    made = bench()

    def sends(worker: Any) -> Program:
        reduction = getattr(worker, operation)(gradient(), "bf16")
        gc.collect()
        assert made.sent[0]() is not None
        yield reduction
        gc.collect()
        assert made.sent[0]() is None

    made.run(sends)


def test_what_nobody_waits_for_lives_until_it_has_arrived(bench: Made) -> None:
    made = bench()

    def forgets(worker: Any) -> Program:
        worker.all_reduce(gradient(), "bf16")
        gc.collect()
        assert made.sent[0]() is not None
        yield worker.compute(made.model.accumulate, times=5)
        assert worker.now == 5.0  # it ended at 3
        worker.all_reduce(gradient(), "bf16")
        gc.collect()
        assert [ref() is None for ref in made.sent] == [True, False]

    made.run(forgets)


def test_a_collective_that_failed_is_told_at_the_next_look(bench: Made) -> None:
    made = bench()

    def loses_a_peer(worker: Any) -> Program:
        yield worker.all_reduce(gradient(), "fp32")
        made.told = 1
        reduction = worker.all_reduce(gradient(), "fp32")
        yield worker.compute(made.model.accumulate)
        yield reduction
        made.told = 2  # what follows on the same communicator fails, too
        yield worker.all_reduce(gradient(), "fp32")
        assert worker.now < 0, "not reached"

    with pytest.raises(PeerLostError) as caught:
        made.run(loses_a_peer)
    assert str(caught.value) == (
        "rank 0: all_reduce, call 1 of group main, failed: the timeout has passed"
    )
    assert made.broken_off == 1  # what else NCCL has under way


@pytest.mark.parametrize("told", [1, 2])
def test_a_collective_that_failed_last_ends_the_program(bench: Made, told: int) -> None:
    made = bench()
    made.told = told

    def loses_a_peer(worker: Any) -> Program:
        yield worker.all_reduce(gradient(), "fp32")

    worker = TorchWorker(made.shared)
    with pytest.raises(PeerLostError, match="call 0 of group main, failed: the "):
        worker.drive(loses_a_peer(worker))


def test_a_collective_that_failed_in_a_spawned_program(bench: Made) -> None:
    made = bench()

    def side(worker: Any) -> Program:
        yield worker.all_reduce(gradient(), "fp32")

    def main(worker: Any) -> Program:
        made.told = 2
        yield worker.spawn(side)

    with pytest.raises(PeerLostError, match="group side, failed: the connection broke"):
        made.run(main)


def test_what_has_failed_is_not_saved(bench: Made) -> None:
    made = bench()
    saved: list[int] = []
    made.shared.limits.rounds = 3
    made.shared.saving = Saving(2, saved.append)

    def rounds(worker: Any) -> Program:
        while worker.next_round(steps=1):
            yield worker.all_reduce(gradient(), "fp32")
            made.told = 2

    with pytest.raises(PeerLostError, match="call 1 of group main"):
        made.run(rounds)
    assert saved == []


def test_rows_keep_to_the_hosts_clock_and_the_host_hardly_waits(bench: Made) -> None:
    """A GPU's clock that gains 0.1 ms in a second would be 30 ms off after these 300 s."""
    made = bench(gains=1e-4, call_s=0.5)
    made.shared.limits.rounds = 300

    def rounds(worker: Any) -> Program:
        while worker.next_round(steps=1):
            yield worker.compute(made.model.accumulate)

    made.run(rounds)
    ends = [end for _, end in made.times("accumulate")]
    assert ends == pytest.approx(np.arange(1, 301), abs=3e-3)
    assert made.gpu.waits < 300 / 10 * 2 + 4  # a stream and an event each time


def test_streams_need_no_order_among_them(bench: Made) -> None:
    """A mark of one stream may be read after a later one of another; see Event.elapsed_time."""
    made = bench(call_s=0.1)
    made.seconds = 40.0
    made.shared.limits.rounds = 60

    def rounds(worker: Any) -> Program:
        reduction = worker.all_reduce(gradient(), "fp32")
        while worker.next_round(steps=1):
            yield worker.compute(made.model.accumulate)
        yield reduction

    made.run(rounds)
    assert made.times("accumulate")[-1] == pytest.approx((59.0, 60.0), abs=1e-3)
    assert made.times("all_reduce")[0][1] == pytest.approx(40.0, abs=1e-3)


def test_the_measurements_say_in_a_line_that_there_is_no_gpu(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "out")],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("gpu: no GPU is visible to torch ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_replay_that_ends_too_early_says_how_to_get_a_longer_one() -> None:
    shared = Shared(0, 1, None, Limits(), replay={MAIN: deque([1.0])})
    worker = TorchWorker(shared)
    assert worker.look("done main 0", 0.0) == 1.0
    with pytest.raises(RunError, match=r"looks once more .* run\.measured_rounds"):
        worker.look("done main 0", 0.0)
