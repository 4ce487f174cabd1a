"""A lab's ranks for a benchmark: a process in every namespace, and what each of them says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from realrun.lab import Lab
from realrun.lab.devices import DEVICE, address


def said_by_ranks(lab: Lab, arguments: Sequence[str]) -> list[Any]:
    """Run a Python script once per rank; return the JSON that each prints, or None."""
    common = {
        **os.environ,
        "MASTER_ADDR": address(0),
        "MASTER_PORT": "29500",
        "GLOO_SOCKET_IFNAME": DEVICE,
        "OMP_NUM_THREADS": "1",
        "TORCH_CPP_LOG_LEVEL": "FATAL",  # it looks for names of addresses that have none
        "WORLD_SIZE": str(lab.topology.workers),
    }
    processes = [
        namespace.call(
            subprocess.Popen,
            [sys.executable, *arguments],
            env={**common, "RANK": str(rank)},
            stdout=subprocess.PIPE,
        )
        for rank, namespace in enumerate(lab.namespaces)
    ]
    printed = [process.communicate()[0] for process in processes]
    return [json.loads(text) if text else None for text in printed]
