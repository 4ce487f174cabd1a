"""What goes wrong in a run ends it soon, with one line that names rank and cause."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep

import pytest

pytest.importorskip("torch")

from support.command_line import Command
from support.ended_commands import COMMAND, ended, said
from support.sockets import listening, reachable_from_outside
from support.training_commands import SCENARIO, begun, gone, newest, workers_of

from realrun.errors import AgreedError, RunError
from realrun.processes import launch, rendezvous
from realrun.state.checkpoint import Checkpoints
from realrun.state.resuming import identity
from sim.scenario import loaded

METHOD = 'name = "diloco"\nsync_every = 2\ncomm_dtype = "fp32"'


def written(folder: Path) -> Path:
    path = folder / "scenario.toml"
    path.write_text(SCENARIO.format(method=METHOD, steps=40))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path)


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield int(listening.getsockname()[1])


def free_port() -> int:
    with taken_port() as port:
        return port


@contextmanager
def training(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A run that would never end, and its workers, once it has a checkpoint."""
    file, folder = tmp_path / "endless.toml", tmp_path / "checkpoints"
    file.write_text(SCENARIO.format(method=METHOD, steps=1_000_000))
    process = begun(file, folder)
    try:
        while not newest(folder):
            assert process.poll() is None
            sleep(0.05)  # who looks all the time keeps a processor from it
        workers = workers_of(process.pid)
        assert len(workers) == 2
        yield process, workers
    finally:
        process.kill()  # if it has not ended; its workers end with it
        process.communicate()


def test_a_killed_worker(tmp_path: Path) -> None:
    with training(tmp_path) as (process, workers):
        os.kill(workers[0], signal.SIGKILL)
        output, errors = process.communicate(timeout=60)
    assert "rank 0 was killed by SIGKILL" in said(
        subprocess.CompletedProcess([], process.returncode, output, errors)
    )
    assert gone(workers)


def test_nobody_outside_reaches_a_run_and_interrupted_it_leaves_nobody_behind(
    tmp_path: Path,
) -> None:
    with training(tmp_path) as (process, workers):
        ours = [process.pid, *workers]
        assert len(listening(ours)) >= 1 + 2 * len(workers)  # the store, and each one's groups
        assert not reachable_from_outside(ours)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert [line for line in errors.splitlines() if "tokens/s" not in line] == [
        "realrun: interrupted"
    ]
    assert gone(workers)


@pytest.mark.parametrize(
    ("rank", "message"),
    [
        (0, "rank 1 of 2 did not arrive at 127.0.0.1:{port} within 2 s"),
        (1, "rank 1: rank 0 could not be reached at 127.0.0.1:{port} within 2 s"),
    ],
)
def test_a_peer_that_never_arrives(file: Path, rank: int, message: str) -> None:
    port = free_port()
    alone = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    done = ended(str(file), "--timeout", "2 s", environment={**alone, "MASTER_PORT": str(port)})
    assert message.format(port=port) in said(done)


def test_a_port_in_use(file: Path) -> None:
    with taken_port() as port:
        done = ended(str(file), "--timeout", "5 s", environment={"MASTER_PORT": str(port)})
    assert f"rank 0: port {port} is in use" in said(done)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("http", "MASTER_PORT=http: must be 1 to 65535"),
        ("65536", "MASTER_PORT=65536: must be 1 to 65535"),
    ],
)
def test_no_port(asked: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_PORT", asked)
    with pytest.raises(RunError) as refused, launch.on_loopback():
        pass
    assert message in str(refused.value)


def test_the_port_of_rank_0_is_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even before rank 0 is there, which takes seconds; and then it has it."""
    monkeypatch.delenv("MASTER_PORT", raising=False)
    with launch.on_loopback() as held, socket.socket() as other:
        for name, value in launch.environment_of(held).items():
            monkeypatch.setenv(name, value)
        place = held.getsockname()
        with pytest.raises(OSError, match="in use"):
            other.bind(place)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(place)
        monkeypatch.setenv(launch.STORE, str(os.dup(held.fileno())))
        held.close()
        store = rendezvous._shared_store(5, keep=True)
        store.set("key", "value")
        assert rendezvous._shared_store(5).get("key") == b"value"
        assert (place[0], place[1]) in listening([os.getpid()])
        assert not reachable_from_outside([os.getpid()])


def test_network_cards_that_were_chosen_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_PORT", raising=False)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    monkeypatch.delenv("NCCL_SOCKET_IFNAME", raising=False)
    monkeypatch.setattr(launch.sys, "platform", "darwin")
    with launch.on_loopback() as held:
        found = launch.environment_of(held)
    assert (found["GLOO_SOCKET_IFNAME"], found["NCCL_SOCKET_IFNAME"]) == ("eth7", "lo0")


def test_a_disk_that_is_full(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"

    def small_files() -> None:  # a write beyond this fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    done = ended(
        str(file), "--checkpoints", str(folder), "--checkpoint-every", "3", preexec_fn=small_files
    )
    line = said(done)
    assert "rank 0: checkpoint " in line
    assert "could not write its 0." in line
    assert "File too large" in line
    assert not list(folder.iterdir())  # no part of a file is left


def mounts_in_private(folder: Path) -> bool:
    """Whether a small disk can be mounted where nobody else sees it."""
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def running(word: str) -> list[int]:
    """Processes with a word in their command line, as /proc tells."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if word in entry.read_text():
                found.append(int(entry.parent.name))
    return found


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    folder, listing = tmp_path / "checkpoints", tmp_path / "listing"
    folder.mkdir()
    if not mounts_in_private(folder):
        pytest.skip("needs root, and unshare -m: mounts a small disk that only it sees")
    file = tmp_path / "endless.toml"
    file.write_text(SCENARIO.format(method=METHOD, steps=1_000_000))
    run = [*COMMAND, str(file), "--checkpoints", str(folder), "--checkpoint-every", "3"]
    # The folder is on the disk while this shell lives, so it looks itself. $0 is the disk's size.
    # Three rounds have room, until somebody else writes there.
    whole = " && ".join(f"ls {folder}/round-*.rank-0000{rank}.*" for rank in range(2))
    fill = f"until {whole} 2> /dev/null; do sleep 0.1; done; yes > {folder}/other"
    script = (
        f'mount -t tmpfs -o size="$0" tmpfs {folder}; ({fill}) > /dev/null 2>&1 & '
        f'"$@"; end=$?; ls -A {folder} > {listing}'
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{script}; exit $end", "4m", *run],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    line = said(done)
    assert re.search(r"rank \d: checkpoint .*: could not write its 0\.\d MB: ", line)
    assert "No space left on device" in line
    *kept, other = sorted(listing.read_text().split(), key=lambda name: name == "other")
    rounds = {name.partition(".")[0] for name in kept}
    assert kept == sorted(
        f"{name}.rank-{rank:05d}.safetensors" for name in rounds for rank in range(2)
    )
    assert other == "other"
    assert rounds
    assert gone(running(str(file)))


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of a run to its end."""
    place = tmp_path_factory.mktemp("once")
    folder = place / "checkpoints"
    done = ended(str(written(place)), "--checkpoints", str(folder), "--checkpoint-every", "8")
    assert done.returncode == 0, done.stderr
    assert newest(folder) == 20  # 40 steps
    return folder


@pytest.fixture
def saved(once: Path, tmp_path: Path) -> Path:
    """A copy of them, to be spoilt."""
    return Path(shutil.copytree(once, tmp_path / "checkpoints"))


def test_a_truncated_checkpoint(file: Path, saved: Path) -> None:
    path = saved / "round-00000020.rank-00001.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    line = said(ended(str(file), "--checkpoints", str(saved)))
    assert "rank 1: checkpoint " in line
    assert f"{path.name}: cannot be read, {len(whole) // 2} bytes are there" in line
    for other in saved.glob("round-00000020.*"):
        other.unlink()
    done = ended(str(file), "--checkpoints", str(saved), "--checkpoint-every", "8")
    assert done.returncode == 0, done.stderr
    assert "Resumed at round 16" in done.stdout


def test_checkpoints_of_another_run(file: Path, saved: Path) -> None:
    line = said(ended(str(file), "--checkpoints", str(saved), "--set", "site.count=3"))
    assert "workers was 2, here it is 3" in line
    for setting, message in {
        "method.sync_every=4": "method.sync_every was 2, here it is 4",
        "train.learning_rate=0.02": "train.learning_rate was 0.01, here it is 0.02",
    }.items():
        asked = str(file), {}, [setting]
        own = identity(loaded(*asked))
        with pytest.raises(AgreedError) as refused:
            Checkpoints(saved, 0, 2, own, lambda value: [value]).latest()
        assert message in str(refused.value)


def test_a_missing_checkpoint_of_one_rank(file: Path, saved: Path) -> None:
    for path in saved.glob("*.rank-00001.*"):
        path.unlink()
    line = said(ended(str(file), "--checkpoints", str(saved)))
    assert "no round in common" in line
    assert "rank 1" in line


def test_a_first_checkpoint_that_was_broken_off_begins_anew(file: Path, saved: Path) -> None:
    first, second = sorted({path.name.partition(".")[0] for path in saved.glob("round-*")})[:2]
    for path in saved.glob("round-*"):
        if path.name.startswith(second) or ".rank-00001." in path.name:
            path.unlink()
    assert [path.name.partition(".")[0] for path in saved.iterdir()] == [first]
    done = ended(str(file), "--checkpoints", str(saved))
    assert done.returncode == 0, done.stderr
    assert "Resumed" not in done.stdout


# A module of the user's, to get into the workers: a thread of the backend's stays in Python for
# ever. An interpreter that finalises ends such a thread, and with it the process: std::terminate.
LINGERING = """
import threading, time
from pathlib import Path
import torch
import torch.distributed as dist
from torch import nn

def linger(done):
    if threading.current_thread() is not threading.main_thread():
        Path(__file__).with_suffix(".seen").touch()
        while True:
            time.sleep(0.001)

def made():
    global group, work  # destroying a group would wait for its threads
    group = dist.new_group()
    time.sleep(dist.get_rank())  # so that rank 0 does not find it done
    work = dist.all_reduce(torch.ones(1), group=group, async_op=True)
    if dist.get_rank() == 0:
        work.get_future().add_done_callback(linger)
    return [nn.Sequential(nn.Embedding(256, 8), nn.Linear(8, 256))]
"""


def test_a_worker_ends_well_beside_a_thread_of_the_backends(file: Path, tmp_path: Path) -> None:
    (tmp_path / "lingering.py").write_text(LINGERING)
    size = 256 * 8 + 8 * 256 + 256
    model = f'module = "lingering:made"\nlayer_parameters = [{size}]\ncontext = 16\n'
    head, _, rest = file.read_text().partition("[model]\n")
    file.write_text(f"{head}[model]\n{model}{rest[rest.index('param_dtype') :]}")
    done = ended(str(file), "--allow-code")
    assert (tmp_path / "lingering.seen").exists()
    assert done.returncode == 0, done.stderr
    assert "Measured on" in done.stdout  # nothing that was printed is lost


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nproc", "3"], "--nproc: 3: the scenario has 2 workers"),
        (["--nproc", "2", "--set", "site.count=8"], "--nproc: 2: the scenario has 8 workers"),
        (["--device", "tpu"], '--device: unknown "tpu"; did you mean "cpu"?'),
        (["--backend", "glo"], '--backend: unknown "glo"; did you mean "gloo"?'),
        (["--timeout", "5 parsecs"], '--timeout: "5 parsecs": unknown unit'),
        (["--checkpoint-every", "0"], "--checkpoint-every: 0: must be at least 1"),
        (["--save", "model.pt"], '--save: "model.pt" must end in .safetensors'),
        (["--set", "train.compute_mode=fast"], "must be real or paced"),
        (["--set", "train.outer_state=disk"], "must be device or host"),
    ],
)
def test_what_cannot_be_is_refused_before_workers_are_started(
    file: Path, arguments: list[str], message: str, realrun: Command
) -> None:
    ran = realrun("train", file, *arguments)
    assert ran.status == 2
    assert ran.err.startswith("realrun: error: ")
    assert message in ran.err
    assert ran.err.count("\n") == 1


def test_what_workers_refuse_is_one_line(file: Path) -> None:
    assert "--start: no.safetensors: " in said(ended(str(file), "--start", "no.safetensors"))
