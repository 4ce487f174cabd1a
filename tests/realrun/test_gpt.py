"""The decoder, its stages, and modules of other people's as stages."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from math import log, sqrt
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from realrun.model.gpt import GPT, SIZES, GPTConfig, loss, rotary, rotate
from realrun.model.stages import ModelError, check_against, layer_parameters, load_model, stages_of
from sim.records.scenario import ModelSize
from sim.scenario import load, sections
from sim.units import parse_count

SMALL = GPTConfig(hidden=32, layers=3, heads=4, vocabulary=50, context=16)


def tokens(config: GPTConfig = SMALL, batch: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(config.vocabulary, (batch, config.context + 1), generator=generator)
    return drawn[:, :-1], drawn[:, 1:]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On models this small, threads wait for each other longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# -- sizes -------------------------------------------------------------------------------
@pytest.mark.parametrize("name", SIZES)
def test_a_size_has_about_the_parameters_of_its_name(name: str) -> None:
    model = GPT(SIZES[name], device="meta")
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(parse_count(name), rel=0.15)
    model.check_against(ModelSize(name, count, count, SIZES[name].layer_sizes))


@pytest.mark.parametrize("layers", [1, 2, 5])
@pytest.mark.parametrize("feed_forward", [None, 100])
def test_the_simulator_counts_the_same(layers: int, feed_forward: int | None) -> None:
    config = replace(SMALL, layers=layers, feed_forward=feed_forward)
    settings = [
        f"model.{key}={value}" for key, value in asdict(config).items() if value is not None
    ]
    size = load("quick_start", settings=settings).model
    given = sections("quick_start", settings=settings)
    assert GPTConfig.from_section(given.model) == config
    GPT(config, device="meta").check_against(size)


def test_a_difference_names_the_layer_and_both_counts() -> None:
    model = GPT(SMALL, device="meta")
    sizes = list(SMALL.layer_sizes)
    sizes[1] += 5
    with pytest.raises(ModelError) as error:
        model.check_against(ModelSize("other", sum(sizes), sum(sizes), tuple(sizes)))
    assert str(error.value) == (
        f"layer 1 of the model has {sizes[1] - 5:,} parameters, in the scenario {sizes[1]:,}"
    )
    with pytest.raises(ModelError, match="the model has 3 layers, the scenario 2"):
        model.check_against(ModelSize("other", 2, 2, (1, 1)))


def test_bad_dimensions_are_refused() -> None:
    with pytest.raises(ModelError, match="must divide hidden = 32 without remainder"):
        replace(SMALL, heads=5)
    with pytest.raises(ModelError, match="need an even one"):
        replace(SMALL, heads=32)
    with pytest.raises(ModelError, match=r"model\.layers: 0: must be at least 1"):
        replace(SMALL, layers=0)
    with pytest.raises(ModelError, match='did you mean "10M"'):
        GPTConfig.named("10m")
    with pytest.raises(ModelError, match='needs kind = "gpt"'):
        GPTConfig.from_section(sections(None, {"--model": "10B"}).model)
    with pytest.raises(ModelError, match=r"a sequence of 17 tokens; model\.context is 16"):
        GPT(SMALL)(torch.zeros(1, 17, dtype=torch.long))


# -- what it computes --------------------------------------------------------------------
def test_the_logits_agree_with_a_plain_reference() -> None:
    """One sequence, one position and one head at a time, with complex numbers for rotations."""
    model = GPT(replace(SMALL, layers=2), seed=1).double()
    tokens_bt = tokens()[0][:1]
    width = SMALL.hidden // SMALL.heads

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weight

    def turned(x: Tensor, position: int) -> Tensor:
        pairs = torch.complex(x[: width // 2], x[width // 2 :])
        angles = torch.tensor([position / 10000 ** (2 * i / width) for i in range(width // 2)])
        return pairs * torch.polar(torch.ones_like(angles), angles).to(pairs.dtype)

    weights = dict(model.named_parameters())
    embedding = weights["layers.0.embedding"]
    x = embedding[tokens_bt[0]]
    for number in range(2):
        at = f"layers.{number}."
        normed = norm(x, weights[at + "attention_norm.weight"])
        query, key, value = (
            normed @ matrix.T for matrix in weights[at + "attention.query_key_value"].chunk(3)
        )
        read = torch.zeros_like(x)
        for head in range(SMALL.heads):
            own = slice(head * width, (head + 1) * width)
            for t in range(len(x)):
                scores = torch.stack(
                    [
                        (turned(query[t, own], t) * turned(key[s, own], s).conj()).real.sum()
                        for s in range(t + 1)
                    ]
                )
                shares = (scores / sqrt(width)).softmax(0)
                read[t, own] = shares @ value[: t + 1, own]
        x = x + read @ weights[at + "attention.out"].T
        normed = norm(x, weights[at + "feed_forward_norm.weight"])
        gate, up = (normed @ matrix.T for matrix in weights[at + "feed_forward.gate_up"].chunk(2))
        x = x + (gate * torch.sigmoid(gate) * up) @ weights[at + "feed_forward.out"].T
    expected = norm(x, weights["layers.1.final_norm.weight"]) @ embedding.T
    # Angles are kept in single precision.
    torch.testing.assert_close(model(tokens_bt)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_position_does_not_see_what_comes_after_it() -> None:
    model = GPT(SMALL)
    first = tokens()[0]
    second = first.clone()
    second[:, 9:] = (second[:, 9:] + 1) % SMALL.vocabulary
    before, after = model(first), model(second)
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.allclose(before[:, 9], after[:, 9])


def test_rotary_scores_depend_on_distance_only() -> None:
    cos, sin = rotary(32, 8)
    query, key = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    turned = [rotate(x.expand(1, 1, 32, 8), cos, sin)[0, 0] for x in (query, key)]
    scores = turned[0] @ turned[1].T
    for distance in (0, 3, 20):
        diagonal = scores.diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))


def test_the_loss_is_the_mean_in_nats() -> None:
    logits, targets = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0)), tokens()[1]
    targets = targets[:2, :3] % 7
    chosen = logits.log_softmax(-1).gather(-1, targets[..., None])
    torch.testing.assert_close(loss(logits, targets), -chosen.mean())


def test_a_few_steps_learn_a_batch_by_heart() -> None:
    model = GPT(SMALL)
    inputs, targets = tokens()
    first = loss(model(inputs), targets)
    assert first.item() == pytest.approx(log(SMALL.vocabulary), rel=0.25)
    for _ in range(40):
        model.zero_grad()
        loss(model(inputs), targets).backward()
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients(model), strict=True):
                parameter -= 0.5 * gradient
    assert loss(model(inputs), targets).item() < 0.2 * first.item()


def test_autocast_computes_in_bf16_and_leaves_gradients_in_fp32() -> None:
    model = GPT(SMALL)
    inputs, targets = tokens()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(inputs)
        value = loss(logits, targets)
    value.backward()
    assert logits.dtype == torch.bfloat16
    assert value.dtype == torch.float32
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}
    torch.testing.assert_close(value, loss(model(inputs), targets), rtol=0.02, atol=0.02)


# -- initial parameters ------------------------------------------------------------------
def test_equal_seeds_make_equal_models_and_touch_no_other_random_numbers() -> None:
    before = torch.random.get_rng_state()
    one, two, other = GPT(SMALL, seed=5), GPT(SMALL, seed=5), GPT(SMALL, seed=6)
    assert torch.equal(before, torch.random.get_rng_state())
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, two.get_parameter(name))
        if parameter.dim() > 1:
            assert not torch.equal(parameter, other.get_parameter(name))
        else:
            assert (parameter == 1).all()


def test_what_adds_to_the_residual_stream_begins_smaller() -> None:
    config = GPTConfig(hidden=250, layers=8, heads=5)
    usual = sqrt(2 / (5 * 250))
    for name, parameter in GPT(config).named_parameters():
        if parameter.dim() > 1:
            expected = usual / 4 if name.endswith(".out") else usual
            assert parameter.std().item() == pytest.approx(expected, rel=0.03), name


# -- stages ------------------------------------------------------------------------------
def stagewise(model: GPT, inputs: Tensor, targets: Tensor) -> list[Tensor]:
    """Gradients, each stage run forward on a detached input and backward by itself."""
    stages = model.stages()
    given: list[Tensor] = [inputs]
    made: list[Tensor] = []
    for stage in stages:
        made.append(stage(given[-1]))
        given.append(made[-1].detach().requires_grad_())
    last = loss(made[-1], targets)
    last.backward()
    for number in reversed(range(len(stages) - 1)):
        torch.autograd.backward(made[number], given[number + 1].grad)
    return gradients(model)


def gradients(model: nn.Module) -> list[Tensor]:
    found = []
    for parameter in model.parameters():
        assert parameter.grad is not None
        found.append(parameter.grad)
    return found


@pytest.mark.parametrize("layers", [1, 2, 5])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("zeros", [False, True])
def test_stagewise_gradients_are_bitwise_those_of_the_whole(
    layers: int, autocast: bool, zeros: bool
) -> None:
    """Also the tied embedding's, which come from both ends; with .grad absent or zero."""
    config = replace(SMALL, layers=layers)
    whole, split = GPT(config, seed=2), GPT(config, seed=2)
    if zeros:
        for parameter in [*whole.parameters(), *split.parameters()]:
            parameter.grad = torch.zeros_like(parameter)
    inputs, targets = tokens()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        value = loss(whole(inputs), targets)
        value.backward()
        found = stagewise(split, inputs, targets)
    for one, other in zip(gradients(whole), found, strict=True):
        assert torch.equal(one, other)
        assert one.abs().max() > 0


def test_the_embedding_is_the_first_layers_and_gets_gradients_from_both_ends() -> None:
    model = GPT(SMALL)
    layers = model.layer_parameters()
    embedding = model.get_parameter("layers.0.embedding")
    assert embedding is model.get_parameter("layers.2.embedding")
    assert [any(p is embedding for p in layer) for layer in layers] == [True, False, False]
    flat = [p for layer in layers for p in layer]
    assert {id(p) for p in flat} == {id(p) for p in model.parameters()}
    assert len(flat) == len(list(model.parameters()))
    # Tokens that are not in the input get a gradient from the output alone.
    loss(model(torch.zeros(1, 4, dtype=torch.long)), torch.ones(1, 4, dtype=torch.long)).backward()
    assert embedding.grad is not None
    assert (embedding.grad[1:].abs().sum(1) > 0).all()


def test_copies_and_saved_states_keep_the_tie() -> None:
    model = GPT(SMALL)
    copied = copy.deepcopy(model)
    assert copied.get_parameter("layers.0.embedding") is copied.get_parameter("layers.2.embedding")
    other = GPT(SMALL, seed=1)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(tokens()[0]), model(tokens()[0]))
    assert other.get_parameter("layers.0.embedding") is other.get_parameter("layers.2.embedding")
    assert not any("cos" in name or "sin" in name for name in model.state_dict())


# -- modules of other people's -----------------------------------------------------------
@pytest.fixture
def module(tmp_path: Path) -> Callable[[str], Path]:
    """Write a user's module under a name of its own."""

    def write(text: str) -> Path:
        path = tmp_path / f"a_users_{abs(hash((text, tmp_path)))}.py"
        path.write_text("import torch\nfrom torch import nn\n" + text)
        return path

    return write


def test_a_module_is_one_stage_and_a_list_is_several() -> None:
    one, two = nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    assert stages_of(two) == [two]
    for several in ([one, two], (one, two), nn.ModuleList([one, two])):
        assert stages_of(several) == [one, two]


def test_shared_parameters_belong_to_the_first_stage_and_frozen_ones_to_none() -> None:
    one, two, three = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
    two.weight = one.weight
    three.bias.requires_grad_(False)
    layers = layer_parameters(stages_of([one, two, three]))
    counts = [sum(p.numel() for p in layer) for layer in layers]
    assert counts == [12, 3, 9]
    check_against(layers, ModelSize("stranger", 24, 24, (12, 3, 9)))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (None, "the model is None; a torch.nn.Module is needed, or a list of them"),
        (functional.relu, "the model is a function; a torch.nn.Module is needed, or a list of"),
        ([nn.Linear(1, 1), 3], "stage 1 of the list is an int"),
        ([], "the model is an empty list; one stage at least is needed"),
        ([nn.Linear(1, 1), nn.ReLU()], "stage 1 (ReLU) has no parameters of its own to train"),
    ],
)
def test_what_is_no_model_is_refused(made: Any, message: str) -> None:
    with pytest.raises(ModelError) as error:
        stages_of(made)
    assert str(error.value).startswith(message)


def test_a_users_function_begins_with_the_same_parameters_everywhere(
    module: Callable[[str], Path],
) -> None:
    path = module("def make():\n    return [nn.Linear(4, 4), nn.Linear(4, 2)]\n")
    before = torch.random.get_rng_state()
    one, same, other = (
        stages_of(load_model(f"{path.stem}:make", seed=seed, folder=path.parent))
        for seed in (1, 1, 2)
    )
    assert torch.equal(before, torch.random.get_rng_state())
    assert len(one) == 2
    assert torch.equal(next(one[0].parameters()), next(same[0].parameters()))
    assert not torch.equal(next(one[0].parameters()), next(other[0].parameters()))


@pytest.mark.parametrize(
    ("text", "attribute", "message"),
    [
        ("def make(): pass", "mak", 'has no "mak"; did you mean "make"?'),
        ("def make(): pass", "make", ":make: the model is None; a torch.nn.Module is needed"),
        ("def make(): 1 / 0", "make", ":make failed: ZeroDivisionError: division by zero"),
        ("def make(size): pass", "make", ":make failed: TypeError: make() missing 1 required"),
        ("make = nn.Linear(1, 1)", "make", "is a Linear; a function that makes the model is"),
        ("import nothing_such", "make", "needs nothing_such, which is not installed"),
        ("raise ValueError('a\\nb')", "make", "failed: ValueError: a"),
        ("def make(:", "make", "failed: SyntaxError"),
    ],
)
def test_a_users_mistake_is_one_line(
    text: str, attribute: str, message: str, module: Callable[[str], Path]
) -> None:
    path = module(text)
    with pytest.raises(ModelError) as error:
        load_model(f"{path.stem}:{attribute}", folder=path.parent)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_that_leads_nowhere() -> None:
    with pytest.raises(ModelError, match="there is no module no_such_module"):
        load_model("no_such_module:make")
    for name in ("torch", "torch:", ":make", "a b:c"):
        with pytest.raises(ModelError, match=r'write "package\.module:function"'):
            load_model(name)
