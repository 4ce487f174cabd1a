"""Small scenarios for tests, built from the resolved records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sim.methods import METHODS
from sim.records.scenario import (
    Collectives,
    Machine,
    Method,
    ModelSize,
    Network,
    Run,
    Scenario,
    Site,
    Worker,
)

TOKENS = 10.0


def machine(step_seconds: float = 1.0, **other: Any) -> Machine:
    return Machine(step_seconds=step_seconds, batch_tokens=TOKENS, **other)


def plain(
    method: str | Callable[..., Any] = "ddp",
    arguments: dict[str, Any] | None = None,
    *,
    machines: Sequence[Machine] | None = None,
    workers: int = 2,
    bandwidth: float = 100.0,
    latency: float = 0.0,
    layers: Sequence[int] = (50, 50),
    collectives: Collectives | None = None,
    run: Run | None = None,
) -> Scenario:
    """One worker per site; bytes/s and seconds are small numbers that one can compute with.

    Collectives are "direct" unless told otherwise: an all-reduce of S bytes between two
    workers takes S / bandwidth + 2 latencies.
    """
    machines = machines or [machine()] * workers
    count = len(machines)
    if callable(method):
        chosen = Method(f"tests:{method.__name__}", method, arguments or {})
    else:
        chosen = Method(method, METHODS[method], arguments or {})
    return Scenario(
        run=run or Run(),
        model=ModelSize("plain", sum(layers), sum(layers), tuple(layers)),
        method=chosen,
        workers=tuple(Worker(rank, rank, each) for rank, each in enumerate(machines)),
        sites=tuple(Site(f"s{rank}", 1) for rank in range(count)),
        network=Network(
            ((bandwidth,) * count,) * count,
            ((latency,) * count,) * count,
            collectives or Collectives(algorithm="direct"),
        ),
    )


def rerun(scenario: Scenario, **changes: Any) -> Scenario:
    return replace(scenario, **changes)
