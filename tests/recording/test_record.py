"""``realrun record``: torch programs of others, recorded; misuses in one line, and nothing left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.command_line import Command
from support.training_commands import gone

import realrun as package
from realrun.errors import RunError
from realrun.recording import run
from sim.recording.files import Recording, load
from sim.recording.plan import Computes, Starts, Waits

# DDP twice, on a process group that is recorded and on one that is not: the same parameters.
TRAINS = """
import os, signal, sys, time, torch, torch.distributed as dist
from torch.distributed import distributed_c10d as c10d
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
rank = dist.get_rank()
make = c10d._new_process_group_helper
recorded = dist.new_group()
c10d._new_process_group_helper = make.__wrapped__
plain = dist.new_group()
c10d._new_process_group_helper = make


def trained(group, steps):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.GELU(), torch.nn.Linear(64, 64))
    ddp = DistributedDataParallel(model, process_group=group, bucket_cap_mb=0.01)
    optimizer = torch.optim.AdamW(ddp.parameters())
    for step in range(steps):
        ddp(torch.full((8, 64), 1.0 + step + rank)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


without = trained(plain, 8)
with_it = trained(recorded, 8)
equal = all(map(torch.equal, without.parameters(), with_it.parameters()))
said = "equal" if equal else "NOT equal", type(recorded).__module__, type(plain).__module__
os.write(1, (" ".join(said) + "\\n").encode())  # at once: the other rank writes there, too
tensors = [torch.full((1000,), 0.5 + rank) for _ in range(2)]
for step in range(12):
    time.sleep(0.02)
    works = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
    for work in works:
        work.wait()
    if rank == 1 and step == 11 and os.environ.get("KILLED"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def record(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "trains.py").write_text(TRAINS)
    return subprocess.run(
        [
            *(sys.executable, "-m", "realrun", "record", *arguments),
            *("--", sys.executable, "trains.py"),
        ],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str, int]:
    """A program of which rank 1 is killed in its last step: folder, output, errors, status."""
    folder = tmp_path_factory.mktemp("killed")
    ran = record(folder, "--nproc", "2", "--out", "r.parquet", KILLED="1")
    return folder, ran.stdout, ran.stderr, ran.returncode


Killed = tuple[Path, str, str, int]


def test_recording_changes_no_bit_of_what_is_trained(killed: Killed) -> None:
    said = [line.split() for line in killed[1].splitlines() if "equal" in line]
    there = "torch.distributed.distributed_c10d"
    assert said == [["equal", "_bandwise_recorder", there]] * 2


def test_a_killed_worker_leaves_what_was_recorded_until_then(killed: Killed) -> None:
    folder, _, errors, status = killed
    assert status == 128 + 9
    assert "warning: rank 1 was killed by SIGKILL; what was recorded until then is kept" in errors
    assert sorted(path.name for path in folder.iterdir()) == ["r.parquet", "trains.py"]
    found: Recording = load(folder / "r.parquet")
    assert found.workers == 2
    assert found.about["killed"] == "rank 1 was killed by SIGKILL"


def test_a_step_is_what_the_program_does(killed: Killed) -> None:
    """Of the loop: two all-reduces are issued, and awaited in that order."""
    plan = load(killed[0] / "r.parquet").plan
    items = [item for item in plan.ranks[0].items if not isinstance(item, Computes)]
    starts = [item for item in items if isinstance(item, Starts)]
    assert {(each.operation, each.elements, each.dtype, each.over) for each in starts} == {
        ("all_reduce", 1000, "fp32", None)
    }
    waited = [item.number for item in items if isinstance(item, Waits)]
    assert sorted(waited) == [each.number for each in starts]


def test_what_was_recorded_is_simulated_on_any_network(killed: Killed, bandwise: Command) -> None:
    path = killed[0] / "r.parquet"
    ran = bandwise("simulate", path, "--bandwidth", "1Gbit/s", "--rtt", "80ms", "--sites", "8")
    assert ran.status == 0
    assert "recording, " in ran.out
    assert "8 workers do what 2 were recorded to do" in ran.out


def test_marking_a_step_does_nothing_in_a_program_that_is_not_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "_bandwise_recorder", raising=False)
    package.step()
    assert "_bandwise_recorder" not in sys.modules


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "COMMAND: missing; give the program behind --"),
        (["--", "pyhton3", "x.py"], 2, 'pyhton3: no such command; did you mean "python3'),
        (["--", "./nowhere/program"], 2, "./nowhere/program: no such command"),
        (["--", "true"], 2, "the program called no collective of torch.distributed"),
        (["--", "sh", "-c", "exit 3"], 2, "ended with status 3 before it called a collective"),
        (
            ["--nproc", "2", "--", sys.executable, "-c", "raise SystemExit('address in use')"],
            2,
            "ended with status 1 before it called a collective",
        ),
        (["--nproc", "0", "--", "true"], 2, "--nproc: 0: must be at least 1"),
        (["--steps", "0", "--", "true"], 2, "--steps: 0: must be at least 1"),
        (["--out", "x.csv", "--", "true"], 2, '--out: "x.csv" must end in .parquet'),
        (["--join", "nowhere"], 2, "--join: there is no folder nowhere"),
        (["--join", "."], 2, "called no collective"),
        (["--join", ".", "--", "true"], 2, "--join: runs no command"),
    ],
)
def test_a_misuse_is_one_line_and_nothing_is_left(
    realrun: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    status: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = realrun("record", *arguments)
    assert ran.status == status
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_ends_the_recording_in_a_line_and_not_the_program(
    tmp_path: Path,
) -> None:
    """Here a file may not grow beyond 4 KiB; the program prints its last line all the same."""
    (tmp_path / "trains.py").write_text(TRAINS + "\nos.write(1, b'to the end\\n')\n")
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "realrun", "record", "--nproc", "2", "--out", "r.parquet"),
            *("--", "sh", "-c", 'ulimit -f 4; exec "$0" trains.py', sys.executable),
        ],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 2
    assert ran.stdout.splitlines().count("to the end") == 2
    (line,) = (each for each in ran.stderr.splitlines() if each.startswith("realrun: "))
    assert "the recording could not be written while the program ran" in line
    assert [path.name for path in tmp_path.iterdir()] == ["trains.py"]


def test_steps_that_are_enough_end_a_program_that_ignores_sigterm(tmp_path: Path) -> None:
    (tmp_path / "stays.py").write_text(
        "import signal, time, torch, torch.distributed as dist\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        'dist.init_process_group("gloo")\n'
        "while True:\n    time.sleep(0.01)\n    dist.all_reduce(torch.ones(10))\n"
    )
    arguments = ["record", "--nproc", "2", "--steps", "5", "--out", "r.parquet"]
    ran = subprocess.run(
        [sys.executable, "-m", "realrun", *arguments, "--", sys.executable, "stays.py"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.parquet", "stays.py"]
    assert load(tmp_path / "r.parquet").plan.steps == 5


def test_a_rank_that_runs_on_after_another_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_LATE_S", 0.1)
    told: list[str] = []
    command = ["sh", "-c", '[ "$RANK" = 0 ] || sleep 2']
    with pytest.raises(RunError, match="called no collective"):
        run.record(command, 2, tmp_path, None, told.append)
    (line,) = told
    assert line.startswith("rank 1 still runs 0.1 s after rank 0 has ended; if it hangs, kill ")


def test_what_the_program_has_left_behind_is_ended(
    realrun: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    started = (
        "import os,sys; os.setsid(); print(os.getpid(), flush=True); import time; time.sleep(600)"
    )
    (tmp_path / "leaves.sh").write_text(
        f'"{sys.executable}" -c "{started}" > number &\nwhile [ ! -s number ]; do sleep 0.1; done\n'
    )
    assert realrun("record", "--", "sh", "leaves.sh").status == 2
    number = int((tmp_path / "number").read_text())
    assert gone([number])


def test_a_recording_process_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    """Its child is one that ignores SIGTERM, and that has a child in a session of its own."""
    (tmp_path / "stays.sh").write_text(
        'trap "" TERM\nsetsid sleep 600 &\necho $! > second\necho $$ > first\nsleep 600\n'
    )
    recording = [sys.executable, "-m", "realrun", "record", "--", "sh", "stays.sh"]
    process = subprocess.Popen(recording, cwd=tmp_path)
    files = [tmp_path / "second", tmp_path / "first"]
    while not all(path.exists() and path.read_text().strip() for path in files):
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert gone([int(path.read_text()) for path in files])
