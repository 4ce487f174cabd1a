"""A decoder trained by two real processes, and the same training in virtual time.

The trace has the same rows, bytes included. So are the parameters the same, bit by bit, for all
methods and dtypes: a sum of two numbers has no order, and all else is one text on one kind of
tensor. (Of more workers gloo adds in an order of its own: test_conformance.py has those.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from support.method_cases import enlarged  # noqa: E402
from support.processes import together  # noqa: E402

from realrun.data import corpus  # noqa: E402
from realrun.data.batches import Data  # noqa: E402
from realrun.model.gpt import GPT, GPTConfig, loss  # noqa: E402
from realrun.model.optimizers import Inner  # noqa: E402
from realrun.model.replica import TorchModel  # noqa: E402
from realrun.runtime.shared import Limits, Shared  # noqa: E402
from realrun.runtime.worker import TorchWorker  # noqa: E402
from sim.methods import METHODS  # noqa: E402
from sim.methods.inside import INSIDE  # noqa: E402
from sim.records.scenario import Method, Run  # noqa: E402
from sim.runtime import simulate  # noqa: E402
from sim.runtime.context import context_of  # noqa: E402
from sim.scenario import Scenario, load  # noqa: E402
from sim.scenario.presets import gpt_tensors  # noqa: E402
from sim.trace.table import LOOK, Row, Trace  # noqa: E402

CONFIG = GPTConfig(hidden=8, layers=4, heads=2, vocabulary=16, feed_forward=8, context=8)
WORKERS, ROUNDS, BATCH, ACCUMULATION = 2, 3, 1, 2
PARAM_DTYPE = "bf16"  # in which parameters travel; gradients do as the case says
CASES = enlarged(20, WORKERS)  # several buckets a layer


def scenario(number: int) -> Scenario:
    """The model as a user writes it; the method with its arguments."""
    method, arguments = CASES[number]
    if method != "local_sgd":
        arguments = {"comm_dtype": "fp32", **arguments}
    dimensions = [f"model.{key}={value}" for key, value in asdict(CONFIG).items()]
    dimensions.append(f"model.param_dtype={PARAM_DTYPE}")
    found = load("quick_start", settings=[*dimensions, f"site.n_grad_accumulation={ACCUMULATION}"])
    tensors = gpt_tensors(
        hidden=CONFIG.hidden,
        layers=CONFIG.layers,
        vocabulary=CONFIG.vocabulary,
        feed_forward=CONFIG.feed_forward_width,
    )
    model = replace(found.model, layer_tensors=tensors)
    return replace(
        found, run=Run(), model=model, method=Method(method, (METHODS | INSIDE)[method], arguments)
    )


def replica(rank: int) -> TorchModel:
    decoder = GPT(CONFIG)
    drawn = corpus.synthetic(5_000, CONFIG.vocabulary, seed=0)
    data = Data(drawn, vocabulary=CONFIG.vocabulary, context=CONFIG.context, workers=WORKERS)
    return TorchModel(
        decoder.stages(),
        loss,
        data.batches(rank, BATCH),
        decoder.layer_parameters(),
        rank=rank,
        workers=WORKERS,
        n_grad_accumulation=ACCUMULATION,
        inner=Inner(learning_rate=1e-2, warmup_steps=2),
        param_dtype=PARAM_DTYPE,
    )


def state(model: TorchModel) -> tuple[Any, ...]:
    return model.theta, model.outer, torch.tensor(model.losses)


def process(rank: int, out: Path) -> None:
    for number in range(len(CASES)):
        asked, model = scenario(number), replica(rank)
        block = asked.network.collectives.quantize_block
        shared = Shared(rank, WORKERS, model, Limits(rounds=ROUNDS), block)
        worker = TorchWorker(shared)
        worker.drive(asked.method.program(worker, **asked.method.arguments))
        for group in (*shared.groups.values(), *shared.controls.values()):
            group.close()
        rows = [tuple(getattr(row, name) for name in Row.__slots__) for row in shared.rows]
        torch.save((rows, state(model)), out / f"{number}-{rank}.pt")


Really = Callable[[int], list[Any]]


@pytest.fixture(scope="module")
def really(tmp_path_factory: pytest.TempPathFactory) -> Really:
    """Rows and state of each rank, by the number of the case."""
    out = tmp_path_factory.mktemp("really")
    together(WORKERS, process, out)
    return lambda number: [torch.load(out / f"{number}-{rank}.pt") for rank in range(WORKERS)]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in the processes: more threads would add up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: f"{CASES[n][0]}-{n}")
def test_two_processes_train_a_decoder_as_the_simulator_does(really: Really, number: int) -> None:
    asked, saved = scenario(number), really(number)
    rows = [Row(*row) for own, _ in saved for row in own]
    models = {rank: replica(rank) for rank in range(WORKERS)}
    measured = Trace(rows, context_of(asked), 0.0)
    looks = any(row.operation == LOOK for row in rows)
    simulated = simulate(asked, rounds=ROUNDS, models=models, replay=measured if looks else None)
    assert simulated.sequence() == measured.sequence()
    for rank, (_, really_reached) in enumerate(saved):
        for ours, theirs in zip(state(models[rank]), really_reached, strict=True):
            assert torch.equal(ours, theirs)
    # Sizes alone, without a model, say the same.
    sizes = simulate(asked, rounds=ROUNDS, replay=measured if looks else None)
    assert sizes.sequence() == measured.sequence()
