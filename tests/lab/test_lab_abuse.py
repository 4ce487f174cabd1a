"""Whatever is done to a lab, it ends, says why in a line, and leaves the machine as it was.

Nothing here depends on how fast the machine is: the check of the network is left out where it is
not what is disturbed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import pytest

pytest.importorskip("torch")

from support.labs import MARK, METHOD, NETWORK, marked, refusal, within
from support.network_names import everywhere, networks
from support.thorough import THOROUGH, only_thorough
from support.training_commands import SCENARIO, newest

WHY_NOT = refusal()
needs_lab = pytest.mark.skipif(bool(WHY_NOT), reason=f"NO LAB HERE: {WHY_NOT}")
pytestmark = needs_lab

ROOT = str(Path(__file__).parents[2])
PATIENCE_S = 120  # on a machine that does other things as well
NOBODY = 65534

# Runs a command up to a stage, says HERE, and stays there.
DRIVER = """
import subprocess, sys, time, types
import realrun.processes.forks as forks
import realrun.lab.check as check
import realrun.lab.run as run
import realrun.processes.launch as launch
from realrun.cli import main

stage = sys.argv[1]
sys.argv[:2] = ["realrun"]

been = []

def here(*_):
    if not been:
        been.append(True)
        print("HERE", flush=True)
        while True:  # a signal that comes just before a sleep is obeyed after it
            time.sleep(0.05)

def after(function):
    def called(*arguments, **options):
        result = function(*arguments, **options)
        here()
        return result
    return called

if stage == "namespaces":
    run._device = after(run._device)
elif stage == "switch":
    run.subprocess = types.SimpleNamespace(**vars(subprocess))
    run.subprocess.Popen = after(subprocess.Popen)
elif stage == "check":
    check._arrived = here
elif stage == "workers":
    forks.Forks.start = after(forks.Forks.start)
elif stage == "ending workers":
    launch._until_one_fails = lambda *_: time.sleep(0.3)  # as if they had ended
    launch._end = here
elif stage == "closing":
    launch._until_one_fails = lambda *_: time.sleep(0.3)
    run.Namespace.close = here
elif stage == "real check":
    check._TRIES = 1
if stage not in ("check", "real check"):
    run.checked = lambda *_: iter(())
main()
"""
STAGES = ["namespaces", "switch", "check", "workers", "training", "ending workers", "closing"]
ENDS = {
    signal.SIGINT: (130, ["realrun: interrupted"]),
    signal.SIGTERM: (143, ["realrun: ended by SIGTERM"]),
    signal.SIGHUP: (129, ["realrun: ended by SIGHUP"]),
    signal.SIGKILL: (-9, []),
}


class Abused:
    """A lab command, in a folder of its own, that something is done to."""

    def __init__(self, folder: Path, stage: str, *arguments: str, before: Sequence[str] = ()):
        folder.mkdir()
        self.temporary, self.checkpoints = folder / "tmp", folder / "checkpoints"
        self.temporary.mkdir()
        self.mark = uuid4().hex
        self.places: set[int] = set()
        self.process = subprocess.Popen(
            [*before, sys.executable, "-c", DRIVER, stage, "lab", *arguments],
            env={
                **os.environ,
                "PYTHONPATH": ROOT,
                "OMP_NUM_THREADS": "1",
                "TMPDIR": str(self.temporary),
                MARK: self.mark,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @classmethod
    def training(cls, folder: Path, stage: str, steps: int) -> Abused:
        file = folder.with_suffix(".toml")
        file.write_text(SCENARIO.format(method=METHOD, steps=steps))
        sets = [word for setting in NETWORK for word in ("--set", setting)]
        kept = ("--checkpoints", str(folder / "checkpoints"), "--checkpoint-every", "1")
        return cls(folder, stage, str(file), *sets, *kept)

    def reaches(self, stage: str) -> None:
        assert self.process.stdout is not None
        if stage == "training":
            ended = lambda: self.process.poll() is not None  # noqa: E731
            assert within(PATIENCE_S, lambda: ended() or newest(self.checkpoints) > 0)
            assert not ended(), self.process.communicate()
        else:
            said = list(iter(self.process.stdout.readline, "HERE\n"))
            assert self.process.poll() is None, said
        self.places = networks(marked(self.mark)) - networks([os.getpid()])
        assert self.places  # there is something that could be left

    def ended(self) -> tuple[int, list[str]]:
        """Status, and what was said on standard error besides progress; nothing is left."""
        _, errors = self.process.communicate(timeout=PATIENCE_S)
        assert within(PATIENCE_S, lambda: not marked(self.mark))
        assert list(self.temporary.glob("realrun*")) == []  # torch keeps a cache there
        assert within(PATIENCE_S, lambda: not self.places & everywhere())
        lines = [line for line in errors.splitlines() if "tokens/s" not in line]
        return self.process.returncode, lines


def outside() -> dict[str, str]:
    """The machine's own network: devices that TUN made, addresses, routes, settings."""
    net, found = Path("/proc/sys/net"), {}
    found["tun"] = ", ".join(sorted(str(p) for p in Path("/sys/class/net").glob("*/tun_flags")))
    for name in ("route", "if_inet6", "fib_trie"):
        path = Path("/proc/self/net") / name
        found[name] = path.read_text() if path.exists() else ""
    for path in net.rglob("*"):
        # Devices of others come and go, and some numbers are counts.
        if {"conf", "neigh"} & set(path.parts) and not {"all", "default", "lo"} & set(path.parts):
            continue
        if path.is_file() and not path.name.endswith("_count"):
            try:
                found[str(path)] = path.read_text()
            except OSError:  # to be written only
                continue
    return found


@pytest.fixture(autouse=True, scope="module")
def as_it_was() -> Iterator[None]:
    """All of these tests together change nothing outside."""
    place, before = networks([os.getpid()]), outside()
    yield
    assert networks([os.getpid()]) == place
    after = outside()
    assert {key for key in before | after if before.get(key) != after.get(key)} == set()


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Abused]]:
    begun: list[Abused] = []

    def begin(stage: str, *arguments: str, before: Sequence[str] = (), steps: int = 0) -> Abused:
        folder = tmp_path / f"lab-{len(begun)}"
        if steps:
            begun.append(Abused.training(folder, stage, steps))
        else:
            begun.append(Abused(folder, stage, *arguments, before=before))
        return begun[-1]

    yield begin
    for each in begun:
        each.process.kill()
        each.process.communicate()


# Between the first and the last lie stages at which the same processes are there.
ALIKE = {"workers", "ending workers"}


@pytest.mark.parametrize(
    "stage",
    [pytest.param(each, marks=[only_thorough] * (each in ALIKE)) for each in STAGES],
)
def test_ended_from_outside(stage: str, begin: Callable[..., Abused]) -> None:
    """At every stage; the labs are there at once and do not meet.

    What can be obeyed arrives as the same exception, so of those one for each stage will do.
    """
    obeyed = [number for number in ENDS if number != signal.SIGKILL]
    one = obeyed[STAGES.index(stage) % len(obeyed)]
    every = THOROUGH or stage == STAGES[0]
    signals = list(ENDS) if every else [one, signal.SIGKILL]
    labs = {number: begin(stage, steps=1_000_000) for number in signals}
    for each in labs.values():
        each.reaches(stage)
    places = [each.places for each in labs.values()]
    assert len(set().union(*places)) == sum(map(len, places))
    for number, each in labs.items():
        each.process.send_signal(number)
    for number, each in labs.items():
        assert each.ended() == ENDS[number], (stage, number)


def test_twice_interrupted(begin: Callable[..., Abused]) -> None:
    """The second one while the first is being obeyed, which some find too slow."""
    lab = begin("ending workers", steps=1_000_000)
    lab.reaches("ending workers")
    lab.process.send_signal(signal.SIGTERM)
    lab.process.send_signal(signal.SIGTERM)
    assert lab.ended() == ENDS[signal.SIGTERM]


def test_two_at_once_train_and_leave(begin: Callable[..., Abused]) -> None:
    both = [begin("none", steps=2) for _ in range(2)]
    assert [each.ended() for each in both] == [(0, []), (0, [])]


# -- what it cannot have -----------------------------------------------------------------
def refused(lab: Abused) -> str:
    status, lines = lab.ended()
    assert status == 2, lines
    assert len(lines) == 1, lines
    assert lines[0].startswith("realrun: error: ")
    return lines[0].removeprefix("realrun: error: ")


def started_by(*command: str) -> Sequence[str]:
    """A command that starts another, where this machine can run it."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"NOT TRIED: no {command[0]} here")
    done = subprocess.run([*command, sys.executable, "-c", ""], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"NOT TRIED: {done.stderr.strip()}")
    return command


def test_nobody_may_not(begin: Callable[..., Abused]) -> None:
    user = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    reads = ("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search")
    nobody = started_by("setpriv", *user, *reads)  # reads Python, wherever it is
    said = refused(begin("none", "quick_start", before=nobody))
    assert said.startswith("a lab makes network namespaces, which only root may; run it as root")


def test_root_without_rights_may_not(begin: Callable[..., Abused]) -> None:
    without = started_by("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    assert "which only root may" in refused(begin("none", "quick_start", before=without))


@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        ("mount -t tmpfs none /dev/net", "a lab needs /dev/net/tun, which is not here"),
        ("mount --bind /dev/null /dev/net/tun", "a lab cannot make its devices: "),
    ],
)
def test_no_device(hidden: str, message: str, begin: Callable[..., Abused]) -> None:
    private = ("unshare", "--mount", "sh", "-c", f'{hidden} && exec "$@"', "sh")
    assert refused(begin("none", "quick_start", before=started_by(*private))).startswith(message)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("site.count=17", "site.count: 17 workers: a lab on one machine has 2 to 16"),
        ("network.bandwidth=3 Gbit/s", "network.bandwidth: site-1 to site-2: 3 Gbit/s: a lab on"),
        ("network.rtt=2.5 s", "network.rtt: site-1 to site-2: 2.5 s: a lab emulates up to 2 s"),
    ],
)
def test_more_than_any_lab_plays(setting: str, message: str, begin: Callable[..., Abused]) -> None:
    assert refused(begin("none", "quick_start", "--set", setting)).startswith(message)


def test_more_than_this_machine_can_give(begin: Callable[..., Abused]) -> None:
    """32 Gbit/s in all: more than one process can copy."""
    sets = ["site.count=16", "network.bandwidth=2 Gbit/s", "network.rtt=5 ms"]
    lab = begin("real check", "quick_start", *(word for each in sets for word in ("--set", each)))
    said = refused(lab)
    assert said.startswith("this machine cannot emulate the network")
