"""A module that is not ours, named in a scenario: simulated by its sizes, trained as it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402
from support.thorough import only_thorough  # noqa: E402

from realrun.model.build import Built, build  # noqa: E402
from realrun.model.stages import ModelError  # noqa: E402
from realrun.state.saved import begin_from  # noqa: E402
from sim.scenario import load, sections  # noqa: E402

VOCABULARY, CONTEXT = 16, 24

# Two models as people write them: one whole module with an LSTM in it, and a list of stages
# around torch's own transformer.
MODULES = f"""\
import torch
from torch import nn

class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding({VOCABULARY}, 24)
        self.lstm = nn.LSTM(24, 32, batch_first=True)
        self.head = nn.Linear(32, {VOCABULARY})

    def forward(self, tokens):
        return self.head(self.lstm(self.embedding(tokens))[0])

class Embedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding({VOCABULARY}, 32)
        self.positions = nn.Embedding({CONTEXT}, 32)

    def forward(self, tokens):
        return self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))

class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.encoder(x, mask=mask, is_causal=True)

def recurrent():
    return Recurrent()

def transformer():
    return [Embedding(), Encoder(), Encoder(), nn.Linear(32, {VOCABULARY})]

def bare():
    return nn.Flatten()

def half():
    return nn.Linear(2, 2).bfloat16()

def lazy():
    return nn.LazyLinear(2)

def unfinished():
    return [nn.Sequential(nn.Embedding(16, 8), nn.LSTM(8, 8)), nn.Linear(8, 16)]

def smoothed(logits, targets):
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=0.1)

def of_each_token(logits, targets):
    return nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")

def without_gradient(logits, targets):
    return logits.detach().mean()

def a_number(logits, targets):
    return 1.0
"""

SCENARIO = """\
[run]
{horizon}
[model]
module = "own_modules:{function}"
layer_parameters = {counts}
vocabulary = {vocabulary}
context = {context}
param_dtype = "fp32"
[method]
name = "{method}"
{arguments}
comm_dtype = "fp32"
[[site]]
count = 2
step_time = "10 ms"
batch_tokens = {tokens}
[train]
learning_rate = 0.01
[data]
kind = "tokens"
path = "tokens.bin"
"""

LSTM = 4 * 32 * (24 + 32 + 2)
ENCODER = 4 * 32 * 33 + 33 * 64 + 65 * 32 + 4 * 32  # attention, feed-forward, two norms
COUNTS = {
    "recurrent": [VOCABULARY * 24 + LSTM + 33 * VOCABULARY],
    "transformer": [(VOCABULARY + CONTEXT) * 32, ENCODER, ENCODER, 33 * VOCABULARY],
}
METHODS = {
    "ddp": "",
    "streaming_diloco": "sync_every = 6\nnum_fragments = 1\nfragment_sync_delay = 2",
    "acco": "",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the modules, and tokens of which each says much about the next."""
    random = np.random.default_rng(0)
    tokens = [0]
    for noise in random.random(30_000):
        tokens.append((5 * tokens[-1] + 3 + (noise < 0.2)) % VOCABULARY)
    np.array(tokens, dtype=np.uint16).tofile(tmp_path / "tokens.bin")
    (tmp_path / "own_modules.py").write_text(MODULES)
    monkeypatch.chdir(tmp_path)  # one's own files
    yield tmp_path
    sys.modules.pop("own_modules", None)


def write(folder: Path, function: str = "recurrent", method: str = "ddp", **changes: Any) -> Path:
    keys: dict[str, Any] = {
        # Acco counts what it takes in while it communicates: few updates would be many steps.
        "horizon": "rounds = 40" if method == "acco" else "steps = 60",
        "counts": COUNTS.get(function, [1]),
        "vocabulary": VOCABULARY,
        "context": CONTEXT,
        "tokens": 8 * CONTEXT,
        "arguments": METHODS[method],
    }
    path = folder / f"{function}-{method}.toml"
    path.write_text(SCENARIO.format(function=function, method=method, **{**keys, **changes}))
    return path


def built(path: Path, *settings: str, seed: int = 0) -> Built:
    given = list(settings)
    model, size = sections(path, {}, given).model, load(path, {}, given).model
    return build(model, size, seed=seed, folder=path.parent)


@pytest.mark.parametrize(("function", "stages"), [("recurrent", 1), ("transformer", 4)])
def test_a_module_of_the_users_is_built_as_the_scenario_has_it(
    folder: Path, function: str, stages: int
) -> None:
    path = write(folder, function)
    one, same, other = built(path), built(path), built(path, seed=1)
    assert len(one.stages) == len(one.parameters_by_layer) == stages
    assert (one.vocabulary, one.context) == (VOCABULARY, CONTEXT)
    first = [next(iter(made.stages[0].parameters())) for made in (one, same, other)]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
    counts = tuple(sum(p.numel() for p in layer) for layer in one.parameters_by_layer)
    assert load(path).model.layer_parameters == counts


def test_a_decoder_is_built_from_the_same_sections() -> None:
    model = built_in = sections("quick_start").model
    made = build(model, load("quick_start").model)
    assert (made.vocabulary, made.context) == (built_in.vocabulary, built_in.context)
    assert len(made.stages) == len(made.parameters_by_layer) == built_in.layers


def test_a_loss_of_the_users_is_the_one_that_is_minimised(folder: Path) -> None:
    made = built(write(folder), "model.loss=own_modules:smoothed")
    targets = torch.zeros(2, CONTEXT, dtype=torch.long)
    logits = torch.randn(2, CONTEXT, VOCABULARY, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), label_smoothing=0.1
    )
    torch.testing.assert_close(made.loss(logits, targets), expected)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("module=own_modules:transformr", 'has no "transformr"; did you mean "transformer"?'),
        ("module=no_such_modules:recurrent", "there is no module no_such_modules"),
        ("module=own_modules:bare", "stage 0 (Flatten) has no parameters of its own to train"),
        ("module=own_modules:half", "stage 0 (Linear): weight is torch.bfloat16"),
        ("module=own_modules:lazy", "stage 0 (LazyLinear): weight has no shape yet"),
        (
            "module=own_modules:transformer",
            f"the model has 4 layers, the scenario 1; write layer_parameters = "
            f"{COUNTS['transformer']}",
        ),
        ("loss=own_modules:smooth", "model.loss: own_modules:smooth: module own_modules has no"),
    ],
)
def test_a_model_that_cannot_be_built_is_one_line(folder: Path, setting: str, message: str) -> None:
    path = write(folder)
    with pytest.raises(ModelError) as error:
        built(path, f"model.{setting}")
    assert message in str(error.value)
    assert str(error.value).startswith(f"model.{setting.partition('=')[0]}: ")
    assert "\n" not in str(error.value)


def test_wrong_counts_are_answered_with_the_line_to_write(folder: Path) -> None:
    path = write(folder, counts=[7])
    with pytest.raises(ModelError) as error:
        built(path)
    line = str(error.value).partition("write ")[2]
    path.write_text(path.read_text().replace("layer_parameters = [7]", line))
    assert len(built(path).stages) == 1


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("of_each_token", f"gives a tensor of shape (2, {CONTEXT}); a scalar is needed"),
        ("a_number", "gives float; a torch scalar is needed"),
        ("without_gradient", "gives a number that does not depend on the model"),
    ],
)
def test_a_loss_that_cannot_be_minimised_is_one_line(folder: Path, loss: str, message: str) -> None:
    made = built(write(folder), f"model.loss=own_modules:{loss}")
    tokens = torch.zeros(2, CONTEXT, dtype=torch.long)
    with pytest.raises(ModelError) as error:
        made.loss(made.stages[0](tokens), tokens)
    assert str(error.value) == f"model.loss: own_modules:{loss} {message}" + (
        ", like its mean" if loss == "of_each_token" else ""
    )


def test_a_stage_that_gives_more_than_a_tensor_is_one_line(folder: Path) -> None:
    made = built(write(folder, "unfinished", counts=[16 * 8 + 4 * 8 * (8 + 8 + 2), 9 * 16]))
    with pytest.raises(ModelError) as error:
        made.stages[0](torch.zeros(1, 4, dtype=torch.long))
    assert str(error.value) == (
        "model.module: own_modules:unfinished: stage 0 gives a tuple; one tensor is needed"
    )


@pytest.mark.parametrize(
    ("outputs", "given"),
    [
        (torch.zeros(2, 3, VOCABULARY - 1), "(2, 3, 15)"),
        (torch.zeros(2, VOCABULARY), "(2, 16)"),
        ((torch.zeros(2, 3, VOCABULARY), None), "tuple"),
    ],
)
def test_what_are_no_logits_is_one_line(folder: Path, outputs: Any, given: str) -> None:
    made = built(write(folder))
    with pytest.raises(ModelError) as error:
        made.loss(outputs, torch.zeros(2, 3, dtype=torch.long))
    assert f"the last stage gives {given}; logits for each token are needed, (2, 3, 16)" in str(
        error.value
    )


def realrun(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "realrun", "train", str(path), *arguments],
        env={**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.parametrize(
    ("function", "method"),
    [
        ("transformer", "streaming_diloco"),
        pytest.param("recurrent", "acco", marks=only_thorough),
    ],
)
def test_two_processes_train_it(folder: Path, function: str, method: str) -> None:
    done = realrun(write(folder, function, method))
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    found = re.search(r"Loss (\S+) to (\S+) nats per token, (\S+) on", said)
    assert found is not None, said
    first, last, unseen = (float(number.rstrip(",")) for number in found.groups())
    assert first > 0.9 * np.log(VOCABULARY)
    assert last < 0.7 * first
    assert unseen < 0.7 * first


def test_parameters_to_begin_with_must_be_the_models(folder: Path) -> None:
    made = built(write(folder))
    path = folder / "saved.safetensors"
    own = {name: tensor.clone() for name, tensor in made.module.state_dict().items()}

    def begin() -> None:
        begin_from(path, made.module, made.stages)

    with pytest.raises(ModelError, match=r"saved\.safetensors"):
        begin()
    save_file({**own, "more": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match=r"only the file has a tensor more"):
        begin()
    save_file({name: tensor for name, tensor in own.items() if name != "head.bias"}, path)
    with pytest.raises(ModelError, match=r"only the model has a parameter head\.bias"):
        begin()
    save_file({**own, "head.bias": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match=r"head\.bias has shape \(3,\), in the model \(16,\)"):
        begin()
    save_file({name: torch.full_like(tensor, 0.5) for name, tensor in own.items()}, path)
    begin()
    assert all(bool((p == 0.5).all()) for p in made.module.parameters())


def test_a_mistake_ends_the_run_with_one_line(folder: Path) -> None:
    done = realrun(write(folder), "--set", "model.loss=own_modules:of_each_token")
    assert done.returncode == 2, done.stderr
    lines = {line for line in done.stderr.splitlines() if "realrun: error" in line}
    assert len(lines) == 1
    assert "a scalar is needed" in lines.pop()
    assert "Traceback" not in done.stderr
