"""Simulator and real processes run the same text: the same trace, the same parameters.

Bitwise for two processes, since a + b = b + a. Of more numbers the order of the additions
counts: it is that of the ranks in the simulator and wherever realrun sums itself (int8, fp4,
every reduce_scatter), but gloo's own where gloo does (all_reduce of fp32, bf16 and fp16).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from support.method_cases import BLOCK, CASES, ROUNDS, TOY  # noqa: E402
from support.processes import together  # noqa: E402
from support.toy_training import SIZE, scenario  # noqa: E402

from realrun.runtime.shared import Limits, Shared  # noqa: E402
from realrun.runtime.worker import TorchWorker  # noqa: E402
from sim.models.quadratic import Quadratic  # noqa: E402
from sim.records.scenario import Scenario  # noqa: E402
from sim.runtime import simulate  # noqa: E402
from sim.runtime.context import context_of  # noqa: E402
from sim.trace.table import LOOK, Row, Trace  # noqa: E402

UNIT = {"fp32": 2.0**-24, "bf16": 2.0**-9}  # largest relative error of rounding once


def asked(number: int, workers: int) -> Scenario:
    method, arguments = CASES[number]
    plain = scenario(method, workers, **arguments)
    collectives = replace(plain.network.collectives, quantize_block=BLOCK)
    return replace(plain, network=replace(plain.network, collectives=collectives))


class Unhurried(Quadratic):
    """Computes no faster than it communicates: else a method that computes always has
    thousands of micro-batches to replay.
    """

    def accumulate(self) -> None:
        sleep(1e-3)
        super().accumulate()


def worker(rank: int, workers: int, out: Path) -> None:
    for number in range(len(CASES)):
        method = asked(number, workers).method
        model = Unhurried(SIZE, rank, workers, **TOY)
        shared = Shared(rank, workers, model, Limits(rounds=ROUNDS), BLOCK)
        program = TorchWorker(shared)
        program.drive(method.program(program, **method.arguments))
        for group in (*shared.groups.values(), *shared.controls.values()):
            group.close()
        rows = [[getattr(row, name) for name in Row.__slots__] for row in shared.rows]
        np.savez(
            out / f"{number}-{rank}.npz",
            theta=model.theta,
            outer=model.outer,
            rows=np.array(rows, dtype=object),
        )


@dataclass
class Launched:
    """Where that many processes left what they did."""

    workers: int
    out: Path

    def saved(self, number: int) -> list[Any]:
        """Per rank."""
        names = [self.out / f"{number}-{rank}.npz" for rank in range(self.workers)]
        return [np.load(name, allow_pickle=True) for name in names]


@pytest.fixture(scope="module", params=[2, 4], ids=["two", "four"])
def launched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Launched:
    workers, out = request.param, tmp_path_factory.mktemp("out")
    together(workers, worker, workers, out)
    return Launched(workers, out)


def unit_of_gloos_sums(rows: list[Row]) -> float:
    """Rounding unit of what gloo has added up; 0 if nothing that rounds."""
    dtypes = {
        row.detail.split()[-1]
        for row in rows
        if row.operation == "all_reduce" and not row.detail.startswith("count")
    }
    return max((UNIT[dtype] for dtype in dtypes if dtype in UNIT), default=0.0)


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: f"{CASES[n][0]}-{n}")
def test_real_processes_give_the_simulators_trace_and_parameters(
    launched: Launched, number: int
) -> None:
    workers, saved = launched.workers, launched.saved(number)
    rows = [Row(*row) for own in saved for row in own["rows"]]
    models = {rank: Quadratic(SIZE, rank, workers, **TOY) for rank in range(workers)}
    ask = asked(number, workers)
    measured = Trace(rows, context_of(ask), 0.0)
    looks = any(row.operation == LOOK for row in rows)
    simulated = simulate(ask, rounds=ROUNDS, models=models, replay=measured if looks else None)
    assert simulated.sequence() == measured.sequence()
    # M numbers are added with M - 1 roundings, in the one order as in the other.
    unit = unit_of_gloos_sums(rows) if workers > 2 else 0.0
    for rank, own in enumerate(saved):
        theta, outer = models[rank].theta, models[rank].outer
        tolerance = 2 * (workers - 1) * unit * float(np.abs(theta).max())
        np.testing.assert_allclose(own["theta"], theta, rtol=0, atol=tolerance)
        np.testing.assert_allclose(own["outer"], outer, rtol=0, atol=tolerance)
