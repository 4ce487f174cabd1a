"""What a machine has: cores, memory, GPUs, open files, disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from realrun.doctor.finding import Finding, limited, missing, ready
from realrun.state.room import CHECKPOINTS
from sim.processes.cores import cores_allowed
from sim.text.told import first_line
from sim.units import format_bytes

_CORES_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # of a Linux control group: quota and period
_DRIVER = Path("/proc/driver/nvidia/version")
_COMFORTABLE = 0.8  # of what is free; activations come on top of the state
_FILES_OF_ITS_OWN, _FILES_PER_PEER = 128, 8  # groups of a run, each with a connection per peer


def usable_cores() -> int:
    """Return how many cores this process may use: its affinity, and its container's limit."""
    here = cores_allowed()
    quota = _CORES_LIMIT.read_text().split() if _CORES_LIMIT.exists() else ["max"]
    allowed = here if quota[0] == "max" else max(1, int(quota[0]) // int(quota[1]))
    return min(here, allowed)


def cores(usable: int, workers: int, paced: bool, gpus: int = 0) -> Finding:
    """Whether every worker here has a core to compute on."""
    have = f"{usable} core{'s' * (usable != 1)}"
    if not workers:
        return ready("cores", have)
    said = f"{have} for {workers} worker{'s' * (workers != 1)}"
    if workers <= usable:
        return ready("cores", said)
    if paced:
        return ready("cores", f"{said}; paced computation sleeps and needs none")
    if gpus:
        return limited(
            "cores",
            f"{said}: they start work on their GPUs late",
            f"start {usable} per machine, or give it more cores",
        )
    return limited(
        "cores",
        f"{said}: they slow each other's computation down",
        f"start {usable} (site.count), or --set train.compute_mode=paced for the network alone",
    )


def memory(free: float, needed: float, workers: int, where: str = "memory") -> Finding:
    """Whether the state of all workers here fits.

    Parameters
    ----------
    free, needed
        Bytes; ``needed`` by one worker.
    where
        "memory", or the GPU in question.
    """
    if not needed:
        return ready(where, f"{format_bytes(free, 3)} free")
    total = needed * workers
    said = f"{format_bytes(free, 3)} free, {format_bytes(total, 3)} needed besides activations"
    less = "end other programs, start fewer workers here, or choose a smaller model"
    if total > free:
        return missing(where, said, less)
    if total > _COMFORTABLE * free:
        return limited(where, f"{said}, which may not fit", less)
    return ready(where, said)


@dataclass(frozen=True)
class Card:
    """A GPU: its name, and bytes."""

    name: str
    free: float
    total: float


def cards(load: Callable[[str], Any] = import_module) -> list[Card]:
    """Return the GPUs that torch sees; their memory is asked for, which opens each."""
    torch = load("torch")
    if not torch.cuda.is_available():
        return []
    found = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        found.append(Card(torch.cuda.get_device_name(index), float(free), float(total)))
    return found


def gpus(
    seen: Sequence[Card],
    workers: int,
    load: Callable[[str], Any] = import_module,
    driver: Path = _DRIVER,
) -> Finding:
    """What GPUs there are, and whether torch can use those that the machine has."""
    torch = load("torch")
    if not seen:
        if not driver.exists():
            return ready("gpus", "none; workers compute on the CPU")
        if torch.version.cuda is None:
            return limited(
                "gpus",
                "an NVIDIA driver is here, but this torch is a build for CPUs",
                "install torch from PyTorch's CUDA wheels",
            )
        return limited(
            "gpus",
            f"an NVIDIA driver is here, but torch (CUDA {torch.version.cuda}) sees no GPU",
            "compare nvidia-smi with CUDA_VISIBLE_DEVICES, and update a driver older than CUDA",
        )
    names = ", ".join(
        f"{sum(card.name == name for card in seen)} x {name}"
        for name in dict.fromkeys(card.name for card in seen)
    )
    least = min(card.free for card in seen)
    said = f"{names}, at least {format_bytes(least, 3)} free, CUDA {torch.version.cuda}"
    said += _driver_version(torch)
    if workers > len(seen):
        return limited(
            "gpus",
            f"{said}; {workers} workers here share them, and gloo carries",
            f"--nproc-per-node {len(seen)} (and site.count to match) gives each its own, and NCCL",
        )
    return ready("gpus", said)


def _driver_version(torch: Any) -> str:
    """Say up to which CUDA the driver goes, where torch tells."""
    told = getattr(torch._C, "_cuda_getDriverVersion", None)
    if told is None:
        return ""
    number = told()
    return f", driver up to CUDA {number // 1000}.{number % 1000 // 10}"


def open_files(soft: int, hard: int, workers: int) -> Finding:
    """Whether a process may have a connection to every peer in every group; -1 is unlimited."""
    needed = _FILES_OF_ITS_OWN + _FILES_PER_PEER * workers
    said = f"{'unlimited' if soft < 0 else soft} per process"
    if soft < 0 or soft >= needed:
        return ready("open files", said)
    if 0 <= hard < needed:
        fix = f"raise the hard limit in /etc/security/limits.conf, then ulimit -n {needed}"
    else:
        fix = f"ulimit -n {needed}"
    return missing("open files", f"{said}, {needed} needed for {workers} workers", fix)


def limits_of_files() -> tuple[int, int]:
    """Return how many files this process may open, now and at most; -1 is unlimited."""
    try:
        import resource
    except ImportError:  # not on Windows
        return -1, -1
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def disk(folder: Path, needed: float, workers: int) -> Finding:
    """Whether the checkpoints of all workers here fit together.

    Parameters
    ----------
    folder
        Where they will lie; it need not be there yet.
    needed
        Bytes of one worker's.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        return missing("checkpoints", f"{there} cannot be written to", "name another folder")
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        return limited("checkpoints", f"{there}: {first_line(error)}", "name another folder")
    total = needed * workers * CHECKPOINTS
    said = f"{format_bytes(free, 3)} free in {there}, {format_bytes(total, 3)} needed"
    if total > free:
        return missing("checkpoints", said, "make room, or name another folder")
    return ready("checkpoints", said)
