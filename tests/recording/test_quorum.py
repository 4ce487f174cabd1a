"""A quorum between replicas, as torchft has it, is recorded as control messages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from sim.questions.replications import predicted
from sim.recording.files import load as recorded
from sim.scenario import load

WAITED_S = 0.05  # for the quorum, where it is recorded

# What the recorder knows of torchft: these names, and that a process group is made by a quorum.
GROUPS = "from torch.distributed.distributed_c10d import ProcessGroup as BaseProcessGroup\n"
MANAGER = f"""
import os, time
import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup, ProcessGroupGloo
from torchft import process_group

rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
store = dist.TCPStore(*address, size, rank == 0)

class Reconfigurable:
    _pg = None

    def configure(self):
        own = process_group.BaseProcessGroup(store, rank, size)
        own._set_default_backend(ProcessGroup.BackendType.GLOO)
        gloo = ProcessGroupGloo(dist.PrefixStore("gloo", store), rank, size)
        own._register_backend(torch.device("cpu"), ProcessGroup.BackendType.GLOO, gloo)
        self._pg = own

class Manager:
    def __init__(self, use_async_quorum):
        self._pg, self._use_async_quorum = Reconfigurable(), use_async_quorum

    def start_quorum(self):
        if self._pg._pg is None:
            self._pg.configure()
        if not self._use_async_quorum:
            self.wait_quorum()

    def wait_quorum(self):
        time.sleep({WAITED_S})
"""
TRAINS = """
import sys
import torch
from torchft.manager import Manager

manager = Manager(sys.argv[1] == "async")
for _ in range(6):
    manager.start_quorum()
    if sys.argv[1] == "async":
        manager.wait_quorum()
    manager._pg._pg.allreduce([torch.ones(10)]).wait()
manager._pg._pg = None  # gloo's threads end before the interpreter does
"""


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_quorum_takes_a_round_trip_of_the_network_that_is_asked_for(
    tmp_path: Path, how: str
) -> None:
    (tmp_path / "torchft").mkdir()
    files = {"__init__.py": "", "process_group.py": GROUPS, "manager.py": MANAGER}
    for name, text in files.items():
        (tmp_path / "torchft" / name).write_text(text)
    (tmp_path / "trains.py").write_text(TRAINS)
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "realrun", "record", "--nproc", "2", "--out", "r.parquet"),
            *("--", sys.executable, "trains.py", how),
        ],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    plan = recorded(tmp_path / "r.parquet").plan
    assert plan.agreements == 1
    assert plan.step_s < WAITED_S
    near, far = (
        predicted(load(tmp_path / "r.parquet", {"--rtt": rtt})).figures.inner_step_s
        for rtt in ("0 s", "2 s")
    )
    # The quorum's round trip, and the two one-way latencies of a ring of two workers.
    assert far - near == pytest.approx(2 + 2, rel=0.05)
