"""Workers begin as one, are compared to the bit, and one that differs is named."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402
from support.plain_scenario import plain  # noqa: E402
from support.processes import together  # noqa: E402
from support.toy_modules import INNER, batches, loss, train  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from realrun.checks.replicas import (  # noqa: E402
    buffers,
    check_equal,
    compared,
    differing,
    digests,
    make_equal,
    merge_buffers,
    parameters,
)
from realrun.errors import AgreedError, RunError  # noqa: E402
from realrun.model import (  # noqa: E402
    module_state,
    randomness,
)
from realrun.model.replica import TorchModel  # noqa: E402
from realrun.model.stages import ModelError, layer_parameters, stages_of  # noqa: E402
from realrun.processes.rendezvous import World  # noqa: E402
from realrun.state.saved import check_can_be_saved  # noqa: E402
from sim.methods import METHODS  # noqa: E402
from sim.program import kept_equal  # noqa: E402
from sim.runtime import simulate  # noqa: E402
from sim.runtime.driver import Driver  # noqa: E402

WORKERS = 3
CPU = torch.device("cpu")


# -- processes -------------------------------------------------------------------------------
def unlike(rank: int) -> nn.Module:
    """A module of which every rank has other parameters and buffers, of many types."""
    torch.manual_seed(rank)
    module = nn.Module()
    module.weight = nn.Parameter(torch.randn(5, 3))
    module.turned = nn.Parameter(torch.randn(4, 2).t())  # not contiguous
    module.frozen = nn.Parameter(torch.randn(3).bfloat16(), requires_grad=False)
    module.same = nn.Parameter(torch.ones(2))
    module.register_buffer("mean", torch.tensor(float(rank)))
    module.register_buffer("wave", torch.tensor([complex(rank, 1)]))
    module.register_buffer("short", torch.full((2,), rank, dtype=torch.float16), persistent=False)
    module.register_buffer("count", torch.tensor(10 + rank))
    module.register_buffer("mask", torch.tensor([True, rank == 0]))
    module.register_buffer("infinite", torch.tensor([float("-inf"), 1 / 3]))
    module.register_buffer("history", torch.arange(1 + rank).float())  # of another length
    module.register_buffer("none", None)
    return module


def refused(function: Callable[..., Any], *arguments: Any) -> str:
    try:
        function(*arguments)
    except AgreedError as error:
        return str(error)
    return ""


def process(rank: int, out: Path) -> None:
    world = World(rank, WORKERS, rank, WORKERS, dist.new_group(backend="gloo"))
    found: dict[str, Any] = {}
    module = unlike(rank)
    found["another shape"] = refused(make_equal, buffers(module), world)
    merged = merge_buffers(buffers(module), world)
    found["averaged"], found["from first"] = merged.averaged, merged.from_first
    found["means"] = [float(module.mean), module.wave.tolist() == [1 + 1j], module.short.tolist()]
    found["counts"] = [int(module.count), module.mask.tolist(), module.infinite.tolist()]

    module = unlike(rank)
    module.history = torch.arange(3).float()
    everything = parameters(module) | buffers(module)
    make_equal(everything, world)
    first = digests(parameters(unlike(0)) | buffers(unlike(0)))
    found["equal"] = differing([first, digests(parameters(module) | buffers(module))])
    found["compared"] = compared(everything, world)

    # As if something had gone wrong after rank 0's values were written.
    if rank == 2:
        with torch.no_grad():
            module.frozen[1] += 1
            module.wave += 1
    found["named"] = refused(check_equal, everything, world, "when training begins")
    ordered = dict(reversed(everything.items())) if rank == 1 else everything
    found["another order"] = refused(make_equal, ordered, world)
    (out / f"{rank}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    out = tmp_path_factory.mktemp("replicas")
    together(WORKERS, process, out)
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(WORKERS)]


def test_all_ranks_take_rank_0s_tensors_of_every_type(found: Any) -> None:
    # Other lengths than in rank 0's own buffer were given up first.
    assert [own["equal"] for own in found] == [[[1, "history"]]] * WORKERS
    assert [own["compared"] for own in found] == [[]] * WORKERS


def test_a_rank_that_differs_is_named_with_its_first_tensor_on_every_rank(found: Any) -> None:
    expected = "rank 2: frozen differs from rank 0's when training begins"
    assert [own["named"] for own in found] == [expected] * WORKERS


def test_a_model_of_another_shape_or_order_is_refused_on_every_rank(found: Any) -> None:
    shape = (
        "rank 1: history is torch.float32 (2,), on rank 0 torch.float32 (1,); the model must be "
        "the same on every worker"
    )
    assert [own["another shape"] for own in found] == [shape] * WORKERS
    order = "rank 1: the model's parameters come in another order than on rank 0"
    assert [own["another order"].startswith(order) for own in found] == [True] * WORKERS


def test_floating_point_buffers_that_differ_are_averaged_and_others_are_rank_0s(found: Any) -> None:
    for rank, own in enumerate(found):
        assert own["averaged"] == ["mean", "short", "wave"]
        assert own["from first"] == ["count", "history", "mask"]
        assert own["means"] == [1.0, True, [1.0, 1.0]]
        # What is equal keeps its bits: a mean of three thirds might not.
        third = float(torch.tensor(1 / 3))
        assert own["counts"] == [10 + rank, [True, rank == 0], [float("-inf"), third]]


# -- methods ---------------------------------------------------------------------------------
CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in METHODS),
    ("ddp", {"overlap": "layer"}),
    ("ddp", {"zero1": True}),
    ("ddp", {"comm_dtype": "int8"}),
    ("diloco", {"overlap": "layer", "sync_every": 2}),
    ("diloco", {"comm_dtype": "fp4", "sync_every": 2}),
]


@pytest.mark.parametrize(("method", "arguments"), CASES)
def test_replicas_are_compared_where_a_round_leaves_them_equal_and_nowhere_else(
    method: str, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "sync_every" in METHODS[method].__annotations__:
        arguments = {"sync_every": 4, **arguments}
    begun: dict[int, list[Tensor]] = {}
    next_round = Driver.next_round

    def noted(self: Any, steps: int | None = None) -> bool:
        begun.setdefault(self._round, []).append(self.model.theta.clone())
        return next_round(self, steps)

    monkeypatch.setattr(Driver, "next_round", noted)
    train(method, 4, **arguments)
    assert len(begun) == 5
    equal = [torch.equal(one, other) for one, other in begun.values()]
    assert equal[0]
    assert all(equal) == (kept_equal(METHODS[method], arguments) == "parameters")


# -- tied weights, and what is no parameter ----------------------------------------------------
def tied_stages() -> list[nn.Module]:
    """Three stages; the last one's matrix is the first one's, and the middle one's bias its own."""
    torch.manual_seed(3)
    first, middle, last = nn.Linear(6, 4), nn.Linear(4, 6), nn.Linear(6, 4)
    last.weight = first.weight
    return [first, nn.Sequential(nn.Tanh(), middle), last]


def tied(rank: int, workers: int) -> TorchModel:
    made = stages_of(tied_stages())
    return TorchModel(
        made, loss, batches(rank), layer_parameters(made), rank=rank, workers=workers, inner=INNER
    )


@pytest.mark.parametrize("overlap", ["none", "bucket", "layer"])
def test_weights_tied_across_stages_are_one_parameter_with_the_whole_gradient(overlap: str) -> None:
    """Plain torch is the reference: one model, the mean of both workers' gradients."""
    models = {rank: tied(rank, 2) for rank in range(2)}
    sizes = [sum(p.numel() for p in layer) for layer in layer_parameters(tied_stages())]
    assert sizes == [28, 30, 4]
    asked = plain("ddp", {"overlap": overlap, "comm_dtype": "fp32"}, layers=sizes)
    simulate(asked, rounds=8, models=models)
    whole = nn.Sequential(*tied_stages())
    optimizer = torch.optim.AdamW(
        whole.parameters(), betas=INNER.betas, weight_decay=INNER.weight_decay
    )
    data = [batches(rank) for rank in range(2)]
    for step in range(8):
        optimizer.zero_grad()
        for each in data:
            inputs, targets = next(each)
            (loss(whole(inputs), targets) / 2).backward()
        optimizer.param_groups[0]["lr"] = INNER.rate(step)
        optimizer.step()
    expected = torch.cat([p.detach().reshape(-1) for p in whole.parameters()])
    torch.testing.assert_close(models[0].theta, expected, rtol=1e-4, atol=1e-6)
    ends = models[0].module.state_dict()
    assert torch.equal(ends["0.weight"], ends["2.weight"])


def test_two_parameters_in_the_same_memory_are_refused_since_training_would_part_them() -> None:
    one, two = nn.Linear(3, 3), nn.Linear(3, 3)
    two.weight.data = one.weight.data.t()
    with pytest.raises(ModelError, match=r"^0\.weight and 1\.weight are two tensors with the same"):
        stages_of([one, two])
    three = nn.Linear(3, 3)
    three.register_buffer("kept", three.weight.detach())
    with pytest.raises(ModelError, match=r"^weight and kept are two tensors with the same memory"):
        stages_of(three)


def test_a_stage_whose_parameters_are_all_frozen_is_refused_with_the_way_out() -> None:
    frozen = nn.Linear(3, 3).requires_grad_(False)
    with pytest.raises(ModelError) as error:
        stages_of([nn.Linear(3, 3), frozen])
    assert str(error.value) == (
        "stage 1 (Linear) has no parameters of its own to train (all 12 that it has are frozen); "
        "make it part of the stage before or after it"
    )


class Counting(nn.Module):
    """Has a buffer that is made late, one of changing length, one that repeats, and extra state."""

    def __init__(self, shared: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("shared", shared)
        self.register_buffer("late", None)
        self.register_buffer("history", torch.zeros(0), persistent=False)
        self.register_buffer("repeated", torch.ones(1).expand(3))
        self.extra: Any = {"seen": 0}

    def get_extra_state(self) -> Any:
        return self.extra

    def set_extra_state(self, state: Any) -> None:
        self.extra = state


def counting() -> list[nn.Module]:
    shared = torch.zeros(2)
    made: list[nn.Module] = [Counting(shared), Counting(shared)]
    module_state.move(nn.ModuleList(made), torch.device("cpu"))
    return made


def test_a_checkpoint_has_buffers_shared_grown_and_made_late_and_extra_state() -> None:
    one, two = counting()
    one.shared += 5
    one.late = torch.tensor([7])
    one.history = torch.arange(4.0)
    one.repeated[1] = 9
    two.extra = {"seen": 3, "of": torch.ones(1)}
    kept = module_state.state([one, two], with_frozen=True)
    addresses = [tensor.untyped_storage().data_ptr() for tensor in kept.values()]
    assert len(set(addresses)) == len(addresses)  # or a file of tensors could not hold them
    first, second = counting()
    module_state.restore([first, second], kept)
    assert first.shared is second.shared
    assert first.shared.tolist() == [5, 5]
    assert first.late.tolist() == [7]
    assert first.history.tolist() == [0, 1, 2, 3]
    assert first.repeated.tolist() == [1, 9, 1]
    assert (first.extra, second.extra) == ({"seen": 0}, two.extra)


def test_buffers_that_were_shared_and_no_longer_are_keep_their_own_values() -> None:
    one, two = counting()
    two.shared = torch.ones(2)
    first, second = counting()
    module_state.restore([first, second], module_state.state([one, two], with_frozen=True))
    assert (first.shared.tolist(), second.shared.tolist()) == ([0, 0], [1, 1])


def test_a_module_that_has_changed_since_a_checkpoint_is_one_line() -> None:
    kept = module_state.state(counting(), with_frozen=True)
    changed = counting()
    changed[1].register_buffer("new", torch.zeros(1))
    with pytest.raises(RunError, match="has no module/1/new; the module has changed since"):
        module_state.restore(changed, kept)
    del kept["module/1/shared"]
    kept["module/1/old"] = torch.zeros(1)
    with pytest.raises(RunError, match=r"checkpoint.* module/1/(shared|old)"):
        module_state.restore(counting(), kept)


def test_extra_state_that_no_file_can_hold_is_refused_before_training() -> None:
    module = counting()[0]
    module_state.check_extra_state(module)
    with pytest.raises(ModelError, match=r"^_extra_state of the model is a dict, and a"):
        check_can_be_saved(module)
    module.extra = torch.ones(1)
    check_can_be_saved(module)
    module.extra = World
    with pytest.raises(ModelError, match=r"^the extra state \(get_extra_state\) of the model"):
        module_state.check_extra_state(module)


@pytest.mark.parametrize("drawn", [0, 1])  # the second of a pair of normal numbers is kept
def test_random_numbers_of_torch_python_and_numpy_continue_where_they_were(drawn: int) -> None:
    def draw() -> tuple[float, ...]:
        normal, other = random.gauss(0, 1), float(np.random.standard_normal())
        return normal, other, random.random(), float(np.random.random()), float(torch.rand(1))

    with randomness.seeded(5):
        expected = draw()
    before = randomness.state(CPU)
    with randomness.seeded(5):
        assert draw() == expected
        for _ in range(drawn):
            draw()
        kept = randomness.state(CPU)
        following = draw()
        randomness.restore(kept, CPU)
        assert draw() == following
    after = randomness.state(CPU)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
