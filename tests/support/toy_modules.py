"""A small torch model, what it trains on, and training it with any method."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from realrun.model.replica import Inner, TorchModel
from sim.runtime import simulate
from support.plain_scenario import machine, plain

INNER = Inner(learning_rate=1e-2, weight_decay=0.1, warmup_steps=3, steps=40)


SIZES = (6, 8, 8, 4)


def stages(seed: int = 0) -> list[nn.Module]:
    torch.manual_seed(seed)
    return [nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in pairwise(SIZES)]


def batches(rank: int, size: int = 5) -> Iterator[tuple[Tensor, Tensor]]:
    """Random inputs; targets that a linear map gives, so that there is something to learn."""
    teacher = torch.linspace(-0.5, 0.5, SIZES[0] * SIZES[-1]).view(SIZES[0], SIZES[-1])
    random = torch.Generator().manual_seed(100 + rank)
    while True:
        inputs = torch.randn(size, SIZES[0], generator=random)
        yield inputs, torch.tanh(inputs @ teacher)


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean()


def model(
    rank: int,
    workers: int,
    data: Any = None,
    n: int = 1,
    outer_on_host: bool = False,
    **inner: Any,
) -> TorchModel:
    made = stages()
    return TorchModel(
        made,
        loss,
        data or batches(rank),
        [list(stage.parameters()) for stage in made],
        rank=rank,
        workers=workers,
        n_grad_accumulation=n,
        inner=replace(INNER, **inner),
        param_dtype="fp32",
        outer_on_host=outer_on_host,
    )


def train(
    method: str,
    rounds: int,
    workers: int = 2,
    n: int = 1,
    outer_on_host: bool = False,
    **arguments: Any,
) -> Any:
    models = {
        rank: model(rank, workers, n=n, outer_on_host=outer_on_host) for rank in range(workers)
    }
    count = [sum(p.numel() for p in stage.parameters()) for stage in stages()]
    if method != "local_sgd":
        arguments.setdefault("comm_dtype", "fp32")
    scenario = plain(
        method, arguments, machines=[machine(n_grad_accumulation=n)] * workers, layers=count
    )
    simulate(scenario, rounds=rounds, models=models)
    return models
