"""Simulator and real processes run the same text: the same trace, bitwise the same parameters."""

from __future__ import annotations

import datetime
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402
import torch.multiprocessing as mp  # noqa: E402
from test_identities import SIZE, scenario  # noqa: E402

from realrun.runtime import Limits, Shared, TorchWorker  # noqa: E402
from sim.methods import METHODS  # noqa: E402
from sim.quadratic import Quadratic  # noqa: E402
from sim.runtime import simulate  # noqa: E402
from sim.trace import Row, Trace  # noqa: E402

TOY: dict[str, Any] = {"noise": 0.3, "momentum": 0.5}
ROUNDS = 4
ARGUMENTS: dict[str, list[dict[str, Any]]] = {
    "ddp": [{}, {"overlap": "layer"}, {"overlap": "none"}, {"zero1": True}, {"bucket_bytes": 20}],
    "local_sgd": [{"sync_every": 3}],
    "diloco": [{"sync_every": 3}, {"sync_every": 3, "overlap": "layer"}],
    "streaming_diloco": [
        {"sync_every": 6, "num_fragments": 3},
        {"sync_every": 4, "num_fragments": 2, "fragment_sync_delay": 9, "comm_dtype": "bf16"},
        {"sync_every": 6, "num_fragments": 3, "overlap": "layer", "fragment_update_alpha": 0.5},
        {"sync_every": 6, "num_fragments": 2, "fragment_sync_delay": (0, 2)},
    ],
    "delayed_diloco": [
        {"sync_every": 3},
        {"sync_every": 4, "rounds_late_by": 2, "num_fragments": 2},
    ],
    "eager_diloco": [{"sync_every": 3}, {"sync_every": 3, "comm_dtype": "bf16"}],
    "acco": [{}],
    "dpu": [{}],
    "wp": [{}],
}
CASES = [(method, arguments) for method in METHODS for arguments in ARGUMENTS[method]]


def worker(rank: int, workers: int, port: int, out: str, cases: list[Any]) -> None:
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=workers,
        timeout=datetime.timedelta(seconds=60),
    )
    for number, (method, arguments) in enumerate(cases):
        asked = scenario(method, workers, **arguments)
        model = Quadratic(SIZE, rank, workers, **TOY)
        shared = Shared(rank, workers, model, Limits(rounds=ROUNDS))
        program = TorchWorker(shared)
        program.drive(asked.method.program(program, **asked.method.arguments))
        rows = [[getattr(row, name) for name in Row.__slots__] for row in shared.rows]
        np.savez(
            Path(out) / f"{number}-{rank}.npz",
            theta=model.theta,
            outer=model.outer,
            rows=np.array(rows, dtype=object),
        )
    dist.barrier()
    dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def really(workers: int, out: Path) -> None:
    mp.spawn(worker, (workers, free_port(), str(out), CASES), nprocs=workers)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("two")
    really(2, out)
    return out


def measured(out: Path, number: int, workers: int) -> tuple[dict[int, Any], Trace]:
    saved = {
        rank: np.load(out / f"{number}-{rank}.npz", allow_pickle=True) for rank in range(workers)
    }
    rows = [Row(*row) for rank in saved for row in saved[rank]["rows"]]
    method, arguments = CASES[number]
    models = {rank: Quadratic(SIZE, rank, workers) for rank in range(workers)}
    context = simulate(scenario(method, workers, **arguments), rounds=0, models=models).context
    return saved, Trace(rows, context, 0.0)


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: f"{CASES[n][0]}-{n}")
def test_two_processes_give_the_simulators_trace_and_parameters(two: Path, number: int) -> None:
    method, arguments = CASES[number]
    saved, trace = measured(two, number, 2)
    models = {rank: Quadratic(SIZE, rank, 2, **TOY) for rank in range(2)}
    looks = any(row.operation == "look" for row in trace.rows)
    simulated = simulate(
        scenario(method, 2, **arguments),
        rounds=ROUNDS,
        models=models,
        replay=trace if looks else None,
    )
    assert simulated.sequence() == trace.sequence()
    for rank in range(2):
        np.testing.assert_array_equal(models[rank].theta, saved[rank]["theta"])
        np.testing.assert_array_equal(models[rank].outer, saved[rank]["outer"])
