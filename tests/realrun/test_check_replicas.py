"""--check-replicas finds the worker whose replica is another one, with every method."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

torch = pytest.importorskip("torch")

from support.processes import together  # noqa: E402

from realrun.checks.replica_check import ReplicaCheck, declared_equal  # noqa: E402
from realrun.communication.groups import Collective, Group  # noqa: E402
from realrun.data import corpus  # noqa: E402
from realrun.data.batches import Data  # noqa: E402
from realrun.errors import AgreedError  # noqa: E402
from realrun.model.buffers import Flat  # noqa: E402
from realrun.model.gpt import GPT, GPTConfig, loss  # noqa: E402
from realrun.model.optimizers import Inner  # noqa: E402
from realrun.model.replica import TorchModel  # noqa: E402
from realrun.runtime.shared import Limits, Shared  # noqa: E402
from realrun.runtime.worker import TorchWorker  # noqa: E402
from sim.methods import METHODS  # noqa: E402
from sim.program import Program, Worker, keeps_equal, kept_equal  # noqa: E402
from sim.records.scenario import Method  # noqa: E402
from sim.scenario import ScenarioError  # noqa: E402

CONFIG = GPTConfig(hidden=8, layers=4, heads=2, vocabulary=16, feed_forward=8, context=8)
WORKERS, ROUNDS, ODD, WRONG_ROUND = 3, 4, 1, 2
CASES: list[tuple[str, dict[str, Any]]] = [
    ("ddp", {}),
    ("ddp", {"zero1": True}),
    ("ddp", {"overlap": "layer"}),
    ("local_sgd", {"sync_every": 2}),
    ("diloco", {"sync_every": 2}),
    ("diloco", {"sync_every": 2, "overlap": "layer", "comm_dtype": "int8"}),
    ("streaming_diloco", {"sync_every": 4, "num_fragments": 2, "fragment_update_alpha": 0.5}),
    ("streaming_diloco", {"sync_every": 4, "num_fragments": 2, "fragment_sync_delay": (0, 3, 1)}),
    ("delayed_diloco", {"sync_every": 2, "num_fragments": 2}),
    ("eager_diloco", {"sync_every": 2}),
    ("eager_diloco", {"sync_every": 2, "num_fragments": 2, "comm_dtype": "fp4"}),
    ("acco", {}),
    ("dpu", {"comm_dtype": "int8"}),
    ("wp", {}),
]
PLACE = "1.attention.query_key_value"  # of layer 1


def replica(rank: int) -> TorchModel:
    decoder = GPT(CONFIG)
    drawn = corpus.synthetic(5_000, CONFIG.vocabulary, seed=0)
    data = Data(drawn, vocabulary=CONFIG.vocabulary, context=CONFIG.context, workers=WORKERS)
    return TorchModel(
        decoder.stages(),
        loss,
        data.batches(rank, 1),
        decoder.layer_parameters(),
        rank=rank,
        workers=WORKERS,
        inner=Inner(learning_rate=1e-2),
        param_dtype="fp32",
    )


def wrong_parameter(model: TorchModel) -> slice:
    return next(place.part for place in model.named_slices if place.name == PLACE)


class Faulty(TorchWorker):
    """Changes one parameter of one worker when a round begins."""

    def next_round(self, steps: int | None = None) -> bool:
        if self.rank == ODD and self._round == WRONG_ROUND:
            model = self.model
            outer = self._shared.check.equal == "outer parameters"
            (model.outer if outer else model.theta)[wrong_parameter(model)][0] += 1e-3
        return super().next_round(steps)


@contextmanager
def another_mean(rank: int) -> Iterator[None]:
    """Let one worker receive another mean from its third all-reduce on."""
    start, started = Group.start, iter(range(10**9))

    def faulty(group: Group, operation: str, buffer: Any, *more: Any) -> Collective:
        collective = start(group, operation, buffer, *more)
        if rank == ODD and next(started) >= 2:
            collective.then(lambda: buffer.tensor.add_(1e-3))
        return collective

    with mock.patch.object(Group, "start", faulty):
        yield


def said(rank: int, number: int, gather: Callable[[Any], list[Any]], faulty: bool) -> Any:
    """What a run ends with: the error's text, or how many comparisons found nothing."""
    method, arguments = CASES[number]
    model = replica(rank)
    equal = kept_equal(METHODS[method], arguments_of(number))
    assert equal is not None
    check = ReplicaCheck(equal, model, WORKERS, gather)
    shared = Shared(rank, WORKERS, model, Limits(rounds=ROUNDS), check=check)
    worker = (Faulty if faulty else TorchWorker)(shared)
    try:
        worker.drive(METHODS[method](worker, **arguments))
    except AgreedError as error:
        return str(error)
    finally:
        shared.close()
    return check.compared


def arguments_of(number: int) -> dict[str, Any]:
    """With the defaults, as a scenario has them."""
    method, arguments = CASES[number]
    return {**(METHODS[method].__kwdefaults__ or {}), **arguments}


def process(rank: int, out: Path) -> None:
    def gather(value: Any) -> list[Any]:
        values: list[Any] = [None] * WORKERS
        torch.distributed.all_gather_object(values, value)
        return values

    found: list[Any] = []
    for number, (method, _) in enumerate(CASES):
        clean = said(rank, number, gather, faulty=False)
        if method == "eager_diloco":
            with another_mean(rank):
                found.append((clean, said(rank, number, gather, faulty=False)))
        else:
            found.append((clean, said(rank, number, gather, faulty=True)))
    (out / f"{rank}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Of each rank, by case: what a clean and what a faulty run ended with."""
    out = tmp_path_factory.mktemp("out")
    together(WORKERS, process, out)
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(WORKERS)]


def test_every_method_is_among_the_cases_and_has_declared_what_it_keeps_equal() -> None:
    assert {method for method, _ in CASES} == set(METHODS)
    for number, (method, _) in enumerate(CASES):
        assert kept_equal(METHODS[method], arguments_of(number)) is not None


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: f"{CASES[n][0]}-{n}")
def test_equal_replicas_pass_and_the_odd_one_is_named(ran: list[Any], number: int) -> None:
    (clean, faulty), *others = [own[number] for own in ran]
    assert isinstance(clean, int), clean
    assert clean >= ROUNDS
    assert all(other == [clean, faulty] for other in others)  # all ranks end alike
    assert isinstance(faulty, str), f"the fault was not found in {faulty} comparisons"
    assert faulty.startswith(f"--check-replicas: rank {ODD} differs from the others at ")
    method = CASES[number][0]
    equal = kept_equal(METHODS[method], arguments_of(number))
    if equal == "parameters":
        assert f"at the start of round {WRONG_ROUND}: parameter {PLACE} (layer 1)" in faulty
    elif equal == "outer parameters":
        assert f": outer parameter {PLACE} (layer 1)" in faulty
        assert "at outer_step " in faulty
        assert "found at the " in faulty
    else:
        assert "all_reduce, call 2 of group main: delta " in faulty


@keeps_equal("received")
def declared(worker: Worker) -> Program:
    yield from ()


def undeclared(worker: Worker) -> Program:
    yield from ()


def test_a_method_of_the_users_is_checked_once_it_says_what_it_keeps_equal() -> None:
    assert declared_equal(Method("mine:declared", declared, {})) == "received"
    with pytest.raises(ScenarioError) as refused:
        declared_equal(Method("mine:undeclared", undeclared, {}))
    line = str(refused.value)
    assert line.startswith("--check-replicas: mine:undeclared does not declare ")
    assert '@keeps_equal("parameters")' in line
    assert "from sim.program import keeps_equal" in line


def checked(*changed: Any) -> str:
    """What rank 0 says where the others' parameters are its own but for these changes."""
    given: list[dict[str, bytes]] = []

    def noted(fresh: dict[str, bytes]) -> list[dict[str, bytes]]:
        given.append(fresh)
        return [fresh]

    for changes in changed:
        other = replica(0)
        for number in changes:
            other.theta[other.named_slices[number].part] += 1.0
        ReplicaCheck("parameters", other, 1, noted).start_round(5)
    check = ReplicaCheck("parameters", replica(0), 1 + len(given), lambda fresh: [fresh, *given])
    with pytest.raises(AgreedError) as error:
        check.start_round(5)
    return str(error.value)


def test_of_two_that_differ_both_are_named() -> None:
    name, layer, _ = replica(0).named_slices[3]
    assert checked([3]) == (
        "--check-replicas: ranks 0 and 1 differ from each other at the start of round 5: "
        f"parameter {name} (layer {layer})"
    )


def test_all_that_differ_from_most_are_named() -> None:
    assert checked([3, 4], [], [5], []).startswith(
        "--check-replicas: ranks 1 and 3 differ from the others at the start of round 5: parameter "
    )
    assert checked([3, 4], [], [5], []).endswith(" and 2 more")


def test_steps_before_a_checkpoint_count_where_a_run_is_resumed() -> None:
    given: list[str] = []

    def noted(fresh: dict[str, bytes]) -> list[dict[str, bytes]]:
        given.extend(fresh)
        return [fresh]

    check = ReplicaCheck("outer parameters", replica(0), 1, noted)
    check.computed("outer_step", range(0, 4, 2), skipped=True)
    check.computed("outer_step", range(1, 4, 2))
    check.computed("outer_step", range(0, 4, 2))
    check.computed("inner_step", None)
    check.start_round(3)
    assert given == ["outer_step 0 of layers 1:4:2", "outer_step 1 of layers 0:4:2"]


def received(values: float, group: str) -> dict[str, bytes]:
    """Return what a rank tells others of an all-reduce that left these values."""
    told: list[dict[str, bytes]] = []
    check = ReplicaCheck("received", replica(0), 4, lambda own: [told.append(own) or {}] * 4)
    collective = Collective("all_reduce", lambda: None, lambda: True, lambda: None)
    buffer = Flat("delta", "0:2", torch.full((3,), values))
    check.watch(collective, "all_reduce", buffer, group, 7)
    collective.place()
    check._compare("the end")
    return told[0]


def test_what_members_of_a_group_receive_is_compared_between_them() -> None:
    """Also by those who are no members: all must end together."""
    pairs = {0: "main[0,3]", 3: "main[0,3]", 1: "main[1,2]", 2: "main[1,2]"}
    told = {rank: received(float(rank % 3), group) for rank, group in pairs.items()}
    for rank in pairs:
        check = ReplicaCheck(
            "received", replica(0), 4, lambda own: [told[rank] for rank in range(4)]
        )
        with pytest.raises(AgreedError) as error:
            check.start_round(1)
        assert str(error.value) == (
            "--check-replicas: ranks 1 and 2 differ from each other at all_reduce of delta 0:2, "
            "call 7 of group main[1,2]; found at the start of round 1"
        )
        assert check.compared == 1


def test_a_worker_that_took_fewer_steps_is_named() -> None:
    check = ReplicaCheck("outer parameters", replica(0), 2, lambda own: [own, {}])
    check.computed("outer_step", range(1, 3))
    with pytest.raises(AgreedError) as error:
        check.end()
    assert str(error.value) == "--check-replicas: rank 1 never came to outer_step 0 of layers 1:3"
