"""Means over workers that count each once, as torch DDP does, or by the tokens of its round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.toy_training import SIZE, scenario

from sim.methods import BY_COUNTS
from sim.models.quadratic import Quadratic
from sim.records.scenario import Run, Scenario
from sim.runtime import simulate
from sim.scenario import load

DDP: list[dict[str, Any]] = [
    {"overlap": "none"},
    {"bucket_bytes": 20},
    {"overlap": "layer"},
    {"zero1": True},
]
PLAIN_SGD = {"outer_lr": 0.5, "outer_momentum": 0.0, "use_nesterov": False}


def asked(method: str, by: str, tokens: Sequence[float] = (1.0, 3.0), **arguments: Any) -> Scenario:
    """The toy's scenario with that many tokens in each worker's inner step."""
    made = scenario(method, len(tokens), **arguments)
    workers = tuple(
        replace(worker, machine=replace(worker.machine, batch_tokens=batch))
        for worker, batch in zip(made.workers, tokens, strict=True)
    )
    return replace(made, workers=workers, run=Run(average_by=by))


def trained(
    case: Scenario, rounds: int, targets: Sequence[Any], ns: Sequence[int] = (1, 1)
) -> dict[int, Quadratic]:
    """Models of whole eighths: with powers of two alone nothing is rounded in a few steps."""
    models = {}
    for rank, (target, n) in enumerate(zip(targets, ns, strict=False)):
        model = Quadratic(
            SIZE, rank, len(targets), n_grad_accumulation=n, lr=0.5, momentum=0.5, noise=0.0
        )
        for start in (model.theta, model.outer):
            start[:] = np.arange(30) / 8
        model.target[:] = target
        models[rank] = model
    simulate(case, rounds=rounds, models=models)
    return models


def eighths(rank: int) -> Any:
    return np.random.default_rng(rank).integers(-16, 16, 30) / 8


@pytest.mark.parametrize("arguments", DDP, ids=["none", "bucket", "layer", "zero1"])
@pytest.mark.parametrize(("by", "share"), [("workers", 0.5), ("tokens", 0.25)])
def test_ddp_with_batches_1_and_3_is_one_worker_with_batch_4(
    arguments: dict[str, Any], by: str, share: float
) -> None:
    """By tokens; unweighted the smaller batch counts as much as the larger one."""
    targets = [eighths(0), eighths(1)]
    both = trained(asked("ddp", by, **arguments), 4, targets)
    # Whose four samples pull towards one target of the first and three of the second worker.
    mixed = share * targets[0] + (1 - share) * targets[1]
    alone = trained(asked("ddp", "workers", [4.0], **arguments), 4, [mixed])
    np.testing.assert_array_equal(both[0].theta, alone[0].theta)
    np.testing.assert_array_equal(both[1].theta, alone[0].theta)


@pytest.mark.parametrize("arguments", DDP, ids=["none", "bucket", "layer", "zero1"])
@pytest.mark.parametrize(("by", "share"), [("workers", 0.5), ("tokens", 0.25)])
def test_micro_batches_of_which_one_worker_has_more_count_as_its_batch(
    arguments: dict[str, Any], by: str, share: float
) -> None:
    """Replicas stay equal though each divides by its own number of micro-batches."""
    targets = [eighths(0), eighths(1)]
    both = trained(asked("ddp", by, **arguments), 4, targets, ns=(1, 3))
    mixed = share * targets[0] + (1 - share) * targets[1]
    alone = trained(asked("ddp", "workers", [4.0], **arguments), 4, [mixed])
    np.testing.assert_array_equal(both[0].theta, both[1].theta)
    np.testing.assert_allclose(both[0].theta, alone[0].theta, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", ["ddp", "local_sgd", "diloco", "eager_diloco"])
def test_equal_batches_weigh_the_same(method: str) -> None:
    arguments = {} if method == "ddp" else {"sync_every": 3}
    targets = [eighths(rank) for rank in range(3)]
    plain, weighted = (
        trained(asked(method, by, [5.0] * 3, **arguments), 4, targets, ns=(1, 1, 1))
        for by in ("workers", "tokens")
    )
    for rank in range(3):
        np.testing.assert_array_equal(plain[rank].theta, weighted[rank].theta)


def test_parameters_are_averaged_by_the_tokens_of_the_round() -> None:
    """Twice the batch and half the steps are as many tokens."""
    targets = [eighths(0), eighths(1)]
    equal = trained(asked("local_sgd", "tokens", (2.0, 4.0), sync_every=(4, 2)), 1, targets)
    apart = [
        trained(asked("local_sgd", "workers", [1.0], sync_every=steps), 1, [target])[0].theta
        for steps, target in zip((4, 2), targets, strict=True)
    ]
    np.testing.assert_allclose(equal[0].theta, (apart[0] + apart[1]) / 2, rtol=1e-6, atol=1e-6)
    more = trained(asked("local_sgd", "tokens", (2.0, 2.0), sync_every=(4, 2)), 1, targets)
    expected = (2 * apart[0] + apart[1]) / 3
    np.testing.assert_allclose(more[0].theta, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_eager_updates_exchange_a_worker_s_weighted_part(dtype: str) -> None:
    """Were it exchanged at 1/M, the workers would not come together at the end."""
    case = asked("eager_diloco", "tokens", sync_every=2, comm_dtype=dtype, **PLAIN_SGD)
    models = trained(case, 5, [eighths(0), eighths(1)])
    np.testing.assert_allclose(models[0].theta, models[1].theta, rtol=1e-5, atol=1e-5)


def test_sums_divided_by_counts_are_left_alone() -> None:
    for method in BY_COUNTS:
        targets = [eighths(0), eighths(1)]
        plain, weighted = (trained(asked(method, by), 4, targets) for by in ("workers", "tokens"))
        np.testing.assert_array_equal(plain[0].theta, weighted[0].theta)


# --- both runtimes ------------------------------------------------------------------------------

DTYPES = ("fp32", "bf16", "int8", "fp4")
REAL: list[tuple[str, dict[str, Any]]] = [
    *(("ddp", {"comm_dtype": dtype, "bucket_bytes": 20}) for dtype in DTYPES),
    *(("ddp", {"comm_dtype": dtype, "zero1": True}) for dtype in DTYPES),
    ("local_sgd", {"sync_every": (3, 2)}),
    *(("eager_diloco", {"comm_dtype": dtype, "sync_every": 2}) for dtype in DTYPES),
    ("streaming_diloco", {"sync_every": (4, 6), "num_fragments": 2, "comm_dtype": "fp4"}),
]
BLOCK, ROUNDS = 4, 3


def case(number: int) -> Scenario:
    method, arguments = REAL[number]
    made = asked(method, "tokens", **arguments)
    collectives = replace(made.network.collectives, quantize_block=BLOCK)
    return replace(made, network=replace(made.network, collectives=collectives))


def toys() -> dict[int, Quadratic]:
    return {
        rank: Quadratic(SIZE, rank, 2, n_grad_accumulation=n, noise=0.3, momentum=0.5)
        for rank, n in enumerate((1, 2))
    }


def process(rank: int, out: Path) -> None:
    from realrun.runtime.shared import Limits, Shared
    from realrun.runtime.worker import TorchWorker

    for number in range(len(REAL)):
        method, model = case(number).method, toys()[rank]
        limits = Limits(rounds=ROUNDS, batch_tokens=(1.0, 3.0))
        shared = Shared(rank, 2, model, limits, BLOCK, by_tokens=True)
        worker = TorchWorker(shared)
        worker.drive(method.program(worker, **method.arguments))
        np.save(out / f"{number}-{rank}.npy", np.stack([model.theta, model.outer]))
        shared.close()


def test_real_processes_weigh_as_the_simulator_does(tmp_path: Path) -> None:
    """Bitwise, in every dtype."""
    pytest.importorskip("torch")
    from support.processes import together

    together(2, process, tmp_path)
    for number in range(len(REAL)):
        models = toys()
        simulate(case(number), rounds=ROUNDS, models=models)
        for rank, model in models.items():
            found = np.load(tmp_path / f"{number}-{rank}.npy")
            np.testing.assert_array_equal(found, np.stack([model.theta, model.outer]), REAL[number])


def test_a_network_trains_on_batches_of_1_and_3_as_on_one_of_4() -> None:
    torch = pytest.importorskip("torch")
    from realrun.model.optimizers import Inner
    from realrun.model.replica import TorchModel

    random = torch.Generator().manual_seed(0)
    data = [(torch.randn(4, 3, generator=random), torch.randn(4, 1, generator=random))] * 5

    def replica(rank: int, workers: int, rows: slice) -> TorchModel:
        torch.manual_seed(1)
        stages = [torch.nn.Linear(3, 4), torch.nn.Linear(4, 1)]
        return TorchModel(
            stages,
            torch.nn.functional.mse_loss,
            iter([(inputs[rows], targets[rows]) for inputs, targets in data]),
            [list(stage.parameters()) for stage in stages],
            rank=rank,
            workers=workers,
            inner=Inner(learning_rate=1e-2),
        )

    def sized(tokens: Sequence[float], by: str) -> Scenario:
        made = asked("ddp", by, tokens)
        size = replace(made.model, parameters=21, layer_parameters=(16, 5))
        return replace(made, model=size)

    both = {0: replica(0, 2, slice(0, 1)), 1: replica(1, 2, slice(1, 4))}
    alone = {0: replica(0, 1, slice(0, 4))}
    simulate(sized([1.0, 3.0], "tokens"), rounds=5, models=both)
    simulate(sized([4.0], "workers"), rounds=5, models=alone)
    torch.testing.assert_close(both[0].theta, alone[0].theta, rtol=0, atol=1e-6)
    torch.testing.assert_close(both[0].theta, both[1].theta, rtol=0, atol=0)


# --- what is said -------------------------------------------------------------------------------

SITES = {"--model": "1B", "--sites": "a,b", "--bandwidth": "1Gbit/s"}
UNEQUAL = ["site.a.batch_tokens=1Mi", "site.b.batch_tokens=3Mi"]


def assumed(*settings: str, **options: str) -> dict[str, str]:
    return dict(load(None, {**SITES, "--method": "ddp", **options}, list(settings)).assumed)


def test_unequal_batches_are_averaged_unweighted_and_the_answer_lists_it() -> None:
    key = "train.average_by"
    assert assumed(*UNEQUAL)[key] == "workers (unweighted means, as in torch DDP)"
    assert key not in assumed()
    assert key not in assumed(*UNEQUAL, f"{key}=tokens")
    assert key not in assumed(*UNEQUAL, **{"--method": "acco"})
    uneven = {"--method": "diloco", "--sync-every": "[10, 20]"}
    assert key in assumed(**uneven)


def test_the_first_lines_say_which_mean_is_taken() -> None:
    from sim.output.run_report import subject

    options = {**SITES, "--method": "ddp"}
    workers, tokens = (
        load(None, options, [*UNEQUAL, f"train.average_by={name}"])
        for name in ("workers", "tokens")
    )
    assert "counts each once, as torch DDP does" in subject(workers)
    assert "counts each by the tokens of its round" in subject(tokens)
    assert "mean" not in subject(load(None, options))
