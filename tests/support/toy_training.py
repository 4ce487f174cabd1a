"""Training the toy model in virtual time, with any method."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.methods import METHODS
from sim.methods.inside import INSIDE
from sim.models.quadratic import Quadratic
from sim.records.scenario import (
    Machine,
    Method,
    ModelSize,
    Network,
    Run,
    Scenario,
    Site,
    Worker,
)
from sim.runtime import simulate

TENSORS = ((5, 3), (7,), (1, 4), (2, 2, 1), (3,), (2,))
SIZE = ModelSize("toy", 30, 30, (8, 7, 5, 5, 3, 2), "fp32", layer_tensors=TENSORS)


def of_first(workers: int, arguments: dict[str, Any]) -> dict[str, Any]:
    """Keep the first workers' entries of arguments that have one per worker."""
    return {
        key: value[:workers] if isinstance(value, tuple) else value
        for key, value in arguments.items()
    }


def scenario(
    method: str, workers: int = 2, n: int = 1, speeds: Any = None, **arguments: Any
) -> Scenario:
    if method != "local_sgd":
        arguments.setdefault("comm_dtype", "fp32")
    arguments = of_first(workers, arguments)
    speeds = speeds or [1.0] * workers
    machines = [Machine(1.0, 1.0, n_grad_accumulation=n, speed=speed) for speed in speeds]
    return Scenario(
        run=Run(),
        model=SIZE,
        method=Method(method, (METHODS | INSIDE)[method], arguments),
        workers=tuple(Worker(rank, rank, machine) for rank, machine in enumerate(machines)),
        sites=tuple(Site(f"s{rank}", 1) for rank in range(workers)),
        network=Network(((100.0,) * workers,) * workers, ((0.1,) * workers,) * workers),
    )


def train(
    method: str,
    rounds: int,
    workers: int = 2,
    *,
    n: int = 1,
    speeds: Any = None,
    toy: dict[str, Any] | None = None,
    **arguments: Any,
) -> dict[int, Quadratic]:
    toy = {"noise": 0.3, "momentum": 0.5, **(toy or {})}
    models = {
        rank: Quadratic(SIZE, rank, workers, n_grad_accumulation=n, **toy)
        for rank in range(workers)
    }
    simulate(scenario(method, workers, n, speeds, **arguments), rounds=rounds, models=models)
    return models


def same(a: dict[int, Quadratic], b: dict[int, Quadratic], tolerance: float = 0.0) -> None:
    for rank in a:
        np.testing.assert_allclose(a[rank].theta, b[rank].theta, rtol=tolerance, atol=tolerance)
