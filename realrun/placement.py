"""Which device a process computes on, and which backend carries what it sends."""

from __future__ import annotations

import os

import torch

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
