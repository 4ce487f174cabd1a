"""One worker's share of a training run: model, data, program, and the trace at the end."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import torch
import torch.distributed as dist

from realrun import gpt
from realrun.clock import gathered, offset_to_first
from realrun.data import Data, open_data
from realrun.model import Inner, TorchModel
from realrun.runtime import Limits, Shared, TorchWorker
from sim.program import QUANTIZED
from sim.runtime import simulate
from sim.scenario import Scenario, ScenarioError, load, sections
from sim.trace import Context, Trace

TIMEOUT_S = 300.0


@dataclass
class Outcome:
    """What rank 0 knows at the end: trace, clocks' residual (s), losses of rank 0, validation."""

    trace: Trace
    residual_s: float
    losses: list[float]
    validation_loss: float
    tokens: float


@dataclass(frozen=True)
class Asked:
    """What to train: a scenario as ``bandwise simulate`` takes it."""

    source: str | None
    options: dict[str, str]
    settings: list[str]


def run_worker(
    asked: Asked, on_step: Callable[[int, float], None] = lambda step, loss: None
) -> Outcome | None:
    """Train this process's replica; rank, world size and address come from the environment.

    Parameters
    ----------
    on_step
        Called on rank 0 with micro-batches done and the last loss.

    Returns
    -------
    Outcome
        On rank 0; None elsewhere.

    Raises
    ------
    ScenarioError
        If the scenario cannot be trained, or was made for another number of workers.
    """
    scenario = load(asked.source, asked.options, asked.settings)
    rank, workers = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if workers != len(scenario.workers):
        raise ScenarioError(
            f"the scenario has {len(scenario.workers)} workers, but {workers} processes were "
            f"started; start {len(scenario.workers)}, or change site.count or site.workers"
        )
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=TIMEOUT_S))
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    try:
        return _train(asked, scenario, rank, workers, on_step)
    finally:
        dist.destroy_process_group()


def _train(
    asked: Asked,
    scenario: Scenario,
    rank: int,
    workers: int,
    on_step: Callable[[int, float], None],
) -> Outcome | None:
    file = sections(asked.source, asked.options, asked.settings)
    dtype = scenario.method.arguments.get("comm_dtype")
    if dtype in QUANTIZED:
        raise ScenarioError(
            f'method.comm_dtype: "{dtype}": realrun carries fp32, bf16 and fp16 so far'
        )
    config = gpt.GPTConfig.from_section(file.model)
    seed = file.train.seed or 0
    decoder = gpt.GPT(config, seed=seed)
    decoder.check_against(scenario.model)
    machine = scenario.workers[rank].machine
    folder = Path(asked.source).parent if asked.source and Path(asked.source).exists() else None
    data = open_data(
        file.data,
        vocabulary=config.vocabulary,
        context=config.context,
        workers=workers,
        seed=seed,
        folder=folder,
    )
    sequences = machine.batch_tokens / machine.n_grad_accumulation / config.context
    if sequences != int(sequences) or sequences < 1:
        raise ScenarioError(
            f"site.batch_tokens: {machine.batch_tokens:g} tokens in {machine.n_grad_accumulation} "
            f"micro-batches are {sequences:g} sequences of {config.context} tokens; "
            "must be a whole number of at least one"
        )
    train = file.train
    model = TorchModel(
        decoder.stages(),
        gpt.loss,
        data.batches(rank, int(sequences)),
        decoder.layer_parameters(),
        rank=rank,
        workers=workers,
        n_grad_accumulation=machine.n_grad_accumulation,
        inner=Inner(
            learning_rate=train.learning_rate or Inner.learning_rate,
            weight_decay=Inner.weight_decay if train.weight_decay is None else train.weight_decay,
            clip_norm=train.clip_norm or 0.0,
            warmup_steps=train.warmup_steps or 0,
        ),
        param_dtype=scenario.model.param_dtype,
        on_loss=on_step if rank == 0 else None,
    )
    block = scenario.network.collectives.quantize_block
    shared = Shared(rank, workers, model, _limits(scenario), block)
    before = offset_to_first(shared)
    worker = TorchWorker(shared)
    worker.drive(scenario.method.program(worker, **scenario.method.arguments))
    after = offset_to_first(shared)
    found = gathered(shared, _context(scenario, shared), before, after)
    if found is None:
        return None
    trace, residual = found
    tokens = sum(1 for _ in model.losses) * sequences * config.context * workers
    return Outcome(trace, residual, model.losses, _validate(model, data, int(sequences)), tokens)


def _limits(scenario: Scenario) -> Limits:
    run = scenario.run
    if run.tokens is None and run.steps is None and run.rounds is None:
        raise ScenarioError('run: "steady" never ends; give tokens, steps or rounds to train')
    return Limits(
        rounds=inf if run.rounds is None else run.rounds,
        tokens=scenario.horizon_tokens or inf,
        tokens_per_step=scenario.tokens_per_step,
    )


def _context(scenario: Scenario, shared: Shared) -> Context:
    """What the figures must know, as the simulator writes it."""
    simulated = simulate(scenario, rounds=1).context
    return replace(
        simulated,
        measured=True,
        concurrent=2,  # gloo's threads per group
        standing_for={rank: (rank,) for rank in range(shared.workers)},
        first_collective_s=inf,
    )


def _validate(model: TorchModel, data: Data, sequences: int) -> float:
    """Mean loss on at most 64 batches that no worker trains on."""
    losses = [model.loss_on(*batch) for batch in data.validation(sequences, 64)]
    return sum(losses) / len(losses)
