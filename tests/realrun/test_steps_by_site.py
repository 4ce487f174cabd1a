"""Sites with inner steps of their own, trained by two gloo processes and by a loop by hand.

The loop holds both workers in one process and knows nothing of methods, worker or groups. Both
sides do the same sums in fp32; AdamW may step a whole layer by other instructions than single
tensors, hence the tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from support.processes import together  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.optim import SGD, AdamW  # noqa: E402

from realrun.data import corpus  # noqa: E402
from realrun.data.batches import Data  # noqa: E402
from realrun.model.gpt import GPT, GPTConfig, loss  # noqa: E402
from realrun.model.optimizers import Inner  # noqa: E402
from realrun.model.replica import TorchModel  # noqa: E402
from realrun.runtime.shared import Limits, Shared  # noqa: E402
from realrun.runtime.worker import TorchWorker  # noqa: E402
from sim.scenario import Scenario, load  # noqa: E402

CONFIG = GPTConfig(hidden=16, layers=2, heads=2, vocabulary=32, feed_forward=24, context=8)
STEPS, ROUNDS, BATCH = (2, 3), 4, 2
INNER = Inner(learning_rate=1e-3)
CASES = {
    "diloco": ("diloco", "workers"),
    "diloco by tokens": ("diloco", "tokens"),
    "local_sgd": ("local_sgd", "workers"),
}
Trained = tuple[Tensor, Tensor]
"""Parameters, layer after layer, and a worker's losses."""


def asked(method: str, average_by: str) -> Scenario:
    """Osaka is a third faster: balanced steps are 2 and 3."""
    options = {"--model": "1B", "--sites": "paris,osaka", "--method": method, "--sync-every": "3"}
    settings = [
        "site.sync_every=balanced",
        "site.paris.speed=0.7",
        f"train.average_by={average_by}",
        "method.comm_dtype=fp32",
    ]
    return load(None, options, settings)


def data() -> Data:
    drawn = corpus.synthetic(20_000, CONFIG.vocabulary, seed=0)
    return Data(drawn, vocabulary=CONFIG.vocabulary, context=CONFIG.context, workers=2)


def decoder() -> GPT:
    torch.manual_seed(0)
    return GPT(CONFIG)


def flat(model: GPT) -> Tensor:
    every = [p for layer in model.layer_parameters() for p in layer]
    return torch.cat([p.detach().reshape(-1) for p in every])


def put(model: GPT, theta: Tensor) -> None:
    place = 0
    for parameter in (p for layer in model.layer_parameters() for p in layer):
        size = parameter.numel()
        parameter.data.copy_(theta[place : place + size].view_as(parameter))
        place += size


def process(rank: int, out: Path) -> None:
    for name, (method, average_by) in CASES.items():
        scenario, own = asked(method, average_by), decoder()
        model = TorchModel(
            own.stages(),
            loss,
            data().batches(rank, BATCH),
            own.layer_parameters(),
            rank=rank,
            workers=2,
            inner=INNER,
            param_dtype="fp32",
        )
        by_tokens = scenario.run.average_by == "tokens"
        limits = Limits(rounds=ROUNDS)
        worker = TorchWorker(Shared(rank, 2, model, limits, by_tokens=by_tokens))
        worker.drive(scenario.method.program(worker, **scenario.method.arguments))
        torch.save((model.theta, torch.tensor(model.losses)), out / f"{name}-{rank}.pt")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Trained]:
    out = tmp_path_factory.mktemp("trained")
    together(2, process, out)
    return lambda name, rank: torch.load(out / f"{name}-{rank}.pt")


class Alone:
    """A worker of the loop: its decoder, its optimizer, its batches."""

    def __init__(self, rank: int) -> None:
        self.model, self.batches, self.steps = decoder(), data().batches(rank, BATCH), STEPS[rank]
        every = [p for layer in self.model.layer_parameters() for p in layer]
        self.optimizer = AdamW(
            every, lr=INNER.learning_rate, betas=INNER.betas, weight_decay=INNER.weight_decay
        )
        self.losses: list[float] = []

    def train(self, theta: Tensor) -> Tensor:
        """Return its parameters after its steps from ``theta`` on."""
        put(self.model, theta)
        for _ in range(self.steps):
            inputs, targets = next(self.batches)
            self.optimizer.zero_grad()
            value = loss(self.model(inputs), targets)
            value.backward()
            self.losses.append(value.item())
            self.optimizer.step()
        return flat(self.model)


def by_hand(method: str, average_by: str) -> tuple[Tensor, list[Tensor]]:
    workers = [Alone(0), Alone(1)]
    weights = [0.4, 0.6] if average_by == "tokens" else [0.5, 0.5]
    theta = flat(decoder())
    outer = SGD([theta], lr=0.7, momentum=0.9, nesterov=True)
    for _ in range(ROUNDS):
        local = [worker.train(theta) for worker in workers]
        mean = weights[0] * local[0] + weights[1] * local[1]
        if method == "local_sgd":
            theta = mean
        else:
            theta.grad = theta - mean
            outer.step()
    return theta, [torch.tensor(worker.losses) for worker in workers]


def test_the_scenario_gives_two_and_three_steps() -> None:
    assert asked("diloco", "workers").method.arguments["sync_every"] == STEPS


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("name", ["diloco", "diloco by tokens", "local_sgd"])
def test_both_processes_train_as_a_loop_by_hand(
    trained: Callable[[str, int], Trained], name: str, rank: int
) -> None:
    theta, losses = by_hand(*CASES[name])
    ours, seen = trained(name, rank)
    assert len(seen) == ROUNDS * STEPS[rank]
    torch.testing.assert_close(seen, losses[rank], rtol=0, atol=1e-6)
    torch.testing.assert_close(ours, theta, rtol=0, atol=1e-6)


def test_what_a_mean_weighs_decides_where_it_leads(
    trained: Callable[[str, int], Trained],
) -> None:
    """What the test above rests on: the two means differ by far more than its tolerance."""
    by_workers, by_tokens = (trained(name, 0)[0] for name in ("diloco", "diloco by tokens"))
    assert (by_workers - by_tokens).abs().max() > 1e-4
    assert (by_workers - flat(decoder())).abs().mean() > 1e-3
