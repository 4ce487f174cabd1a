"""Where a run takes place: which processes, on which devices, and what carries what they send."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from realrun.processes.rendezvous import World, joined
from sim.scenario import ScenarioError


def device_and_backend(device: str, backend: str) -> tuple[torch.device, str]:
    """Settle "auto": a GPU where there is one, NCCL where every process has its own.

    Parameters
    ----------
    device
        auto, cpu or cuda.
    backend
        auto, gloo or nccl.

    Raises
    ------
    ScenarioError
        If what is asked for is not here.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    local_workers = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "cuda" and not cards:
        raise ScenarioError("--device: cuda: no GPU is visible to torch; leave it out, or say cpu")
    on_card = device == "cuda" or (device == "auto" and cards > 0)
    alone = on_card and local_workers <= cards
    if backend == "nccl" and not alone:
        raise ScenarioError(
            f"--backend: nccl: needs a GPU per process, here are {cards if on_card else 0} for "
            f"{local_workers}; say gloo"
        )
    settled = backend if backend != "auto" else ("nccl" if alone else "gloo")
    if not on_card:
        return torch.device("cpu"), settled
    card = torch.device("cuda", local_rank % cards)
    torch.cuda.set_device(card)
    return card, settled


def sharing(device: torch.device, local_workers: int) -> int:
    """Return how many processes share the memory of the device that this one computes on."""
    if device.type == "cuda":
        return -(-local_workers // torch.cuda.device_count())
    return local_workers


def name_of(device: torch.device) -> str:
    """Return what people call a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


@dataclass(frozen=True)
class Place:
    """The processes of a run, what this one computes on, what carries tensors."""

    world: World
    device: torch.device
    backend: str


def _threads(local_workers: int) -> int | None:
    """How many threads a worker computes with; None where the user has said it."""
    # torchrun sets the variable to 1 where it starts several processes: that is not the user's.
    if "OMP_NUM_THREADS" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    return max(1, (os.cpu_count() or 1) // local_workers)


@contextmanager
def meet(device: str, backend: str, timeout_s: float) -> Iterator[Place]:
    """Let the processes of a launch meet, for one run or many."""
    chosen, carrier = device_and_backend(device, backend)
    with joined(carrier, timeout_s) as world:
        if (threads := _threads(world.local_workers)) is not None:
            torch.set_num_threads(threads)
        yield Place(world, chosen, carrier)
