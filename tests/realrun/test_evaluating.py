"""Evaluations during training: when, how they are kept, and that training does not notice."""

from __future__ import annotations

import json
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from realrun.checks.evaluating import Evaluated, Evaluating  # noqa: E402
from realrun.data import corpus  # noqa: E402
from realrun.data.batches import Data  # noqa: E402
from realrun.model.replica import TorchModel  # noqa: E402


def evaluating(rank: int = 0, told: list[Any] | None = None) -> Evaluating:
    tell = [].append if told is None else told.append
    return Evaluating(2, lambda: 1.5, lambda mine: [mine, None], rank, tell)


def test_every_second_round_is_evaluated_and_never_the_first() -> None:
    told: list[Evaluated] = []
    found = evaluating(told=told)
    for number in range(7):
        if found.due(number):
            found.evaluate(number, 10.0 * number)
    assert found.found == told == [Evaluated(2, 20.0, 1.5), (4, 40.0, 1.5), (6, 60.0, 1.5)]


@pytest.mark.parametrize("rank", [0, 1])
def test_all_ranks_of_a_resumed_run_agree_on_what_is_due(rank: int) -> None:
    """Only rank 0 has a list; a rank that evaluates alone would wait for ever."""
    first = evaluating(rank)
    for number in (2, 4):
        first.evaluate(number, 10.0 * number)
    resumed = evaluating(rank)
    resumed.restore(json.loads(json.dumps(first.state())))
    assert [number for number in range(4, 9) if resumed.due(number)] == [6, 8]
    assert resumed.found == first.found
    assert len(resumed.found) == (2 if rank == 0 else 0)
    resumed.restore({})  # of a run without evaluations
    assert resumed.due(4)


class Loss(nn.Module):
    def forward(self, outputs: Any, targets: Any) -> Any:
        return nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def losses(*, evaluated: bool) -> list[float]:
    """Train a model with dropout and batch statistics for some steps."""
    torch.manual_seed(5)
    stage = nn.Sequential(
        nn.Embedding(16, 8),
        nn.Flatten(0, 1),
        nn.BatchNorm1d(8),
        nn.Dropout(0.3),
        nn.Linear(8, 16),
        nn.Unflatten(0, (2, 4)),
    )
    data = Data(corpus.synthetic(2000, 16, seed=1), vocabulary=16, context=4, workers=1)
    parameters = [list(stage.parameters())]
    model = TorchModel([stage], Loss(), data.batches(0, 2), parameters, param_dtype="fp32")
    held_out = next(data.validation(2))
    for _ in range(6):
        model.inner_step()
        if evaluated:
            assert model.loss_on(*held_out) == model.loss_on(*held_out)
    return model.losses


def test_training_does_not_notice_an_evaluation() -> None:
    assert losses(evaluated=True) == losses(evaluated=False)
