"""One worker whose own outer gradient arrives partly a round late: the delay and nothing else.

Eager DiLoCo on M workers applies 1/M of the mean fresh and the rest a round late. Here a single
worker with the whole batch does so with its own outer gradient: no other worker disagrees with
it, and its gradients are no noisier than ddp's.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
from learning_plan import BASE, BATCH_TOKENS, SYNC_EVERY, WARMUP_STEPS, Planned

from realrun.data.batches import open_data
from realrun.model.build import build
from realrun.model.optimizers import Inner
from realrun.model.replica import TorchModel
from realrun.state.saved import save
from sim.scenario import loaded


def train_alone(run: Planned, parameters: Path, losses: Path) -> dict[str, Any]:
    """Train, write parameters and losses as realrun does, and return the figures it would.

    Each round g = (1 - s) Delta(t) + s Delta(t-H), s the late share, and an outer step of
    Nesterov's on g; at the end what is still to come, s Delta, is applied. s = 0 is DiLoCo with
    one worker.
    """
    given = loaded(str(BASE), {}, run.assignments)
    scenario, file = given.scenario, given.sections
    built = build(file.model, scenario.model, seed=run.seed)
    data = open_data(
        file.data, vocabulary=built.vocabulary, context=built.context, workers=1, seed=run.seed
    )
    assert scenario.horizon_tokens is not None
    steps = int(scenario.horizon_tokens) // BATCH_TOKENS
    torch.set_num_threads(1)
    model = TorchModel(
        built.stages,
        built.loss,
        data.batches(0, BATCH_TOKENS // built.context),
        built.parameters_by_layer,
        inner=Inner(run.learning_rate, warmup_steps=WARMUP_STEPS, steps=steps),
    )
    late = run.configuration.late_share
    rate, momentum = (run.configuration.arguments[f"outer_{name}"] for name in ("lr", "momentum"))
    assert isinstance(late, float)
    assert isinstance(rate, float)
    assert isinstance(momentum, float)
    outer = model.theta.clone()
    velocity, before = torch.zeros_like(outer), torch.zeros_like(outer)

    def outer_step(mixed: torch.Tensor) -> None:
        velocity.mul_(momentum).add_(mixed)
        outer.sub_(rate * (mixed + momentum * velocity))
        model.theta.copy_(outer)

    for _ in range(steps // SYNC_EVERY):
        for _ in range(SYNC_EVERY):
            model.inner_step()
        delta = outer - model.theta
        outer_step((1 - late) * delta + late * before)
        before = delta
    if late:
        outer_step(late * before)
    save(built.module, parameters)
    with losses.open("w", newline="") as sheet:
        writer = csv.writer(sheet)
        writer.writerow(["rank", "loss_nats_per_token"])
        writer.writerows((0, loss) for loss in model.losses)
    return {
        "trained_tokens": float(steps * BATCH_TOKENS),
        "tokens_per_update": float(SYNC_EVERY * BATCH_TOKENS),
    }
