"""What a run keeps in its checkpoints, and how it resumes from one."""

from __future__ import annotations

import inspect
import json
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from realrun.data.batches import Batches
from realrun.model import randomness
from realrun.processes.rendezvous import World
from realrun.runtime.shared import Restart, Saving, Shared
from realrun.state.checkpoint import ISLAND, Checkpoints, State
from sim.scenario import Loaded

# What decides about numbers of what happens inside an island.
_INSIDE = {"method", "reshard", "bucket_bytes", "comm_dtype"}


def identity(loaded: Loaded) -> dict[str, str]:
    """Return what decides about a run's numbers; not how fast, how far or where it runs."""
    scenario, file = loaded.scenario, loaded.sections
    keys: dict[str, object] = {"method.name": scenario.method.name}
    keys |= {f"method.{key}": value for key, value in scenario.method.arguments.items()}
    for name, section in (("model", file.model), ("train", file.train), ("data", file.data)):
        given = section.model_dump(exclude_none=True, exclude={"outer_state", "not_finite"})
        keys |= {f"{name}.{key}": value for key, value in given.items()}
    for number, site in enumerate(file.site):
        if site.inside is not None:
            deciding = site.inside.model_dump(exclude_none=True, include=_INSIDE)
            keys |= {f"site {number}, inside.{key}": value for key, value in deciding.items()}
    if scenario.method.island:
        keys[ISLAND] = scenario.method.island
    for worker in scenario.workers:
        keys[f"rank {worker.rank}, batch_tokens"] = worker.machine.batch_tokens
        keys[f"rank {worker.rank}, n_grad_accumulation"] = worker.machine.n_grad_accumulation
    if file.train.schedule == "cosine":
        keys["horizon"] = scenario.horizon_tokens
    return {key: json.dumps(value, default=str) for key, value in keys.items()}


def defaults(loaded: Loaded) -> dict[str, str]:
    """Return what a run had that did not know a key yet.

    Of an argument of its method that is the default, and of an island its accelerators now: before
    they were noted, the number of processes told them.
    """
    signature = inspect.signature(loaded.scenario.method.program).parameters
    island = loaded.scenario.method.island
    return ({ISLAND: json.dumps(island)} if island else {}) | {
        f"method.{key}": json.dumps(signature[key].default, default=str)
        for key in loaded.scenario.method.arguments
        if key in signature
    }


def resumed(
    folder: Path,
    every: int,
    world: World,
    shared: Shared,
    batches: Batches,
    identity: Mapping[str, str],
    defaults: Mapping[str, str],
    device: torch.device,
    note: Callable[[], dict[str, Any]],
) -> tuple[int, dict[str, Any]]:
    """Go back to the last checkpoint, if there is one, and see that there will be more.

    Parameters
    ----------
    folder, every
        Where checkpoints are, and the rounds between two.
    shared
        Of a run that has not begun; its model takes the saved state over.
    identity
        What both runs must have in common.
    defaults
        What an earlier run had of it, where its checkpoints do not say.
    note
        Gives what this rank's checkpoints hold besides, as JSON can hold it.

    Returns
    -------
    int, dict
        The round to resume at, and what ``note`` gave when it was saved; 0 and nothing without a
        checkpoint.

    Raises
    ------
    AgreedError
        If there are checkpoints that cannot be used.
    """
    checkpoints = Checkpoints(folder, world.rank, world.workers, identity, world.gathered, defaults)
    model = shared.model

    def state() -> State:
        tensors, numbers = model.state()
        tensors["observed"] = torch.tensor(shared.observed, dtype=torch.float64)
        tensors |= randomness.state(device)
        return State(tensors, {"model": numbers, "data": batches.state(), "noted": note()})

    shared.saving = Saving(every, lambda number: checkpoints.save(number, state()))
    found = checkpoints.latest()
    if found is None:
        return 0, {}
    round_, saved = found
    world.agreed(lambda: batches.restore(saved.notes["data"]))
    world.agreed(lambda: model.restore(saved.tensors, saved.notes["model"]))
    randomness.restore(saved.tensors, device)
    shared.restart = Restart(round_, deque(saved.tensors["observed"].tolist()))
    return round_, saved.notes.get("noted", {})  # earlier versions noted nothing
