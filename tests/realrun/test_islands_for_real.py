"""Islands of two accelerators, trained by four real processes and in virtual time.

Of two numbers a sum has no order, and every group has two members here: parameters are the same
bit by bit. `make islands` takes four accelerators for each island.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from support.processes import together  # noqa: E402

from realrun.data import corpus  # noqa: E402
from realrun.data.batches import Data  # noqa: E402
from realrun.model.gpt import GPT, GPTConfig, loss  # noqa: E402
from realrun.model.optimizers import Inner  # noqa: E402
from realrun.model.replica import TorchModel  # noqa: E402
from realrun.runtime.shared import Limits, Restart, Saving, Shared  # noqa: E402
from realrun.runtime.worker import TorchWorker  # noqa: E402
from sim.records.islands import accelerators_of  # noqa: E402
from sim.records.scenario import Run, Scenario  # noqa: E402
from sim.runtime import simulate  # noqa: E402
from sim.runtime.context import context_of  # noqa: E402
from sim.scenario import load  # noqa: E402
from sim.trace.table import Row, Trace  # noqa: E402

CONFIG = GPTConfig(hidden=8, layers=4, heads=2, vocabulary=16, feed_forward=8, context=8)
ACCELERATORS = int(os.environ.get("ISLAND_ACCELERATORS", "2"))
ISLANDS, ROUNDS, PASSES = 2, 3, 2
COUNT = ISLANDS * ACCELERATORS
# Where gloo adds up more than two numbers its order counts, in bf16 far more than Adam forgives.
PARAM_DTYPE = "bf16" if ACCELERATORS == 2 else "fp32"
INSIDES = {
    "ddp": ["bucket_bytes=400"],
    "zero1": ["bucket_bytes=400", f"comm_dtype={PARAM_DTYPE}"],
    "fsdp": [],
    "fsdp, nothing ahead or kept": ["prefetch=false", "reshard=false"],
}
OUTER = {
    "local_sgd": ["method.sync_every=2"],
    "diloco": ["method.sync_every=2", "method.comm_dtype=int8"],
    "streaming_diloco": ["method.sync_every=4", "method.num_fragments=3"],
    "delayed_diloco": ["method.sync_every=2", "method.num_fragments=2"],
    "eager_diloco": ["method.sync_every=2", "method.num_fragments=2", "method.comm_dtype=int8"],
}
CASES = list(product(OUTER, INSIDES))
DDP = ["method.bucket_bytes=400", f"method.comm_dtype={PARAM_DTYPE}"]
LEADER = "site.inside.exchange=leader"
OUTER |= {
    "ddp": DDP,
    "ddp, by a leader": [*DDP, LEADER],
    "diloco, by a leader": [*OUTER["diloco"], LEADER],
    "eager_diloco, by a leader": [*OUTER["eager_diloco"], LEADER],
    "streaming_diloco, by layers": OUTER["streaming_diloco"],
}
# Methods without inner steps of the whole model have nothing else that runs inside.
CASES += [("ddp", "ddp"), ("ddp, by a leader", "ddp"), ("streaming_diloco, by layers", "ddp")]
CASES += [("diloco, by a leader", "zero1"), ("eager_diloco, by a leader", "zero1")]


def islands(number: int, param_dtype: str = PARAM_DTYPE) -> Scenario:
    """A scenario of two islands, each one worker."""
    method, inside = CASES[number]
    dimensions = [f"model.{key}={value}" for key, value in asdict(CONFIG).items()]
    arguments = [f"site.inside.{text}" for text in INSIDES[inside]]
    settings = [
        *dimensions,
        f"model.param_dtype={param_dtype}",
        f"site.n_grad_accumulation={PASSES}",
        f"site.inside.method={inside.partition(',')[0]}",
        f"site.inside.accelerators={ACCELERATORS}",
        *arguments,
        *OUTER[method],
    ]
    name = method.partition(",")[0]
    found = replace(load("quick_start", {"--method": name}, settings), run=Run())
    if "by layers" not in method:
        return found
    arguments = {**found.method.arguments, "overlap": "layer"}  # the file has a norm to clip to
    return replace(found, method=replace(found.method, arguments=arguments))


def data() -> Data:
    drawn = corpus.synthetic(5_000, CONFIG.vocabulary, seed=0)
    return Data(drawn, vocabulary=CONFIG.vocabulary, context=CONFIG.context, workers=COUNT)


def replica(batches: Any, rank: int, workers: int, param_dtype: str = PARAM_DTYPE) -> TorchModel:
    decoder = GPT(CONFIG)
    return TorchModel(
        decoder.stages(),
        loss,
        batches,
        decoder.layer_parameters(),
        rank=rank,
        workers=workers,
        shards=ACCELERATORS if workers == COUNT else None,
        averaging=ISLANDS,
        n_grad_accumulation=PASSES,
        inner=Inner(learning_rate=1e-2, warmup_steps=2),
        param_dtype=param_dtype,
    )


def run(rank: int, asked: Scenario, came: tuple[int, Any, Any, Any] | None) -> Any:
    """Train on this process, from a saved round if there is one; what was saved on the way."""
    batches = data().batches(rank, 1)
    model = replica(batches, rank, COUNT)
    shared = Shared(rank, COUNT, model, Limits(rounds=ROUNDS), fresh=True)
    saved: dict[int, tuple[int, Any, Any, Any]] = {}

    def save(number: int) -> None:
        tensors, numbers = model.state()
        copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        saved[number] = number, copies, json.loads(json.dumps(numbers)), batches.state()

    shared.saving = Saving(1, save)
    if came is not None:
        number, tensors, numbers, position = came
        batches.restore(position)
        model.restore({name: tensor.clone() for name, tensor in tensors.items()}, numbers)
        shared.restart = Restart(number, deque())
    worker = TorchWorker(shared)
    worker.drive(asked.method.program(worker, **asked.method.arguments))
    save(ROUNDS + 1)  # when what was in flight is applied
    shared.close()
    rows = [tuple(getattr(row, name) for name in Row.__slots__) for row in shared.rows]
    return rows, saved, shared.calls


def differences(one: Any, other: Any) -> list[str]:
    if one[1].keys() != other[1].keys():
        return sorted(one[1].keys() ^ other[1].keys())
    found = [name for name in one[1] if not torch.equal(one[1][name], other[1][name])]
    return found + ["numbers"] * (one[2:] != other[2:])


def process(rank: int, out: Path) -> None:
    for number in range(len(CASES)):
        asked = accelerators_of(islands(number))
        rows, saved, calls = run(rank, asked, None)
        _, again, calls_again = run(rank, asked, saved[ROUNDS - 1])
        wrong = differences(saved[ROUNDS + 1], again[ROUNDS + 1])
        wrong += ["calls"] * (calls != calls_again)
        torch.save((rows, saved[ROUNDS + 1][1], wrong), out / f"{number}-{rank}.pt")


Really = Callable[[int], list[Any]]


@pytest.fixture(scope="module")
def really(tmp_path_factory: pytest.TempPathFactory) -> Really:
    """Rows, state, and what differs after resuming, by rank and the number of the case."""
    out = tmp_path_factory.mktemp("islands")
    together(COUNT, process, out)
    return lambda number: [torch.load(out / f"{number}-{rank}.pt") for rank in range(COUNT)]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in the processes: more threads would add up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def named(number: int) -> str:
    return ", ".join(CASES[number])


@pytest.mark.parametrize("number", range(len(CASES)), ids=named)
def test_processes_train_islands_as_the_simulator_does(really: Really, number: int) -> None:
    asked, saved = accelerators_of(islands(number)), really(number)
    rows = [Row(*row) for own, *_ in saved for row in own if row[2] != "checkpoint"]
    measured = Trace(rows, context_of(asked), 0.0)
    models = {rank: replica(data().batches(rank, 1), rank, COUNT) for rank in range(COUNT)}
    simulated = simulate(asked, rounds=ROUNDS, models=models)
    assert simulated.sequence() == measured.sequence()
    assert simulate(asked, rounds=ROUNDS).sequence() == measured.sequence()  # sizes alone
    for rank, (_, state, _) in enumerate(saved):
        if ACCELERATORS == ISLANDS == 2:
            assert torch.equal(models[rank].theta, state["theta"])
        else:
            torch.testing.assert_close(models[rank].theta, state["theta"], rtol=0, atol=5e-4)
        first = saved[rank // ACCELERATORS * ACCELERATORS][1]
        assert torch.equal(state["theta"], first["theta"])  # one island, one model


@pytest.mark.parametrize("number", range(len(CASES)), ids=named)
def test_islands_that_were_stopped_and_resumed_end_with_the_same_bits(
    really: Really, number: int
) -> None:
    assert [wrong for *_, wrong in really(number)] == [[]] * COUNT


def united(island: int) -> Iterator[tuple[Any, Any]]:
    """The batches of an island's accelerators as one."""
    own = range(island * ACCELERATORS, (island + 1) * ACCELERATORS)
    for batches in zip(*(data().batches(rank, 1) for rank in own), strict=False):
        yield torch.cat([inputs for inputs, _ in batches]), torch.cat([t for _, t in batches])


@pytest.mark.parametrize("number", range(len(CASES)), ids=named)
def test_an_island_learns_what_one_process_with_its_batch_learns(number: int) -> None:
    """Within rounding, which Adam makes larger where a gradient is nearly nothing."""
    method = CASES[number][0]
    arguments = {**islands(number, "fp32").method.arguments, "comm_dtype": "fp32"}
    of_islands = islands(number, "fp32")
    kept = {"comm_dtype": "fp32"}
    whole = replace(of_islands, method=replace(of_islands.method, arguments=arguments))
    insides = [
        replace(
            worker,
            machine=replace(
                worker.machine,
                inside=replace(
                    worker.machine.inside,
                    arguments=tuple({**dict(worker.machine.inside.arguments), **kept}.items()),
                ),
            ),
        )
        for worker in whole.workers
        if worker.machine.inside is not None
    ]
    asked = accelerators_of(replace(whole, workers=tuple(insides)))
    models = {rank: replica(data().batches(rank, 1), rank, COUNT, "fp32") for rank in range(COUNT)}
    alone = {rank: replica(united(rank), rank, ISLANDS, "fp32") for rank in range(ISLANDS)}
    simulate(asked, rounds=ROUNDS, models=models)
    simulate(whole, rounds=ROUNDS, models=alone)
    for rank, model in models.items():
        one = alone[rank // ACCELERATORS]
        torch.testing.assert_close(model.theta, one.theta, rtol=0, atol=5e-4, msg=method)
        moved = float((one.theta - replica(united(0), 0, ISLANDS).theta).abs().max())
        assert moved > 0.02  # far more than what is tolerated
