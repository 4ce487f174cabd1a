"""realrun against torch's own data parallelism, on a small decoder in two gloo processes.

Each case is trained once by each side, for fifty steps on the same batches; the processes write
their parameters and losses, the tests compare.

How close is close: both sides sum the same numbers in fp32, but some in another order (a doubled
batch at once, the tied embedding's gradients of several micro-batches, a mean of what moved
instead of a mean of where it went), and AdamW may step a whole layer by other instructions than
single tensors. AdamW divides by the root of the second moment, so that the last bit of a small
gradient can move a parameter by more than its own last bit. ``TOLERANCE`` is a thousandth of a
step at the largest rate, more than ten times the differences seen; a wrong factor, rate, moment
or batch is off by a hundred times as much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402
from support.processes import together  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402
from torch.optim import AdamW, Optimizer  # noqa: E402
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR  # noqa: E402

from realrun.data import corpus  # noqa: E402
from realrun.data.batches import Batch, Data  # noqa: E402
from realrun.model.gpt import GPT, GPTConfig  # noqa: E402
from realrun.model.gpt import loss as nats  # noqa: E402
from realrun.model.optimizers import FINAL_RATE, Inner  # noqa: E402
from realrun.model.replica import TorchModel  # noqa: E402
from realrun.runtime.shared import Limits, Shared  # noqa: E402
from realrun.runtime.worker import TorchWorker  # noqa: E402
from sim.methods import METHODS  # noqa: E402

CONFIG = GPTConfig(hidden=16, layers=3, heads=2, vocabulary=32, feed_forward=24, context=8)
WORKERS, STEPS, BATCH = 2, 50, 2
# Warm-up, then decay: another rate in every step.
INNER = Inner(learning_rate=1e-2, weight_decay=0.1, warmup_steps=10, steps=STEPS)
ADAMW: dict[str, Any] = {
    "lr": INNER.learning_rate,
    "betas": INNER.betas,
    "weight_decay": INNER.weight_decay,
}
TOLERANCE = 1e-3 * INNER.learning_rate

# AdamW divides a gradient by its own size: a wrong factor shows where that is not far above
# AdamW's epsilon of 1e-8.
LOSS_SCALE = 1e-6

Trained = tuple[Tensor, Tensor]
"""Parameters, layer after layer, and this worker's loss of every micro-batch."""


def data() -> Data:
    drawn = corpus.synthetic(20_000, CONFIG.vocabulary, seed=0)
    return Data(drawn, vocabulary=CONFIG.vocabulary, context=CONFIG.context, workers=WORKERS)


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    return LOSS_SCALE * nats(logits, targets)


def parameters(decoder: GPT) -> list[Tensor]:
    return [p for layer in decoder.layer_parameters() for p in layer]


def flat(decoder: GPT) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in parameters(decoder)])


def schedule(optimizer: Optimizer) -> SequentialLR:
    """The rates of INNER, by torch's own schedulers."""
    warm_up, last = INNER.warmup_steps, FINAL_RATE * INNER.learning_rate
    rising = LinearLR(optimizer, 1 / warm_up, total_iters=warm_up - 1)
    falling = CosineAnnealingLR(optimizer, STEPS - warm_up, last)
    return SequentialLR(optimizer, [rising, falling], [warm_up])


# -- what is compared ----------------------------------------------------------------------
def by_realrun(
    method: str,
    rank: int,
    *,
    n: int = 1,
    rounds: int = STEPS,
    workers: int = WORKERS,
    batches: Iterator[Batch] | None = None,
    **arguments: Any,
) -> Trained:
    decoder = GPT(CONFIG)
    model = TorchModel(
        decoder.stages(),
        loss,
        batches or data().batches(rank, BATCH),
        decoder.layer_parameters(),
        rank=rank,
        workers=workers,
        n_grad_accumulation=n,
        inner=INNER,
        param_dtype="fp32",
    )
    worker = TorchWorker(Shared(rank, workers, model, Limits(rounds=rounds)))
    worker.drive(METHODS[method](worker, **{"comm_dtype": "fp32", **arguments}))
    return model.theta, torch.tensor(model.losses) / LOSS_SCALE


def by_torch(rank: int, *, n: int = 1, sharded: bool = False) -> Trained:
    """DistributedDataParallel with AdamW, or with AdamW sharded as in ZeRO-1."""
    # Here: importing it warns of what torch itself has deprecated.
    from torch.distributed.optim import ZeroRedundancyOptimizer

    decoder, batches = GPT(CONFIG), data().batches(rank, BATCH)
    losses: list[float] = []
    replica = DistributedDataParallel(decoder)
    optimizer = (
        ZeroRedundancyOptimizer(replica.parameters(), AdamW, **ADAMW)
        if sharded
        else AdamW(replica.parameters(), **ADAMW)
    )
    rate = schedule(optimizer)
    for _ in range(STEPS):
        optimizer.zero_grad()
        for number in range(n):
            inputs, targets = next(batches)
            with nullcontext() if number == n - 1 else replica.no_sync():
                value = loss(replica(inputs), targets)
                losses.append(value.item())
                (value / n).backward()
        optimizer.step()
        rate.step()
    return flat(decoder), torch.tensor(losses) / LOSS_SCALE


def by_averaging(rank: int) -> Trained:
    """A step of one's own, then the mean of all workers' parameters."""
    decoder, batches = GPT(CONFIG), data().batches(rank, BATCH)
    losses: list[float] = []
    optimizer = AdamW(decoder.parameters(), **ADAMW)
    rate = schedule(optimizer)
    for _ in range(STEPS):
        optimizer.zero_grad()
        inputs, targets = next(batches)
        value = loss(decoder(inputs), targets)
        losses.append(value.item())
        value.backward()
        optimizer.step()
        rate.step()
        for parameter in parameters(decoder):
            dist.all_reduce(parameter.data)
            parameter.data /= WORKERS
    return flat(decoder), torch.tensor(losses) / LOSS_SCALE


def both_batches() -> Iterator[Batch]:
    """Of every step the batches of both workers as one."""
    for pair in zip(*(data().batches(rank, BATCH) for rank in range(WORKERS)), strict=True):
        inputs, targets = zip(*pair, strict=True)
        yield torch.cat(inputs), torch.cat(targets)


# -- the cases -----------------------------------------------------------------------------
DDP: dict[str, dict[str, Any]] = {
    "none": {"overlap": "none"},
    # Less than a layer has: each is a bucket of several pieces.
    "bucket": {"overlap": "bucket", "bucket_bytes": 4096},
    "layer": {"overlap": "layer"},
    "zero1": {"zero1": True, "bucket_bytes": 4096},
}
AVERAGING: dict[str, Any] = {
    "sync_every": 1,
    "outer_lr": 1.0,
    "outer_momentum": 0.0,
    "use_nesterov": False,
}
OUTER: dict[str, Any] = {
    "sync_every": 5,
    "outer_lr": 0.7,
    "outer_momentum": 0.9,
    "comm_dtype": "bf16",
}
ONE_FRAGMENT: dict[str, Any] = {
    "num_fragments": 1,
    "fragment_sync_delay": 0,
    "fragment_update_alpha": 0.0,
}
ACCUMULATION = (1, 2)

CASES: dict[str, Callable[[int], Trained]] = {
    "averaging": by_averaging,
    "diloco averages": partial(by_realrun, "diloco", **AVERAGING),
    "diloco": partial(by_realrun, "diloco", rounds=STEPS // 5, **OUTER),
    "streaming": partial(
        by_realrun, "streaming_diloco", rounds=STEPS // 5, **OUTER, **ONE_FRAGMENT
    ),
}
for n in ACCUMULATION:
    CASES[f"torch {n}"] = partial(by_torch, n=n)
    CASES[f"torch zero1 {n}"] = partial(by_torch, n=n, sharded=True)
    for name, arguments in DDP.items():
        CASES[f"{name} {n}"] = partial(by_realrun, "ddp", n=n, **arguments)


ALONE: dict[str, Callable[[int], Trained]] = {
    "alone": lambda rank: by_realrun("ddp", rank, workers=1, batches=both_batches())
}


def process(rank: int, workers: int, out: Path) -> None:
    for name, train in (CASES if workers == WORKERS else ALONE).items():
        torch.save(train(rank), out / f"{name}-{rank}.pt")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trained]:
    out = tmp_path_factory.mktemp("trained")
    for workers in (WORKERS, 1):
        together(workers, process, workers, out)
    return lambda name, rank=0: torch.load(out / f"{name}-{rank}.pt")


def same(one: Trained, other: Trained) -> None:
    """Parameters at the end and the losses of all steps."""
    for ours, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE)


# -- the tests -----------------------------------------------------------------------------
@pytest.mark.parametrize("rank", range(WORKERS))
@pytest.mark.parametrize("n", ACCUMULATION)
@pytest.mark.parametrize("overlap", ["none", "bucket", "layer"])
def test_ddp_is_distributed_data_parallel(
    trained: Callable[..., Trained], overlap: str, n: int, rank: int
) -> None:
    ours, theirs = trained(f"{overlap} {n}", rank), trained(f"torch {n}", rank)
    same(ours, theirs)
    assert len(ours[1]) == n * STEPS


@pytest.mark.parametrize("rank", range(WORKERS))
@pytest.mark.parametrize("n", ACCUMULATION)
def test_zero1_is_the_zero_redundancy_optimizer(
    trained: Callable[..., Trained], n: int, rank: int
) -> None:
    same(trained(f"zero1 {n}", rank), trained(f"torch zero1 {n}", rank))


def test_two_workers_are_one_with_twice_the_batch(trained: Callable[..., Trained]) -> None:
    (theta, first), (_, second) = (trained("bucket 1", rank) for rank in range(WORKERS))
    same((theta, (first + second) / 2), trained("alone"))


@pytest.mark.parametrize("rank", range(WORKERS))
def test_diloco_in_every_step_averages_parameters(
    trained: Callable[..., Trained], rank: int
) -> None:
    same(trained("diloco averages", rank), trained("averaging", rank))


@pytest.mark.parametrize("rank", range(WORKERS))
def test_streaming_of_one_fragment_is_bitwise_diloco(
    trained: Callable[..., Trained], rank: int
) -> None:
    for streaming, diloco in zip(trained("streaming", rank), trained("diloco", rank), strict=True):
        assert torch.equal(streaming, diloco)


def test_workers_of_different_data_were_compared(trained: Callable[..., Trained]) -> None:
    """What the tests above rest on: losses differ between ranks, and training moves far."""
    theta, losses = trained("torch 1")
    assert not torch.equal(losses, trained("torch 1", 1)[1])
    assert (theta - flat(GPT(CONFIG))).abs().mean() > 500 * TOLERANCE
