"""What realrun adds to a training step, on CPUs.

Against torch: ``ddp`` and DistributedDataParallel and AdamW, the same decoder on the same data
in two gloo processes of one thread each. Both train in the same processes, in turn, in blocks
of some steps (A B B A, then B A A B), so that what else the machine does meets both; the ratio
is that of such a foursome, its median and a 95 % interval of the median are given. On a shared
machine CPU time, of all of a process's threads, says more than wall time.

Host time alone: a model whose verbs do nothing, in a world of one worker. What is left is the
program's generator, the rows of the trace and what calling a collective costs. In addition, gloo's
all-reduces alone: called as ``ddp`` with ``overlap = "layer"`` does, each awaited in the next
step; with a Python function called as each ends (``noted``), which is how its end is known while
nobody waits for it, and which takes turns with the main thread at the interpreter's lock.

Nothing here asserts a time.
"""

from __future__ import annotations

import datetime
import json
import socket
from collections.abc import Callable, Iterator
from math import sqrt
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from realrun.data import corpus
from realrun.data.batches import Data
from realrun.model.gpt import GPT, GPTConfig, loss
from realrun.model.optimizers import Inner
from realrun.model.paced import PacedModel
from realrun.model.replica import TorchModel
from realrun.runtime.shared import Limits, Shared
from realrun.runtime.worker import TorchWorker
from sim.methods import METHODS
from sim.records.scenario import ModelSize

WORKERS = 2
FOURSOMES = 30
INNER = Inner()
STEPS, BLOCKS, LAYERS = 300, 9, 24  # of host time alone


Side = tuple[Callable[[int], None], Callable[[], list[float]]]
"""What takes that many steps, and what returns the losses of all of them."""


def by_realrun(decoder: GPT, data: Data, rank: int, batch: int, overlap: str) -> Side:
    """``ddp``, fp32 on the wire, in buckets of 25 MiB or layer by layer."""
    model = TorchModel(
        decoder.stages(),
        loss,
        data.batches(rank, batch),
        decoder.layer_parameters(),
        rank=rank,
        workers=WORKERS,
        inner=INNER,
        param_dtype="fp32",
    )
    shared = Shared(rank, WORKERS, model, Limits())

    def take(steps: int) -> None:
        shared.limits.rounds = steps
        worker = TorchWorker(shared)
        worker.drive(METHODS["ddp"](worker, overlap=overlap, comm_dtype="fp32"))

    return take, lambda: model.losses


def by_torch(decoder: GPT, data: Data, rank: int, batch: int) -> Side:
    """The same with what torch has for it; a step's loss is kept, as in realrun, not read."""
    batches = data.batches(rank, batch)
    losses: list[Tensor] = []
    replica = DistributedDataParallel(decoder)
    optimizer = torch.optim.AdamW(
        replica.parameters(),
        lr=INNER.learning_rate,
        betas=INNER.betas,
        weight_decay=INNER.weight_decay,
    )

    def take(steps: int) -> None:
        for _ in range(steps):
            inputs, targets = next(batches)
            optimizer.zero_grad()
            value = loss(replica(inputs), targets)
            losses.append(value.detach())
            value.backward()
            optimizer.step()

    return take, lambda: torch.stack(losses).tolist()


def process(
    rank: int, port: int, out: str, size: str, batch: int, block: int, overlap: str
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=WORKERS,
        timeout=datetime.timedelta(minutes=5),
    )
    config = GPTConfig.named(size)
    drawn = corpus.synthetic(1 << 20, config.vocabulary, seed=0)
    data = Data(drawn, vocabulary=config.vocabulary, context=config.context, workers=WORKERS)
    sides = [
        by_realrun(GPT(config), data, rank, batch, overlap),
        by_torch(GPT(config), data, rank, batch),
    ]

    def seconds(side: int) -> NDArray[np.float64]:
        """Wall and CPU time of a block."""
        dist.barrier()
        begin = np.array([perf_counter(), process_time()])
        sides[side][0](block)
        dist.barrier()
        return np.array([perf_counter(), process_time()]) - begin

    for side in (0, 1, 0, 1):  # warm-up
        seconds(side)
    measured = np.zeros((FOURSOMES, 2, 2))  # side, wall or CPU
    for number in range(FOURSOMES):
        first = number % 2
        for side in (first, 1 - first, 1 - first, first):
            measured[number, side] += seconds(side) / (2 * block)
    ours, theirs = (losses() for _, losses in sides)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)  # the same was computed
    if rank == 0:
        Path(out).write_text(json.dumps(measured.tolist()))
    dist.barrier()
    dist.destroy_process_group()


def median_and_interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Median of n values; the (n -+ 1.96 sqrt n) / 2-th of them hold it in 95 % of cases."""
    ordered = np.sort(values)
    outside = max(0, int((len(values) - 1.96 * sqrt(len(values))) / 2))
    return float(np.median(values)), float(ordered[outside]), float(ordered[-1 - outside])


@pytest.mark.parametrize(
    ("size", "batch", "block", "overlap"),
    [
        ("1M", 1, 8, "bucket"),
        ("1M", 8, 2, "bucket"),
        ("5M", 1, 2, "bucket"),
        ("5M", 4, 1, "bucket"),
        ("5M", 1, 2, "layer"),
    ],
    ids=["1M-1x128", "1M-8x128", "5M-1x256", "5M-4x256", "5M-1x256, layer by layer"],
)
def test_a_step_against_torch(
    benchmark: Any, tmp_path: Path, size: str, batch: int, block: int, overlap: str
) -> None:
    """Realrun's step over torch's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    out = tmp_path / "measured.json"
    arguments = (port, str(out), size, batch, block, overlap)
    benchmark.pedantic(mp.spawn, (process, arguments), {"nprocs": WORKERS}, rounds=1)
    measured = np.array(json.loads(out.read_text()))
    print(f"\n{size}, {batch} sequences per worker, by {overlap}:")
    for number, kind in enumerate(("wall", "CPU")):
        ours, theirs = measured[:, 0, number], measured[:, 1, number]
        ratio, low, high = median_and_interval(ours / theirs)
        benchmark.extra_info[f"{kind} ratio"] = ratio, low, high
        print(
            f"  {kind} {1e3 * np.median(ours):.1f} ms, torch {1e3 * np.median(theirs):.1f} ms, "
            f"ratio {ratio:.3f} [{low:.3f}, {high:.3f}]"
        )


def per_step(benchmark: Any, name: str, fresh: Callable[[], Callable[[], object]]) -> None:
    """Wall and CPU time of ``STEPS`` steps, which what ``fresh`` makes takes in one call."""
    cpu: list[float] = []

    def timed(take: Callable[[], object]) -> None:
        begin = process_time()
        take()
        cpu.append(process_time() - begin)

    benchmark.pedantic(timed, setup=lambda: ((fresh(),), {}), rounds=BLOCKS, warmup_rounds=1)
    if benchmark.stats is None:
        return
    print(f"\n{name}, us per step:", end="")
    for kind, seconds in (("wall", benchmark.stats.stats.data), ("CPU", cpu[-BLOCKS:])):
        middle, low, high = (
            1e6 * t / STEPS for t in (np.median(seconds), min(seconds), max(seconds))
        )
        benchmark.extra_info[f"{kind} us/step"] = middle
        print(f" {kind} {middle:.1f} [{low:.1f}, {high:.1f}]", end="")


@pytest.fixture
def alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("method", "overlap", "steps_per_round"),
    [
        ("ddp", "bucket", 1),
        ("ddp", "layer", 1),
        ("diloco", "none", 100),
        ("streaming_diloco", "none", 100),
        ("streaming_diloco", "layer", 100),
    ],
)
@pytest.mark.usefixtures("alone")
def test_host_time_of_a_step(
    benchmark: Any, method: str, overlap: str, steps_per_round: int
) -> None:
    """24 layers of one parameter each."""
    size = ModelSize("idle", LAYERS, LAYERS, (1,) * LAYERS, "fp32")
    chosen: dict[str, Any] = {"overlap": overlap, "comm_dtype": "fp32"}
    if steps_per_round > 1:
        chosen["sync_every"] = steps_per_round

    def fresh() -> Callable[[], object]:
        limits = Limits(rounds=STEPS // steps_per_round)
        worker = TorchWorker(Shared(0, 1, PacedModel(size, 1, 1.0), limits))
        return lambda: worker.drive(METHODS[method](worker, **chosen))

    per_step(benchmark, f"{method}, {overlap}", fresh)


@pytest.mark.parametrize("noted", [False, True])
@pytest.mark.usefixtures("alone")
def test_host_time_of_bare_collectives(benchmark: Any, noted: bool) -> None:
    """24 all-reduces of one number in every step."""
    numbers = [torch.zeros(1) for _ in range(LAYERS)]
    ends: list[float] = []

    def take() -> None:
        under_way: list[Any] = []
        for _ in range(STEPS):
            for work in under_way:
                work.wait()
            under_way.clear()
            for number in numbers:
                work = dist.all_reduce(number, async_op=True)
                if noted:
                    work.get_future().add_done_callback(lambda _: ends.append(perf_counter()))
                under_way.append(work)
        for work in under_way:
            work.wait()
        ends.clear()

    per_step(benchmark, f"bare{', ends noted' if noted else ''}", lambda: take)
