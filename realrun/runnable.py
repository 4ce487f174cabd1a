"""What a scenario must say to be trained for real, and what a run reads off it."""

from __future__ import annotations

from math import inf

from realrun.communication import packing
from realrun.islands import keys_of_count
from realrun.model.build import Built, check_described
from realrun.model.optimizers import Inner
from realrun.runtime.shared import Limits
from sim.methods import BY_COUNTS
from sim.methods.inside import fsdp
from sim.network.schedules import REQUANTIZED
from sim.program import DTYPE_BITS, QUANTIZED
from sim.records.islands import counted
from sim.scenario import Loaded, Scenario, ScenarioError
from sim.scenario.schema import ScenarioFile, TrainSection


def check_runnable(scenario: Scenario, file: ScenarioFile, workers: int) -> None:
    """Refuse a scenario that this number of processes cannot run, before they meet.

    Raises
    ------
    ScenarioError
        With what to change.
    """
    check_workers(scenario, workers)
    dtype = scenario.comm_dtype
    if dtype not in DTYPE_BITS:
        raise ScenarioError(
            f"method.comm_dtype: {dtype}: bytes per element are only simulated; to train for real "
            f"give one of {', '.join(DTYPE_BITS)}"
        )
    if dtype in QUANTIZED:
        if scenario.network.collectives.algorithm == REQUANTIZED:
            raise ScenarioError(
                f'network.collective.algorithm: "{REQUANTIZED}": {dtype} by ring is only '
                "simulated; realrun carries it by all-to-all and all-gather; give another algorithm"
            )
        try:
            packing.check(dtype, scenario.network.collectives.quantize_block)
        except ValueError as error:
            raise ScenarioError(f"network.collective.{error}") from error
    if file.train.compute_mode != "paced":
        check_described(file.model)


def check_workers(scenario: Scenario, workers: int) -> None:
    """Refuse another number of processes than the scenario has workers.

    Raises
    ------
    ScenarioError
        With both numbers.
    """
    if workers != len(scenario.workers):
        raise ScenarioError(
            f"the scenario has {counted(scenario)}, but {workers} processes were started; start "
            f"{len(scenario.workers)}, or change {keys_of_count(scenario)}"
        )


def sequences(scenario: Scenario, rank: int, built: Built, train: TrainSection) -> int:
    """Return how many sequences a rank's micro-batch has."""
    machine = scenario.workers[rank].machine
    sequences = machine.batch_tokens / machine.n_grad_accumulation / built.context
    if sequences != int(sequences) or sequences < 1:
        raise ScenarioError(
            f"site.batch_tokens: {machine.batch_tokens:g} tokens in {machine.n_grad_accumulation} "
            f"micro-batches are {sequences:g} sequences of {built.context} tokens; "
            "must be a whole number of at least one"
        )
    of_worker = machine.batch_tokens * (scenario.method.island or 1)
    whole = of_worker / built.context
    if train.batch is not None and train.batch != whole:
        raise ScenarioError(
            f"train.batch: {train.batch}: site.batch_tokens = {of_worker:g} and "
            f"model.context = {built.context} make {whole:g}; leave one of the two out"
        )
    return int(sequences)


def inner_optimizer(train: TrainSection, scenario: Scenario) -> Inner:
    """Return the inner optimizer's settings."""
    steps = 0.0
    if train.schedule == "cosine":
        if scenario.horizon_tokens is None:
            raise ScenarioError(
                'train.schedule: "cosine": ends at the horizon; give run.tokens or run.steps'
            )
        steps = scenario.horizon_tokens / scenario.tokens_per_step
    return Inner(
        learning_rate=train.learning_rate or Inner.learning_rate,
        weight_decay=Inner.weight_decay if train.weight_decay is None else train.weight_decay,
        clip_norm=train.clip_norm or 0.0,
        warmup_steps=train.warmup_steps or 0,
        steps=steps,
    )


def not_clipped(loaded: Loaded) -> str:
    """Say that gradients are not clipped although that is asked for; "" where they are.

    A sharded optimizer knows the norm of its own slices alone.
    """
    scenario, clip_norm = loaded.scenario, loaded.sections.train.clip_norm
    insides = {site.inside.method for site in loaded.sections.site if site.inside is not None}
    sharded = (
        scenario.method.name in BY_COUNTS
        or scenario.method.arguments.get("zero1", False)
        or scenario.method.program is fsdp
        or insides & {"zero1", "fsdp"}
    )
    if clip_norm is None or not sharded:
        return ""
    return f"train.clip_norm: {clip_norm:g}: not applied, because the optimizer is sharded"


def limits(scenario: Scenario) -> Limits:
    """Return when to stop."""
    run = scenario.run
    if run.tokens is None and run.steps is None and run.rounds is None:
        raise ScenarioError('run: "steady" never ends; give tokens, steps or rounds to train')
    return Limits(
        rounds=inf if run.rounds is None else run.rounds,
        tokens=scenario.horizon_tokens or inf,
        batch_tokens=tuple(worker.machine.batch_tokens for worker in scenario.workers),
    )
