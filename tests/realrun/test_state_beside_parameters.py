"""Models as people bring them: trained, saved, loaded by plain torch, started again, resumed.

BatchNorm, tied weights, random numbers from numpy, a frozen base with adapters, dropout. All in one
launch of two processes, by the function that the command line calls.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402
from safetensors.torch import load_file, save_file, save_model  # noqa: E402
from support.processes import together  # noqa: E402
from torch import nn  # noqa: E402

from realrun.data.batches import open_data  # noqa: E402
from realrun.errors import AgreedError  # noqa: E402
from realrun.model.gpt import GPT, GPTConfig  # noqa: E402
from realrun.model.gpt import loss as cross_entropy  # noqa: E402
from realrun.model.stages import ModelError, stages_of, whole_of  # noqa: E402
from realrun.processes.placement import Place  # noqa: E402
from realrun.processes.rendezvous import World  # noqa: E402
from realrun.state import (  # noqa: E402
    saved,
    tensor_files,
)
from realrun.state.saved import begin_from  # noqa: E402
from realrun.training import Asked, opened  # noqa: E402
from sim.scenario import Allowed, loaded  # noqa: E402
from sim.scenario.schema import DataSection  # noqa: E402

VOCABULARY, CONTEXT, WIDTH, RANK = 16, 24, 24, 2
WORKERS, STEPS, HALF = 2, 12, 6

MODULES = f"""\
import numpy as np
import torch
from torch import nn

class BatchNorm(nn.Module):
    '''Far from the mean of 0 and the variance of 1 with which running statistics begin.'''
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding({VOCABULARY}, {WIDTH})
        self.norm = nn.BatchNorm1d({WIDTH}, momentum=0.3)
        self.head = nn.Linear({WIDTH}, {VOCABULARY})
        with torch.no_grad():
            self.embedding.weight.mul_(3).add_(4)
            self.head.weight.mul_(5)

    def forward(self, tokens):
        return self.head(self.norm(self.embedding(tokens).transpose(1, 2)).transpose(1, 2))

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding({VOCABULARY}, {WIDTH})
        self.hidden = nn.Linear({WIDTH}, {WIDTH})
        self.head = nn.Linear({WIDTH}, {VOCABULARY}, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(torch.tanh(self.hidden(self.embedding(tokens))))

class FromNumpy(nn.Module):
    '''Other numbers in every process, and in every run.'''
    def __init__(self):
        super().__init__()
        drawn = np.random.default_rng().standard_normal(({VOCABULARY}, {VOCABULARY}))
        self.table = nn.Parameter(torch.from_numpy(drawn.astype(np.float32)))

    def forward(self, tokens):
        return self.table[tokens]

class Adapted(nn.Module):
    '''A frozen matrix and an adapter of rank {RANK} that is trained; from no seed either.'''
    def __init__(self, base, inputs, outputs):
        super().__init__()
        self.base = base
        for parameter in base.parameters():
            parameter.requires_grad_(False)
            drawn = np.random.default_rng().standard_normal(parameter.shape) / 5
            parameter.copy_(torch.from_numpy(drawn))
        drawn = np.random.default_rng().standard_normal(({RANK}, inputs)) / 5
        self.down = nn.Parameter(torch.from_numpy(drawn.astype(np.float32)))
        self.up = nn.Parameter(torch.zeros(outputs, {RANK}))

class AdaptedEmbedding(Adapted):
    def forward(self, tokens):
        return self.base(tokens) + (self.up @ self.down)[tokens]

class AdaptedLinear(Adapted):
    def forward(self, x):
        return self.base(x) + x @ (self.up @ self.down).T

def adapters():
    return [
        AdaptedEmbedding(nn.Embedding({VOCABULARY}, {WIDTH}), {WIDTH}, {VOCABULARY}),
        AdaptedLinear(nn.Linear({WIDTH}, {VOCABULARY}), {WIDTH}, {VOCABULARY}),
    ]

def dropout():
    return nn.Sequential(
        nn.Embedding({VOCABULARY}, {WIDTH}), nn.Dropout(0.3), nn.Linear({WIDTH}, {VOCABULARY})
    )
"""

SCENARIO = """\
[run]
steps = {steps}
[model]
module = "strange_modules:{function}"
layer_parameters = {counts}
vocabulary = {vocabulary}
context = {context}
param_dtype = "fp32"
[method]
{method}
comm_dtype = "fp32"
[[site]]
count = 2
step_time = "10 ms"
batch_tokens = {tokens}
[train]
learning_rate = {learning_rate}
[data]
kind = "tokens"
path = "tokens.bin"
"""

TABLE, HEAD = VOCABULARY * WIDTH, VOCABULARY * (WIDTH + 1)
ADAPTER = RANK * (WIDTH + VOCABULARY)
# Function, parameters of its stages, method.
MODELS: dict[str, tuple[list[int], str]] = {
    "BatchNorm": ([TABLE + 2 * WIDTH + HEAD], 'name = "ddp"'),
    "Tied": ([TABLE + WIDTH * (WIDTH + 1)], 'name = "ddp"\noverlap = "layer"'),
    "FromNumpy": ([VOCABULARY**2], 'name = "ddp"'),
    "adapters": ([ADAPTER, ADAPTER], 'name = "diloco"\nsync_every = 2'),
    "dropout": ([TABLE + HEAD], 'name = "ddp"'),
}
# A step at a learning rate of 1e-12 moves a parameter by less than its last bit, but a running
# statistic by a tenth of its distance from the batch's own.
SAME_AFTER_A_STEP = dict.fromkeys(MODELS, 1e-05) | {"BatchNorm": 0.02}


def write(folder: Path, function: str, *, steps: int = STEPS, rate: float = 0.02) -> Path:
    counts, method = MODELS[function]
    path = folder / f"{function}-{rate}.toml"
    path.write_text(
        SCENARIO.format(
            steps=steps,
            function=function,
            counts=counts,
            vocabulary=VOCABULARY,
            context=CONTEXT,
            method=method,
            tokens=8 * CONTEXT,
            learning_rate=rate,
        )
    )
    return path


def prepared(folder: Path) -> None:
    """Write the modules, and tokens of which each says much about the next."""
    random = np.random.default_rng(0)
    tokens = [0]
    for noise in random.random(30_000):
        tokens.append((5 * tokens[-1] + 3 + (noise < 0.2)) % VOCABULARY)
    np.array(tokens, dtype=np.uint16).tofile(folder / "tokens.bin")
    (folder / "strange_modules.py").write_text(MODULES)


# -- in the processes ----------------------------------------------------------------------
def train(place: Place, path: Path, **asked: Any) -> dict[str, Any]:
    """One run, as ``realrun train`` makes it; what is known of it on this rank."""
    run = opened(
        place,
        Asked(checkpoint_every=HALF // (2 if "adapters" in path.name else 1), **asked),
        loaded(Allowed(path)),
    )
    outcome = run.train()
    if outcome is not None and outcome.module is not None:
        saved.save(outcome.module, asked["save"])
    return {
        "held_out": None if outcome is None else outcome.validation_loss,
        "merged": None if outcome is None else list(outcome.merged.averaged),
        "from_first": None if outcome is None else list(outcome.merged.from_first),
        "first_round": None if outcome is None else outcome.first_round,
        "collectives": sum(row.operation == "broadcast" for row in run.shared.rows),
        "losses": run.model.losses,
        "theta": run.model.theta.tolist(),
        "drawn": torch.rand(4).tolist(),
    }


def process(rank: int, folder: Path) -> None:
    world = World(rank, WORKERS, rank, WORKERS, dist.new_group(backend="gloo"))
    place = Place(world, torch.device("cpu"), "gloo")
    found = {}
    for name in MODELS:
        path, kept = write(folder / str(rank), name), folder / f"{name}-checkpoints"
        whole = folder / f"{name}.safetensors"
        again = folder / f"{name}-from-the-middle.safetensors"
        runs = found[name] = {
            "whole": train(place, path, checkpoints=kept, save=whole),
            "resumed": train(place, path, checkpoints=kept),
        }
        last = max(path.name for path in kept.glob(f"round-*.rank-{rank:05d}.safetensors"))
        (kept / last).unlink()
        dist.barrier()
        runs["from the middle"] = train(place, path, checkpoints=kept, save=again)
        barely = write(folder / str(rank), name, steps=1, rate=1e-12)
        runs["started"] = train(place, barely, start=whole)
    path, kept = write(folder / str(rank), "FromNumpy"), folder / "FromNumpy-checkpoints"
    if rank == 1:
        damage(max(kept.glob("round-*.rank-00001.safetensors")))
    try:
        train(place, path, checkpoints=kept)
    except AgreedError as error:
        found["damaged"] = {"said": str(error)}
    (folder / f"{rank}.json").write_text(json.dumps(found))


def damage(path: Path) -> None:
    """Change one parameter of a checkpoint by its last bit, as a training that went wrong does."""
    tensors, texts, _ = tensor_files.read(path)
    tensors["theta"].view(torch.int32)[5] ^= 1
    tensor_files.write(path, tensors, texts)


# -- in the tests --------------------------------------------------------------------------
@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("strange")
    prepared(made)
    sys.path.insert(0, str(made))
    yield made
    sys.path.remove(str(made))
    sys.modules.pop("strange_modules", None)


@pytest.fixture(scope="module")
def trained(folder: Path) -> list[dict[str, Any]]:
    """What each rank knows of each run, by model and run."""
    for rank in range(WORKERS):
        (folder / str(rank)).mkdir()
        prepared(folder / str(rank))
    together(WORKERS, process, folder)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(WORKERS)]


def made(name: str) -> nn.Module:
    """What a stranger makes of the function, with new random numbers."""
    return whole_of(getattr(import_module("strange_modules"), name)())


def held_out(module: nn.Module, folder: Path) -> float:
    """Plain torch, on the batches that no worker trains on."""
    data = open_data(
        DataSection(kind="tokens", path="tokens.bin"),
        vocabulary=VOCABULARY,
        context=CONTEXT,
        workers=WORKERS,
        folder=folder,
    )
    stages = stages_of(module)
    module.eval()
    found = []
    with torch.no_grad():
        for inputs, targets in data.validation(8, 64):
            outputs = inputs
            for stage in stages:
                outputs = stage(outputs)
            found.append(float(cross_entropy(outputs, targets)))
    return sum(found) / len(found)


@pytest.mark.parametrize("name", MODELS)
def test_every_one_of_them_learns(trained: Any, name: str) -> None:
    losses = trained[0][name]["whole"]["losses"]
    assert sum(losses[-3:]) < sum(losses[:3]) - 0.1


@pytest.mark.parametrize("name", MODELS)
def test_plain_torch_loads_what_was_saved_and_finds_the_same_loss(
    trained: Any, folder: Path, name: str
) -> None:
    module = made(name)
    file = load_file(folder / f"{name}.safetensors")
    module.load_state_dict(file, strict=True)
    reported = trained[0][name]["whole"]["held_out"]
    # Another number of threads adds up in another order.
    assert held_out(module, folder) == pytest.approx(reported, rel=1e-5)
    assert all(torch.equal(file[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize("name", MODELS)
def test_a_run_that_is_resumed_at_its_end_reports_the_same_loss(trained: Any, name: str) -> None:
    runs = trained[0][name]
    assert runs["resumed"]["first_round"] == STEPS // (2 if name == "adapters" else 1)
    assert runs["resumed"]["held_out"] == runs["whole"]["held_out"]


@pytest.mark.parametrize("name", MODELS)
def test_a_run_that_is_resumed_in_the_middle_ends_with_the_same_bits(
    trained: Any, folder: Path, name: str
) -> None:
    for rank in range(WORKERS):
        whole, resumed = (trained[rank][name][run] for run in ("whole", "from the middle"))
        for what in ("losses", "theta", "drawn", "held_out", "merged"):
            assert resumed[what] == whole[what], what
    assert trained[0][name]["from the middle"]["first_round"] == HALF // (
        2 if name == "adapters" else 1
    )
    one, other = (
        load_file(folder / f"{name}{end}.safetensors") for end in ("", "-from-the-middle")
    )
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


@pytest.mark.parametrize("name", MODELS)
def test_a_run_that_starts_from_the_file_begins_where_the_other_ended(
    trained: Any, name: str
) -> None:
    runs = trained[0][name]
    expected = pytest.approx(runs["whole"]["held_out"], abs=SAME_AFTER_A_STEP[name])
    assert runs["started"]["held_out"] == expected
    assert runs["started"]["first_round"] == 0


def test_without_its_running_statistics_the_loss_of_batch_norm_is_another(
    trained: Any, folder: Path
) -> None:
    """Or the tests above could not fail."""
    module = made("BatchNorm")
    parameters = dict(module.named_parameters())
    for key, tensor in load_file(folder / "BatchNorm.safetensors").items():
        if key in parameters:
            parameters[key].data.copy_(tensor)
    assert held_out(module, folder) > trained[0]["BatchNorm"]["whole"]["held_out"] + 0.5


def test_running_statistics_of_the_workers_are_averaged_and_counts_are_rank_0s(
    trained: Any, folder: Path
) -> None:
    whole = trained[0]["BatchNorm"]["whole"]
    assert whole["merged"] == ["norm.running_mean", "norm.running_var"]
    assert whole["from_first"] == []  # every worker has counted as many batches
    own = []
    for rank in range(WORKERS):
        name = f"round-{STEPS:08d}.rank-{rank:05d}.safetensors"
        kept = load_file(folder / "BatchNorm-checkpoints" / name)
        own.append(kept["module/0/norm.running_mean"])
    assert not torch.equal(*own)
    saved = load_file(folder / "BatchNorm.safetensors")
    torch.testing.assert_close(saved["norm.running_mean"], sum(own) / WORKERS)
    assert int(saved["norm.num_batches_tracked"]) == STEPS


def test_replicas_from_unseeded_random_numbers_are_equal_and_nothing_of_it_is_in_the_trace(
    trained: Any,
) -> None:
    one, other = (own["FromNumpy"]["whole"] for own in trained)
    assert one["theta"] == other["theta"]
    assert trained[0]["adapters"]["whole"]["theta"] == trained[1]["adapters"]["whole"]["theta"]
    assert one["losses"] != other["losses"]  # they have read different tokens
    assert one["collectives"] == other["collectives"] == 0


def test_a_frozen_base_is_saved_and_the_same_on_all_workers_but_not_trained(
    trained: Any, folder: Path
) -> None:
    file = load_file(folder / "adapters.safetensors")
    assert {name for name in file if ".base." in name} == {
        "0.base.weight",
        "1.base.weight",
        "1.base.bias",
    }
    assert len(trained[0]["adapters"]["whole"]["theta"]) == 2 * ADAPTER
    rounds = STEPS // 2
    frozen = [
        {key for key in load_file(folder / "adapters-checkpoints" / name) if "frozen" in key}
        for name in (f"round-{rounds:08d}.rank-{rank:05d}.safetensors" for rank in range(WORKERS))
    ]
    assert frozen == [{"frozen/0/base.weight", "frozen/1/base.weight", "frozen/1/base.bias"}, set()]


def test_workers_drop_out_different_units_and_the_same_in_every_run(trained: Any) -> None:
    one, other = (own["dropout"] for own in trained)
    assert one["whole"]["drawn"] != other["whole"]["drawn"]
    assert one["whole"]["drawn"] == one["from the middle"]["drawn"]


def test_checkpoints_in_which_replicas_differ_are_refused_naming_rank_and_parameter(
    trained: Any,
) -> None:
    for own in trained:
        assert own["damaged"]["said"] == (
            f"rank 1: table differs from rank 0's in the checkpoints of round {STEPS}, and ddp "
            "keeps them equal; remove that round's files to resume from an earlier one"
        )


# -- files -----------------------------------------------------------------------------------
def test_tied_weights_are_in_the_file_under_every_name(trained: Any, folder: Path) -> None:
    file = load_file(folder / "Tied.safetensors")
    assert torch.equal(file["embedding.weight"], file["head.weight"])
    module = made("Tied")
    module.load_state_dict(file)
    assert module.head.weight is module.embedding.weight


def test_a_file_of_an_earlier_version_or_of_save_model_starts_a_run(
    folder: Path, tmp_path: Path
) -> None:
    module, path = made("Tied"), tmp_path / "saved.safetensors"
    expected = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    save_file({f"0.{name}": p.detach().clone() for name, p in module.named_parameters()}, path)
    earlier = made("Tied")
    begin_from(path, earlier, [earlier])
    save_model(module, str(path))
    dropped = made("Tied")
    begin_from(path, dropped, [dropped])
    for other in (earlier, dropped):
        assert all(torch.equal(tensor, expected[key]) for key, tensor in other.state_dict().items())


def test_a_decoders_file_of_an_earlier_version_starts_a_run(tmp_path: Path) -> None:
    """Its embedding is tied across stages, so that it was in the file twice."""
    config, path = GPTConfig(hidden=8, layers=3, heads=2, context=4), tmp_path / "saved.safetensors"
    one, other = GPT(config, seed=1), GPT(config, seed=2)
    earlier = nn.ModuleList(one.stages())
    named = earlier.named_parameters(remove_duplicate=False)
    save_file({name: p.detach().clone() for name, p in named}, path)
    begin_from(path, other, other.stages())
    state = one.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in other.state_dict().items())


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("BatchNorm", {"norm.running_var": None}, "only the model has a tensor norm.running_var"),
        ("Tied", {"head.weight": torch.zeros(VOCABULARY, WIDTH)}, "they are one tensor in the"),
        ("Tied", {"had.weight": torch.zeros(1)}, "only the file has a tensor had.weight; did you"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(
    folder: Path, tmp_path: Path, name: str, change: dict[str, Any], message: str
) -> None:
    module, path = made(name), tmp_path / "saved.safetensors"
    tensors = {key: tensor.clone() for key, tensor in module.state_dict().items()} | change
    save_file({key: tensor for key, tensor in tensors.items() if tensor is not None}, path)
    with pytest.raises(ModelError) as error:
        begin_from(path, module, [module])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# -- the command -------------------------------------------------------------------------------
def realrun(path: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "realrun", "train", str(path), "--allow-code", "--json", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_command_saves_a_model_with_running_statistics_and_another_method_starts_from_it(
    folder: Path, tmp_path: Path
) -> None:
    prepared(tmp_path)
    file, again = tmp_path / "model.safetensors", tmp_path / "again.safetensors"
    first = realrun(write(tmp_path, "BatchNorm", steps=60), "--save", str(file))
    barely = write(tmp_path, "BatchNorm", steps=1, rate=1e-12)
    text = barely.read_text().replace('"ddp"', '"streaming_diloco"\nsync_every = 1')
    barely.write_text(text)
    second = realrun(barely, "--start", str(file), "--save", str(again))
    assert second["validation_loss"] == pytest.approx(
        first["validation_loss"], abs=SAME_AFTER_A_STEP["BatchNorm"]
    )
    assert first["buffers_averaged"] == ["norm.running_mean", "norm.running_var"]
    before, after = load_file(file), load_file(again)
    assert before.keys() == after.keys() == made("BatchNorm").state_dict().keys()
    for name in ("embedding.weight", "norm.weight", "head.weight", "head.bias"):
        torch.testing.assert_close(after[name], before[name], rtol=1e-6, atol=1e-7)
    counted = "norm.num_batches_tracked"
    assert int(after[counted]) == int(before[counted]) + 1 == 61
