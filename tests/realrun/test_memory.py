"""What a run's state takes in memory is known before the model is built."""

from __future__ import annotations

import gc
import json
from itertools import pairwise, repeat
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from support.processes import together  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from realrun.model import memory  # noqa: E402
from realrun.model.memory import check_memory, state_bytes  # noqa: E402
from realrun.model.replica import TorchModel  # noqa: E402
from realrun.model.stages import ModelError  # noqa: E402
from realrun.runtime.shared import Limits, Shared  # noqa: E402
from realrun.runtime.worker import TorchWorker  # noqa: E402
from sim.processes import free_memory  # noqa: E402
from sim.scenario import Scenario, load  # noqa: E402

WIDTHS = (6, 3, 5, 5, 2)
LAYERS = [b * (a + 1) for a, b in pairwise(WIDTHS)]
METHODS = [
    ("ddp", {}),
    ("ddp", {"overlap": "layer"}),
    ("ddp", {"zero1": True, "bucket_bytes": 100}),
    ("local_sgd", {"sync_every": 2}),
    ("diloco", {"sync_every": 2}),
    ("diloco", {"sync_every": 2, "overlap": "layer"}),
    ("streaming_diloco", {"sync_every": 4, "num_fragments": 2, "fragment_sync_delay": 2}),
    ("streaming_diloco", {"sync_every": 4, "num_fragments": 2, "fragment_sync_delay": [0, 9]}),
    ("streaming_diloco", {"sync_every": 4, "overlap": "layer", "outer_momentum": 0.0}),
    ("delayed_diloco", {"sync_every": 2, "outer_sync_delay": 2, "num_fragments": 2}),
    ("eager_diloco", {"sync_every": 2}),
    ("acco", {}),
    ("dpu", {}),
    ("wp", {}),
]
WORKERS = 2


def scenario(method: str, arguments: dict[str, Any], rounds: int = 6) -> Scenario:
    wire = {} if method == "local_sgd" else {"comm_dtype": "bf16"}
    given = {"name": method, **wire, **arguments}
    settings = [f"method.{key}={json.dumps(value)}" for key, value in given.items()]
    sizes = f"model.layer_parameters={LAYERS}"
    return load(None, {"--step-time": "1s"}, [*settings, sizes, f"run.rounds={rounds}"])


def held(model: TorchModel) -> dict[int, int]:
    """Return address and bytes of all tensors that can be reached from a model, however."""
    seen: dict[int, Any] = {}
    found: dict[int, int] = {}
    waiting: list[Any] = [model]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type | ModuleType | FunctionType):
            continue
        seen[id(thing)] = thing
        waiting += gc.get_referents(thing)
        if isinstance(thing, Tensor):
            part = thing.untyped_storage()
            found[part.data_ptr()] = part.nbytes()
            waiting += [thing.grad] if thing.is_leaf else []
    return found


def worker(rank: int, out: Path) -> None:
    batch = (torch.randn(4, WIDTHS[0]), torch.randn(4, WIDTHS[-1]))
    occupied = []
    for method, arguments in METHODS:
        asked = scenario(method, arguments)
        layers = [nn.Linear(a, b) for a, b in pairwise(WIDTHS)]
        model = TorchModel(
            layers,
            lambda outputs, targets: (outputs - targets).square().mean(),
            repeat(batch),
            [list(layer.parameters()) for layer in layers],
            rank=rank,
            workers=WORKERS,
        )
        shared = Shared(rank, WORKERS, model, Limits(rounds=6))
        program = TorchWorker(shared)
        program.drive(asked.method.program(program, **asked.method.arguments))
        shared.close()
        # Data, and the record of losses, which grows with the run.
        apart = {tensor.data_ptr() for tensor in (*batch, *model._losses.pages)}
        occupied.append(sum(size for at, size in held(model).items() if at not in apart))
    (out / f"{rank}.json").write_text(json.dumps(occupied))


@pytest.fixture(scope="module")
def occupied(tmp_path_factory: pytest.TempPathFactory) -> list[list[int]]:
    """For each rank, what two processes really hold after each of the methods."""
    out = tmp_path_factory.mktemp("occupied")
    together(WORKERS, worker, out)
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(WORKERS)]


@pytest.mark.parametrize("number", range(len(METHODS)), ids=lambda n: f"{METHODS[n][0]}-{n}")
def test_the_estimate_is_what_two_processes_hold(occupied: list[list[int]], number: int) -> None:
    asked = scenario(*METHODS[number])
    for rank in range(WORKERS):
        on_device, on_host = state_bytes(asked, rank)
        assert sum(on_device.values()) == occupied[rank][number]
        assert not on_host


def test_a_short_run_holds_less() -> None:
    """Four rounds of delay, of which a run of one round fills one slot."""
    late = {"sync_every": 2, "outer_sync_delay": 4}
    short, whole = (
        state_bytes(scenario("delayed_diloco", late, rounds), 0)[0]["outer gradients"]
        for rounds in (1, 50)
    )
    assert whole == 5 * short


def test_outer_state_on_the_host_leaves_a_room_for_its_largest_fragment() -> None:
    streaming = {"sync_every": 4, "num_fragments": 2, "fragment_sync_delay": 2}
    asked = scenario("streaming_diloco", streaming)
    everything, _ = state_bytes(asked, 0)
    on_device, on_host = state_bytes(asked, 0, outer_on_host=True)
    outer = 4 * sum(LAYERS)
    assert on_host == {"outer parameters": outer, "outer optimizer": outer}
    largest = 4 * max(sum(LAYERS[0::2]), sum(LAYERS[1::2]))
    assert on_device.pop("room for outer state") == 2 * largest  # with its momentum
    assert on_device == {name: n for name, n in everything.items() if name not in on_host}


def test_what_is_on_the_host_must_fit_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, card = scenario("diloco", {"sync_every": 2}), torch.device("cuda", 0)
    on_device, on_host = (sum(p.values()) for p in state_bytes(asked, 0, outer_on_host=True))
    free = {card: on_device, None: 2 * on_host}
    monkeypatch.setattr(memory, "free_bytes", lambda device: free[device])

    def check(workers: int) -> None:
        check_memory(
            asked,
            rank=0,
            workers_here=1,
            device=card,
            outer_on_host=True,
            workers_on_host=workers,
        )

    check(2)
    with pytest.raises(ModelError, match=r"\(outer parameters .* for 3 workers on this machine"):
        check(3)


def test_memory_is_shared_by_the_workers_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = scenario("ddp", {})
    total = sum(state_bytes(asked, 0)[0].values())
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2 * total)
    check_memory(asked, rank=0, workers_here=2)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2 * total - 1)
    with pytest.raises(ModelError):
        check_memory(asked, rank=0, workers_here=2)


def test_what_does_not_fit_is_refused_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 23e9)
    asked = load(None, {"--model": "100B", "--method": "diloco"}, ["model.layers=10"])
    with pytest.raises(ModelError) as error:
        check_memory(asked, rank=1, workers_here=2)
    text = str(error.value)
    assert text.startswith("model: does not fit: rank 1 needs ")
    assert "(parameters 400 GB, gradients 400 GB, " in text
    assert text.endswith("and 23 GB are free for 2 workers on this machine")
    assert "\n" not in text


def test_a_containers_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(free_memory, "CONTAINER_LIMITS", (limit,))
    limit.write_text("max\n")
    assert 1 << 20 < memory.free_bytes() < float("inf")
    limit.write_text(f"{1 << 20}\n")
    assert memory.free_bytes() == 1 << 20
