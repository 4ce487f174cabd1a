"""What a machine runs, and which names are not to leave it."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from realrun.doctor.network import is_loopback, own_address

_DRIVER = Path("/proc/driver/nvidia/version")
_PROCESSOR = Path("/proc/cpuinfo")
NUMBERED = "MACHINE"
"""What stands for a machine until it has a number."""
_SETTINGS = ("NCCL_", "GLOO_", "TORCH_NCCL_", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")


def first_here() -> bool:
    """Whether this is the first rank on its machine."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def versions(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return what this machine runs, in addition to what doctor says of it.

    ``settings`` are environment variables of NCCL, gloo, CUDA and threads; no others are read.
    """
    return {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "libc": " ".join(platform.libc_ver()).strip(),
        "processor": _after(_PROCESSOR, "model name", ":"),
        "driver": _after(_DRIVER, "NVRM version", ":"),
        "cuda": torch.version.cuda or "",
        "settings": {
            key: value for key, value in sorted(environment.items()) if key.startswith(_SETTINGS)
        },
    }


def names(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what is not to be shared of this machine, and what stands for it."""
    host, first = socket.gethostname(), environment.get("MASTER_ADDR", "")
    found = dict.fromkeys([host, host.partition(".")[0], platform.node()], NUMBERED)
    address = own_address(environment)
    if address and not is_loopback(address):
        found[address] = NUMBERED
    if first and first not in found:
        found[first] = "first-machine"
    home = str(Path.home())
    if home != "/":
        found[home] = "~"
    return {name: instead for name, instead in found.items() if name not in ("", "localhost")}


def _after(file: Path, key: str, sign: str) -> str:
    """Return what stands after a key in the first line of a file that has it; "" without."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(sign)[2].strip() for line in lines if line.startswith(key)), "")
