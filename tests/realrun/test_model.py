"""The tensors behind the verbs. Trained in virtual time here: no processes are needed."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from support.toy_modules import INNER, batches, loss, model, stages, train  # noqa: E402
from torch import Tensor, nn  # noqa: E402


def by_hand(workers: int, steps: int, n: int = 1, clip: float = 0.0) -> Tensor:
    """Plain torch: one model, the mean of all workers' gradients, AdamW."""
    made = nn.Sequential(*stages())
    data = [batches(rank) for rank in range(workers)]
    optimizer = torch.optim.AdamW(
        made.parameters(), lr=1.0, betas=INNER.betas, weight_decay=INNER.weight_decay
    )
    for step in range(steps):
        optimizer.zero_grad()
        for each in data:
            for _ in range(n):
                inputs, targets = next(each)
                (loss(made(inputs), targets) / (n * workers)).backward()
        if clip:
            nn.utils.clip_grad_norm_(made.parameters(), clip)
        optimizer.param_groups[0]["lr"] = INNER.rate(step)
        optimizer.step()
    return torch.cat([p.detach().reshape(-1) for p in made.parameters()])


@pytest.mark.parametrize("arguments", [{}, {"overlap": "layer"}, {"zero1": True}])
@pytest.mark.parametrize("n", [1, 3])
def test_ddp_is_plain_torch_with_the_mean_gradient(arguments: Any, n: int) -> None:
    models = train("ddp", 25, workers=3, n=n, **arguments)
    torch.testing.assert_close(models[0].theta, by_hand(3, 25, n), rtol=1e-4, atol=1e-6)


def test_clipping_is_by_the_global_norm() -> None:
    one = model(0, 1, clip_norm=0.1)
    for _ in range(10):
        one.inner_step()
    torch.testing.assert_close(one.theta, by_hand(1, 10, clip=0.1), rtol=1e-4, atol=1e-6)


def test_diloco_every_step_with_plain_outer_sgd_averages() -> None:
    outer = {"outer_lr": 1.0, "outer_momentum": 0.0, "use_nesterov": False}
    averaged = train("local_sgd", 12, sync_every=1)
    diloco = train("diloco", 12, sync_every=1, **outer)
    torch.testing.assert_close(diloco[0].theta, averaged[0].theta, rtol=1e-5, atol=1e-6)


def test_streaming_with_one_fragment_is_diloco() -> None:
    streaming = train(
        "streaming_diloco", 4, sync_every=5, num_fragments=1, fragment_sync_delay=0, outer_lr=0.7
    )
    torch.testing.assert_close(streaming[0].theta, train("diloco", 4, sync_every=5)[0].theta)


@pytest.mark.parametrize("delay", [0, 2, 9])
def test_layer_overlap_changes_no_number(delay: int) -> None:
    arguments = {"sync_every": 6, "num_fragments": 3, "fragment_sync_delay": delay}
    whole = train("streaming_diloco", 4, **arguments)
    by_layer = train("streaming_diloco", 4, overlap="layer", **arguments)
    torch.testing.assert_close(whole[0].theta, by_layer[0].theta, rtol=1e-6, atol=1e-7)


def test_acco_on_one_worker_is_two_half_batches() -> None:
    """theta~ from the first half with the state rolled back, theta from both halves."""
    rounds, n = 6, 2
    one = train("acco", rounds, workers=1, n=n)[0]
    made = nn.Sequential(*stages())
    parameters = list(made.parameters())
    optimizer = torch.optim.AdamW(parameters, betas=INNER.betas, weight_decay=INNER.weight_decay)
    data = batches(0)

    def half() -> list[Tensor]:
        made.zero_grad()
        for _ in range(n):
            inputs, targets = next(data)
            loss(made(inputs), targets).backward()
        return [p.grad.clone() for p in parameters]

    def step(gradients: list[Tensor], count: int, rate: float) -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient / count
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()

    from copy import deepcopy

    first = half()
    for number in range(rounds):
        kept = ([p.detach().clone() for p in parameters], deepcopy(optimizer.state_dict()))
        second = half()  # at theta
        step(first, n, INNER.rate(number))
        estimate = [p.detach().clone() for p in parameters]
        for parameter, old in zip(parameters, kept[0], strict=True):
            parameter.data.copy_(old)
        optimizer.load_state_dict(kept[1])
        step([a + b for a, b in zip(first, second, strict=True)], 2 * n, INNER.rate(number))
        updated = [p.detach().clone() for p in parameters]
        for parameter, guess in zip(parameters, estimate, strict=True):
            parameter.data.copy_(guess)
        first = half()  # at theta~
        for parameter, new in zip(parameters, updated, strict=True):
            parameter.data.copy_(new)
    result = torch.cat([p.detach().reshape(-1) for p in parameters])
    torch.testing.assert_close(one.theta, result, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_eager_is_the_papers_equation_written_by_hand(workers: int, momentum: float) -> None:
    """Delta~_m = Delta(t-H) + (Delta_m(t) - Delta_m(t-H)) / M; missing stale terms are zero."""
    every, rounds, rate = 4, 6, 0.7
    models = train(
        "eager_diloco",
        rounds,
        workers,
        sync_every=every,
        outer_lr=rate,
        outer_momentum=momentum,
    )
    made = [nn.Sequential(*stages()) for _ in range(workers)]
    data = [batches(rank) for rank in range(workers)]
    optimizers = [
        torch.optim.AdamW(one.parameters(), betas=INNER.betas, weight_decay=INNER.weight_decay)
        for one in made
    ]

    def flat(one: nn.Module) -> Tensor:
        return nn.utils.parameters_to_vector(one.parameters()).detach().clone()

    outer = [flat(one) for one in made]
    velocity = [torch.zeros_like(each) for each in outer]
    stale = [torch.zeros_like(each) for each in outer]

    def outer_step(fresh: list[Tensor]) -> None:
        mean = sum(stale) / workers
        for m in range(workers):
            mixed = mean + (fresh[m] - stale[m]) / workers
            velocity[m] = momentum * velocity[m] + mixed
            outer[m] = outer[m] - rate * (mixed + momentum * velocity[m])
            nn.utils.vector_to_parameters(outer[m].clone(), made[m].parameters())

    for number in range(rounds):
        for one, optimizer, own in zip(made, optimizers, data, strict=True):
            for step in range(number * every, (number + 1) * every):
                inputs, targets = next(own)
                optimizer.param_groups[0]["lr"] = INNER.rate(step)
                optimizer.zero_grad()
                loss(one(inputs), targets).backward()
                optimizer.step()
        fresh = [before - flat(one) for before, one in zip(outer, made, strict=True)]
        outer_step(fresh)
        stale = fresh
    outer_step([torch.zeros_like(each) for each in outer])  # what was still in flight
    for m in range(workers):
        torch.testing.assert_close(models[m].theta, outer[m], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("diloco", {"sync_every": 3}),
        ("diloco", {"sync_every": 3, "overlap": "layer", "outer_momentum": 0.0}),
        (
            "streaming_diloco",
            {"sync_every": 6, "num_fragments": 2, "fragment_sync_delay": 2}
            | {"fragment_update_alpha": 0.25},
        ),
        ("eager_diloco", {"sync_every": 3, "comm_dtype": "bf16"}),
        ("delayed_diloco", {"sync_every": 3, "outer_sync_delay": 2}),
    ],
)
def test_outer_state_on_the_host_changes_no_bit(method: str, arguments: Any) -> None:
    there, here = (
        train(method, 5, outer_on_host=on_host, **arguments) for on_host in (True, False)
    )
    for rank, expected in here.items():
        states = there[rank].state(), expected.state()
        restored = model(rank, 2, outer_on_host=True)
        restored.restore(*states[1])
        for tensors, numbers in (states[0], restored.state()):
            assert tensors.keys() == states[1][0].keys()
            assert [
                name for name in tensors if not torch.equal(tensors[name], states[1][0][name])
            ] == []
            assert numbers == states[1][1]


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("ddp", {}),
        ("local_sgd", {"sync_every": 4}),
        ("diloco", {"sync_every": 4}),
        ("streaming_diloco", {"sync_every": 6, "num_fragments": 3}),
        # In fifteen rounds the papers' outer momentum of 0.9 has not settled.
        ("delayed_diloco", {"sync_every": 4, "outer_lr": 0.2, "outer_momentum": 0.5}),
        ("eager_diloco", {"sync_every": 4, "outer_lr": 0.2, "outer_momentum": 0.5}),
        ("acco", {}),
        ("dpu", {}),
        ("wp", {}),
    ],
)
def test_every_method_lowers_the_loss(method: str, arguments: Any) -> None:
    rounds = 60 if method in ("ddp", "acco", "dpu", "wp") else 15
    trained = train(method, rounds, **arguments)[0]
    tail = trained.losses[-10:]
    assert sum(tail) / len(tail) < 0.7 * sum(trained.losses[:5]) / 5
