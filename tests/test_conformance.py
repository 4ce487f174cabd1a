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

from processes import together  # noqa: E402
from test_identities import SIZE, of_first, scenario  # noqa: E402

from realrun.runtime.shared import Limits, Shared  # noqa: E402
from realrun.runtime.worker import TorchWorker  # noqa: E402
from sim.methods import METHODS  # noqa: E402
from sim.models.quadratic import Quadratic  # noqa: E402
from sim.runtime import simulate  # noqa: E402
from sim.runtime.context import context_of  # noqa: E402
from sim.scenario.resolved import Scenario  # noqa: E402
from sim.trace.table import LOOK, Row, Trace  # noqa: E402

TOY: dict[str, Any] = {"noise": 0.3, "momentum": 0.5}
ROUNDS = 4
BLOCK = 4  # values per scale: most buffers of the toy have several, and one that is not full
ARGUMENTS: dict[str, list[dict[str, Any]]] = {
    "ddp": [
        {},
        {"overlap": "layer"},
        {"overlap": "none"},
        {"zero1": True},
        {"bucket_bytes": 20},
        {"comm_dtype": "int8", "bucket_bytes": 20},
        {"comm_dtype": "fp4", "overlap": "layer"},
        {"comm_dtype": "fp4", "zero1": True, "bucket_bytes": 5},
    ],
    "local_sgd": [{"sync_every": 3}, {"sync_every": (3, 5, 1, 2)}],
    "diloco": [
        {"sync_every": 3},
        {"sync_every": 3, "overlap": "layer"},
        {"sync_every": 3, "comm_dtype": "int8"},
        {"sync_every": 3, "overlap": "layer", "comm_dtype": "fp4"},
        {"sync_every": (3, 5, 4, 1), "comm_dtype": "bf16"},
        {"sync_every": (3, 5, 4, 1), "overlap": "layer"},
    ],
    "streaming_diloco": [
        {"sync_every": 6, "num_fragments": 3},
        {"sync_every": 4, "num_fragments": 2, "fragment_sync_delay": 9, "comm_dtype": "bf16"},
        {"sync_every": 6, "num_fragments": 3, "overlap": "layer", "fragment_update_alpha": 0.5},
        {"sync_every": 6, "num_fragments": 2, "fragment_sync_delay": (0, 2, 1, 0)},
        {
            "sync_every": (3, 5, 4, 7),
            "num_fragments": 3,
            "fragment_sync_delay": (1, 6, 0, 2),
            "comm_dtype": "int8",
        },
        {"sync_every": 4, "num_fragments": 2, "fragment_sync_delay": 9, "comm_dtype": "fp4"},
        {
            "sync_every": 6,
            "num_fragments": 3,
            "fragment_sync_delay": 2,
            "overlap": "layer",
            "comm_dtype": "int8",
        },
    ],
    "delayed_diloco": [
        {"sync_every": 3},
        {"sync_every": 4, "rounds_late_by": 2, "num_fragments": 2},
        {"sync_every": 4, "rounds_late_by": 2, "num_fragments": 2, "comm_dtype": "int8"},
    ],
    "eager_diloco": [
        {"sync_every": 3},
        {"sync_every": 3, "comm_dtype": "bf16"},
        {"sync_every": 3, "comm_dtype": "fp4"},
        {"sync_every": (3, 5, 4, 1), "num_fragments": 2, "comm_dtype": "fp4"},
        {"sync_every": 3, "num_fragments": 2, "rounds_late_by": 2, "comm_dtype": "int8"},
    ],
    "acco": [{}, {"comm_dtype": "fp4"}],
    "dpu": [{}, {"comm_dtype": "int8"}],
    "wp": [{}, {"comm_dtype": "fp4"}],
}
CASES = [(method, arguments) for method in METHODS for arguments in ARGUMENTS[method]]


def enlarged(times: int, workers: int) -> list[tuple[str, dict[str, Any]]]:
    """The cases for a model so many times as large: larger buckets, not more of them."""
    return [
        (method, {key: times * n if key == "bucket_bytes" else n for key, n in given.items()})
        for method, given in ((name, of_first(workers, arguments)) for name, arguments in CASES)
    ]


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
        for group in shared.groups.values():
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
    """Where so many processes left what they did."""

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
