"""Any command in a lab: told who it is, counted, and ended with all that it has started.

The check of the network is left out: nothing here depends on how fast the machine is.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")

from support.labs import (
    NETWORK,
    PATIENCE_S,
    ROOT,
    Started,
    marked,
    refusal,
    within,
)
from support.network_names import everywhere, networks
from support.training_commands import children

from realrun.errors import RunError
from realrun.lab.command_report import report
from realrun.lab.ends import Ended, Ran
from realrun.lab.told import checked, filled_in
from realrun.lab.topology import topology
from realrun.lab.traffic import Traffic
from sim.figures.pictures.traffic import traffic
from sim.questions.replications import predicted
from sim.recording.files import load as recorded
from sim.scenario import load
from sim.units import parse_rate

WHY_NOT = refusal()
needs_lab = pytest.mark.skipif(bool(WHY_NOT), reason=f"NO LAB HERE: {WHY_NOT}")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    begun: list[Started] = []

    def start(script: str, *options: str) -> Started:
        begun.append(Started(tmp_path, script, *options))
        return begun[-1]

    yield start
    for each in begun:
        each.process.kill()
        each.process.communicate()


# -- what can be said before anything is built --------------------------------------------
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ([""], "the command after -- is empty"),
        (["pyhton", "x.py"], 'pyhton: no such command; did you mean "python"?'),
        (["train.sh"], "train.sh: no such command; a file of this folder is written ./train.sh"),
        (["./train.sh"], "./train.sh: is not executable; chmod +x it"),
        (["./folder"], "./folder: is a folder"),
    ],
)
def test_a_command_that_cannot_be_started_is_refused_in_a_line(
    command: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.sh").write_text("echo\n")
    Path("folder").mkdir()
    with pytest.raises(RunError) as refused:
        checked(command)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_only_rank_and_address_are_filled_in_and_a_near_miss_is_named() -> None:
    command = ["sh", "-c", "{rank} {address} {Rank} {json: 1} ${HOME} {}"]
    assert filled_in(command, 1)[2] == "1 198.18.0.2 {Rank} {json: 1} ${HOME} {}"
    assert checked(command) == '{Rank} is not filled in; did you mean "rank"?'
    assert checked(["sh", "-c", "{rank} {x} {json: 1}"]) == ""


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["lab", "quick_start", "python", "x.py"], 'unexpected "python"; a program to run goes '),
        (["lab", "quick_start", "python", "--lr", "1"], 'unexpected "python"; a program to run '),
        (["lab", "quick_start", "--"], "there is no command after --; write it like: "),
        (["lab", "quick_start", "--plain"], "--plain: goes with a command after --; "),
        (["lab", "quick_start", "--save", "x", "--", "true"], "--save: is of realrun's own "),
        (["lab", "quick_start", "--out", "x.txt", "--", "true"], '--out: "x.txt" must end in '),
        (["lab", "quick_start", "--sites", "40", "--", "true"], "site.count: 40 workers: a lab "),
        (
            ["lab", "quick_strat", "--", "true"],
            "quick_strat: no such file, and no bundled scenario; ",
        ),
    ],
)
def test_a_command_line_that_is_wrong_is_one_line(
    words: list[str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from realrun.cli.app import app

    with pytest.raises(SystemExit) as end:
        app(words)
    assert end.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"realrun: error: {line}"), said


# -- the network while it runs -------------------------------------------------------------
def test_links_of_a_command_vary_as_the_scenario_says_and_a_background_is_taken_off() -> None:
    shape = ['network.profile=[["0 s", 1.0], ["2 s", 0.0], ["5 s", 2.0]]']
    given = load("quick_start", {}, [*NETWORK, *shape, "network.profile_period=60 s"])
    found = topology(given, varying=True)
    assert {profile.factors for _, profile in found.profiles} == {(1.0, 0.0, 2.0)}
    assert len(found.profiles) == len(found.links)
    assert found.at_most.rate(0, 1) == 2 * found.rate(0, 1)
    shared = topology(load("quick_start", {}, [*NETWORK, "network.background=20 %"]), varying=True)
    assert shared.rate(0, 1) == pytest.approx(parse_rate("40 Mbit/s"))
    assert shared.profiles == ()
    with pytest.raises(RunError, match="links of a lab do not vary where realrun trains"):
        topology(given)


def test_the_report_names_ends_bytes_and_what_was_left() -> None:
    traffic = Traffic(2, [0, 5, 0, 0], 100.0)
    traffic.sample([0, 1_000_005, 0, 0], 101.0)
    traffic.sample([0, 1_500_005, 7, 0], 101.1)
    ends = [Ended(0, 3, 1.0), Ended(1, -15, 1.1, by_lab=True, left=["sleep"])]
    found = topology(load("quick_start", {}, NETWORK))
    made = report(Ran(ends, traffic), found, ["x"], cores=1)
    there, back = made.data["pairs"]
    assert (there["sent_bytes"], back["sent_bytes"]) == (1_500_000, 7)
    assert there["most_bytes_per_s"] == 1e6  # an instant is no second
    assert [each["sent_bytes"] for each in made.data["traffic"]] == [1_000_000, 500_000, 7]
    assert made.data["workers"][1]["ended"] == "ended by the lab (SIGTERM)"
    said = " ".join(made.data["remarks"])
    assert "2 workers share 1 cores" in said
    full = report(Ran(ends, traffic, busy_cores=1.9), found, ["x"], cores=2).data
    assert full["busy_cores"] == 1.9
    assert any(each.startswith("1.9 of 2 cores were busy: ") for each in full["remarks"])
    assert "Rank 1 ended and left 1 process (sleep)" in said


def test_the_picture_has_a_line_per_pair_with_gaps_where_nothing_was_sent() -> None:
    from matplotlib.figure import Figure

    def part(begin: float, end: float, sent: int) -> dict[str, object]:
        pair = {"sender": "paris", "receiver": "osaka"}
        return {"begin_s": begin, "end_s": end, "sent_bytes": sent, **pair}

    parts = [part(1.0, 2.0, 1_000_000), part(3.0, 3.5, 1_000_000)]
    ax = traffic(parts, Figure().subplots(), 4.0)
    (line,) = ax.get_lines()
    assert line.get_label() == "paris to osaka"
    assert list(line.get_xdata()) == [0.0, 1.0, 2.0, 3.0, 3.5, 4.0]
    assert list(line.get_ydata()) == [0.0, 8.0, 0.0, 16.0, 0.0, 0.0]  # Mbit/s, from there on
    assert ax.get_ylabel() == "sent (Mbit/s)"


# -- in a lab ------------------------------------------------------------------------------
WHO = "$RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $MASTER_ADDR"
TELL = f'echo "{WHO} {{address}} {{x}}"; echo to-err >&2'
SEND = """
exec "$1" - <<'PROGRAM'
import os, socket, time
rank = int(os.environ["RANK"])
with socket.create_server(("0.0.0.0", 29400)) as listener:  # the same port on both
    if rank == 0:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(bytes(1_000_000))
    else:
        while True:
            try:
                connection = socket.create_connection(("198.18.0.1", 29400))
                break
            except OSError:
                time.sleep(0.05)
        with connection:
            left = 1_000_000
            while left:
                left -= len(connection.recv(65536))
PROGRAM
"""


@needs_lab
def test_a_command_is_told_who_it_is_and_its_lines_have_the_rank(
    start: Callable[..., Started], tmp_path: Path
) -> None:
    """Both listen on one port, and the bytes are counted."""
    files = ("--out", "sent.json", "--picture", "sent.png")
    status, output, said = start(f"{TELL}; {SEND}", *files).ended()
    assert status == 0, said
    for rank, own in ((0, "198.18.0.1"), (1, "198.18.0.2")):
        assert f"[{rank}] {rank} 2 0 1 198.18.0.1 {own} {{x}}" in output.splitlines()
        assert f"[{rank}] to-err" in said
    record = json.loads((tmp_path / "sent.json").read_text())
    there, *_ = record["pairs"]
    assert (there["sender"], there["receiver"]) == ("site-1", "site-2")
    assert there["sent_bytes"] == 1_000_000
    assert sum(part["sent_bytes"] for part in record["traffic"]) == 1_000_000
    assert [each["status"] for each in record["workers"]] == [0, 0]
    assert (tmp_path / "sent.png").read_bytes().startswith(b"\x89PNG")


REDUCES = """
import os, torch, torch.distributed as dist
dist.init_process_group("gloo")
for _ in range(6):
    dist.all_reduce(torch.ones(50_000))
dist.destroy_process_group()
"""


@needs_lab
def test_ranks_that_are_recorded_in_a_lab_make_one_recording(
    start: Callable[..., Started], tmp_path: Path
) -> None:
    """Each rank has a recorder of its own, and the file is replayed over another network."""
    (tmp_path / "train.py").write_text(REDUCES)
    status, _, said = start('"$1" -m realrun record --out both.parquet -- "$1" train.py').ended()
    assert status == 0, said
    assert [each.name for each in tmp_path.glob("both*")] == ["both.parquet"]
    plan = recorded(tmp_path / "both.parquet").plan
    assert plan.workers == 2
    assert plan.elements == 50_000
    found = predicted(load(tmp_path / "both.parquet", settings=["network.bandwidth=1 Mbit/s"]))
    assert found.figures.inner_step_s > 1.6  # 200 kB over 1 Mbit/s


@needs_lab
def test_torchrun_in_every_namespace_makes_one_group_of_all_its_processes(
    start: Callable[..., Started], tmp_path: Path
) -> None:
    """Two processes in each of two namespaces, which meet at the first one's.

    Its agents may complain at their end that another one has ended before.
    """
    (tmp_path / "train.py").write_text(REDUCES + "print(os.environ['WORLD_SIZE'], flush=True)\n")
    torchrun = (
        '"$1" -m torch.distributed.run --nnodes 2 --node-rank {rank} --nproc-per-node 2 '
        "--master-addr 198.18.0.1 train.py"
    )
    lab = start(torchrun, "--out", "sent.json", "--plain")
    output, errors = lab.process.communicate(timeout=PATIENCE_S)
    assert output.splitlines().count("4") == 4, errors
    assert within(10, lambda: not marked(lab.mark)), marked(lab.mark)
    pairs = json.loads((tmp_path / "sent.json").read_text())["pairs"]
    assert sum(each["sent_bytes"] for each in pairs) > 6 * 200_000


@needs_lab
def test_with_json_standard_output_is_the_report_alone(start: Callable[..., Started]) -> None:
    status, output, said = start("echo line of {rank}", "--json", "--plain").ended()
    assert status == 0
    assert [each["status"] for each in json.loads(output)["workers"]] == [0, 0]
    assert sorted(said) == ["line of 0", "line of 1"]


MISUSES = {
    # a rank that fails ends the other, which ignores SIGTERM
    "exits": ('[ {rank} = 1 ] && exit 7; trap "" TERM; while :; do sleep 1; done', 7,
              "realrun: rank 1 ended with status 7"),
    "detaches": ("[ {rank} = 0 ] && setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 1; done' "
                 "> /dev/null 2>&1 & true", 0, ""),
    "kills all that it may": ('[ {rank} = 1 ] && sleep 1000; sleep 0.5; kill -9 -1; sleep 9', 2,
                              " was killed by SIGKILL"),
    "fills a disk": ("mount -t tmpfs -o size=64k none /mnt && head -c 1M /dev/zero > /mnt/x", 1,
                     "No space left on device"),
    "kills its keeper": ("kill -9 1; kill -9 0 $$", 2, "was killed by SIGKILL"),
    "asks for a GPU": ('"$1" -c "raise SystemExit(\'no CUDA GPUs are available\')"', 1,
                       "no CUDA GPUs are available"),
    "reads standard input": ('read line || echo "nothing to read" >&2', 0, "nothing to read"),
    "never calls a collective": ("true", 0, ""),
}  # fmt: skip


@needs_lab
@pytest.mark.parametrize("misuse", MISUSES)
def test_a_misuse_ends_with_a_line_and_leaves_nothing(
    misuse: str, start: Callable[..., Started]
) -> None:
    script, expected, line = MISUSES[misuse]
    status, output, said = start(script).ended()
    assert status == expected, said
    assert not line or any(line in each for each in said), said
    assert "Measured in a lab on this machine" in output  # the report is printed all the same
    if misuse == "detaches":
        assert "Rank 0 ended and left 2 processes (sh, sleep), now ended, too" in " ".join(
            output.split()
        )
    if misuse == "never calls a collective":
        assert "Nothing was sent between workers" in output
    if misuse in ("fills a disk", "asks for a GPU", "reads standard input"):
        assert any(each.startswith(("[0] ", "[1] ")) and line in each for each in said)


@needs_lab
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ended_from_outside_it_ends_all_that_was_started(
    number: signal.Signals, start: Callable[..., Started]
) -> None:
    """Also what ignores SIGTERM, and what was detached."""
    lab = start('trap "" TERM; setsid sleep 1000 & echo HERE; while :; do sleep 1; done')
    assert lab.process.stdout is not None
    for _ in range(2):
        assert "HERE" in lab.process.stdout.readline()
    places = networks(marked(lab.mark)) - networks([os.getpid()])
    assert len(places) >= 2
    lab.process.send_signal(number)
    status, _, said = lab.ended()
    expected = {
        signal.SIGINT: (130, ["realrun: interrupted"]),
        signal.SIGTERM: (143, ["realrun: ended by SIGTERM"]),
        signal.SIGKILL: (-9, []),
    }
    assert (status, said) == expected[number]
    assert within(10, lambda: not places & everywhere())


@needs_lab
@pytest.mark.parametrize(
    ("process", "line"),
    [
        ("realrun.lab.switch", "the lab's switch was killed by SIGKILL; nothing can be sent"),
        ("realrun.lab.keeper", "the process that keeps the lab's commands was killed by SIGKILL"),
    ],
)
def test_a_lab_that_loses_a_process_of_its_own_says_which(
    process: str, line: str, start: Callable[..., Started]
) -> None:
    lab = start("echo HERE; sleep 1000")
    assert lab.process.stdout is not None
    assert "HERE" in lab.process.stdout.readline()
    for child in children(lab.process.pid):
        if process.encode() in Path(f"/proc/{child}/cmdline").read_bytes():
            os.kill(child, signal.SIGKILL)
    status, output, said = lab.ended()
    assert status == 2
    assert said == [f"realrun: error: {line}{'' if 'switch' in line else ', and they with it'}"]
    assert "ended by the lab (SIG" in output


DOWN = """
exec "$1" - <<'PROGRAM'
import fcntl, os, socket, struct, time
rank = int(os.environ["RANK"])
def device(up):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sH14x", b"lab0", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, 0x8913, asked))[1]
        flags = flags | 1 if up else flags & ~1
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lab0", flags))
if rank == 0:
    with socket.create_server(("0.0.0.0", 29400)) as listener:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(bytes(3_000_000))
else:
    while True:
        try:
            connection = socket.create_connection(("198.18.0.1", 29400))
            break
        except OSError:
            time.sleep(0.05)
    left = 3_000_000
    with connection:
        while left:
            if left > 2_000_000 and left < 2_900_000 and "D" not in os.environ:
                os.environ["D"] = "1"
                device(False)
                time.sleep(0.5)
                device(True)
            left -= len(connection.recv(65536))
print("all came")
PROGRAM
"""


@needs_lab
def test_a_device_that_is_taken_down_and_up_again_resumes(start: Callable[..., Started]) -> None:
    status, output, said = start(DOWN).ended()
    assert status == 0, said
    assert "[1] all came" in output


@needs_lab
def test_a_link_that_is_down_for_a_while_sends_nothing_then_and_all_after(
    start: Callable[..., Started], tmp_path: Path
) -> None:
    profile = 'network.profile=[["0 s", 0.0], ["3 s", 1.0]]'
    options = ("--set", profile, "--set", "network.profile_period=60 s", "--out", "sent.csv")
    status, _, said = start(SEND, *options).ended()
    assert status == 0, said
    rows = [row.split(",") for row in (tmp_path / "sent.csv").read_text().splitlines()[1:]]
    assert sum(int(row[4]) for row in rows) == 1_000_000
    assert min(float(row[1]) for row in rows) >= 3  # no sample that ended before has any


# -- the switch alone ----------------------------------------------------------------------
def packet(receiver: int, size: int) -> bytes:
    """An IPv4 packet of UDP's protocol, behind an empty header of the device."""
    head = bytearray(20)
    head[0], head[9], head[18:20] = 0x45, 17, (receiver + 1).to_bytes(2, "big")
    return bytes(10) + bytes(head) + bytes(size)


def test_the_switch_outlives_devices_that_take_nothing_and_packets_that_are_none() -> None:
    network = {
        "rates": [1e9],
        "paths": [[[[0], 0.0]] * 3] * 3,
        "profiles": {},
        "origin": 0.0,
    }
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(3)]
    counts = os.memfd_create("counts")
    os.ftruncate(counts, 8 * 9)
    inside = [there.fileno() for _, there in pairs]
    for _, there in pairs:
        there.setblocking(False)
    switch = subprocess.Popen(
        [sys.executable, "-m", "realrun.lab.switch", str(counts)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[*inside, counts],
        env={**os.environ, "PYTHONPATH": ROOT},
    )  # fmt: skip
    assert switch.stdin is not None
    assert switch.stdout is not None
    switch.stdin.write(json.dumps({"devices": inside, **network}).encode() + b"\n")
    switch.stdin.flush()
    assert switch.stdout.readline() == b"ready\n"
    first, second, third = (here for here, _ in pairs)
    third.close()  # nobody is there: writing fails
    later = bytearray(packet(1, 2))
    later[10 + 7], later[10 + 9] = 1, 6  # a fragment of TCP: its header was in another one
    for each in (b"x", bytes(60), packet(2, 100), packet(7, 1), bytes(later), packet(1, 500)):
        first.send(each)
    second.settimeout(PATIENCE_S)
    assert sorted(len(second.recv(1000)) for _ in range(2)) == [32, 530]
    switch.stdin.close()
    assert switch.wait(PATIENCE_S) == 0
    found = memoryview(os.pread(counts, 72, 0)).cast("Q").tolist()
    assert found == [0, 502, 0, 0, 0, 0, 0, 0, 0]
    for end in (first, second, *(there for _, there in pairs), switch.stdout):
        end.close()
    os.close(counts)
