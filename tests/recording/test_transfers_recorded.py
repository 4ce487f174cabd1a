"""send and recv of torch, recorded with their direction and replayed so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from support.recordings import Did, written

from sim.questions.replications import predicted
from sim.recording.files import load as recorded
from sim.recording.plan import Starts
from sim.runtime import simulate
from sim.scenario import ScenarioError, load

# A pipeline of two stages, an exchange in which both send first, and who is asked by anyone.
PIPELINE = """
import time, torch, torch.distributed as dist
dist.init_process_group("gloo")
rank = dist.get_rank()
large, small = torch.zeros(50_000), torch.zeros(10)
for step in range(8):
    time.sleep(0.02)
    if rank == 0:
        dist.send(large, 1)
        dist.recv(small, 1)
    else:
        dist.recv(large)
        dist.send(small, 0)
    other = torch.zeros(500)
    both = [dist.isend(torch.zeros(500), 1 - rank), dist.irecv(other, 1 - rank)]
    for each in both:
        each.wait()
    dist.broadcast(small, 1)
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "pipeline.py").write_text(PIPELINE)
    command = [sys.executable, "-m", "realrun", "record", "--nproc", "2", "--out", "r.parquet"]
    ran = subprocess.run(
        [*command, "--", sys.executable, "pipeline.py"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    return folder / "r.parquet"


def test_who_sends_to_whom_is_recorded(pipeline: Path) -> None:
    plan = recorded(pipeline).plan
    for each in plan.ranks:
        starts = [item for item in each.items if isinstance(item, Starts)]
        sent = sorted((*item.sends, item.elements) for item in starts if item.sends)
        assert sent == [(0, 1, 500), (0, 1, 50_000), (1, 0, 10), (1, 0, 500)]
        assert [item.operation for item in starts if not item.sends] == ["broadcast_from_1"]


def test_what_is_sent_takes_the_uplink_of_who_sends(pipeline: Path, tmp_path: Path) -> None:
    """200 kB go from rank 0 to rank 1: a slow uplink of rank 1 does not matter to them."""

    def step_s(slow: int) -> float:
        file = tmp_path / f"slow-{slow}.toml"
        sites = "".join(
            f'[[site]]\nname = "s{rank}"\nuplink = "{1 if rank == slow else 100} Mbit/s"\n'
            for rank in range(2)
        )
        file.write_text(
            f'[method]\nname = "recording"\npath = "{pipeline}"\n{sites}'
            '[network]\nbandwidth = "100 Mbit/s"\nrtt = "0 s"\n[network.collective]\n'
            'algorithm = "gloo"\n'
        )
        return predicted(load(file)).figures.inner_step_s

    assert step_s(0) > 1.6  # 200 kB at 1 Mbit/s
    assert step_s(1) < 0.2


def test_sends_are_kept_on_the_workers_that_were_recorded(pipeline: Path) -> None:
    found = load(str(pipeline), {"--bandwidth": "1Gbit/s"})
    trace = simulate(found, rounds=3)
    assert {row.group for row in trace.rows if row.bytes} == {"main", "main 0 to 1", "main 1 to 0"}
    with pytest.raises(ScenarioError, match=r"recorded on 2 workers, not 4, and rank 0 sends to"):
        load(str(pipeline), {"--bandwidth": "1Gbit/s", "--sites": "4"})


def test_recordings_of_before_are_replayed_as_a_broadcast(tmp_path: Path) -> None:
    steps: list[list[Did]] = [[("computes", 0.1), ("sends", "broadcast", 1e6), ("waits", 0, 0)]]
    path = written(tmp_path / "r.parquet", [steps * 3] * 2)
    assert {row.operation for row in simulate(load(str(path)), rounds=2).rows if row.bytes} == {
        "broadcast"
    }


def test_a_broadcast_needs_the_rank_that_broadcasts(tmp_path: Path) -> None:
    step: list[Did] = [("computes", 0.1), ("sends", "broadcast_from_2", 1e6), ("waits", 0, 0)]
    path = written(tmp_path / "r.parquet", [[step] * 3] * 3)
    assert load(str(path), {"--sites": "5"}).workers
    with pytest.raises(ScenarioError, match=r"and rank 2 broadcasts: keep 3 or more"):
        load(str(path), {"--sites": "2"})
