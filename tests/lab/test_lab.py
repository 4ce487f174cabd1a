"""A lab emulates the network that was asked for, and leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

pytest.importorskip("torch")

from support.labs import MARK, METHOD, NETWORK, marked, refusal, within
from support.network_names import everywhere, networks
from support.training_commands import SCENARIO, children, newest

import realrun.lab.check
import realrun.lab.run
from realrun.errors import RunError
from realrun.lab import built, topology
from realrun.lab.check import checked, transferred
from realrun.lab.topology import Topology
from sim.scenario import load
from sim.units import parse_duration, parse_rate

SITES = """
[run]
steps = 1
[model]
parameters = "1M"
layers = 2
[method]
name = "ddp"
[[site]]
name = "paris"
workers = 2
step_time = "1 s"
uplink = "60 Mbit/s"
[[site]]
name = "dallas"
step_time = "1 s"
[[site]]
name = "osaka"
step_time = "1 s"
downlink = "20 Mbit/s"
[network]
bandwidth = "50 Mbit/s"
per = "pair"
latency = "10 ms"
within = { bandwidth = "1 Gbit/s" }
"""


WHY_NOT = refusal()
if not WHY_NOT and not os.environ.get("BANDWISE_LAB"):
    WHY_NOT = "rates are checked in real time, which wants a quiet machine: run `make lab`"
needs_lab = pytest.mark.skipif(bool(WHY_NOT), reason=f"NO LAB HERE: {WHY_NOT}")


def asked(*settings: str) -> Topology:
    return topology(load("quick_start", {}, [*NETWORK, *settings]))


class Command:
    """``realrun lab`` on a tiny scenario, of which nothing may be left when it has ended."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.mark = uuid4().hex
        self.checkpoints = folder / "checkpoints"
        file = folder / "scenario.toml"
        file.write_text(SCENARIO.format(method=METHOD, steps=steps))
        sets = [word for setting in NETWORK for word in ("--set", setting)]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "realrun", "lab", str(file), *sets),
                *("--checkpoints", str(self.checkpoints), "--checkpoint-every", "1"),
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120", MARK: self.mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def trains(self) -> None:
        assert within(60, lambda: self.process.poll() is not None or newest(self.checkpoints) > 0)
        assert self.process.poll() is None

    def ended(self) -> tuple[int, str, list[str]]:
        """Status, output, and what was printed besides progress; and that nothing is left."""
        output, errors = self.process.communicate(timeout=60)
        assert within(10, lambda: not marked(self.mark))
        assert "Traceback" not in errors
        said = [line for line in errors.splitlines() if "tokens/s" not in line]
        return self.process.returncode, output, said


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[[int], Command]]:
    begun: list[Command] = []

    def begin(steps: int) -> Command:
        begun.append(Command(tmp_path, steps))
        return begun[-1]

    yield begin
    for each in begun:
        each.process.kill()
        each.process.wait()


# -- what a scenario asks for ------------------------------------------------------------
def test_workers_of_a_site_share_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "sites.toml"
    file.write_text(SITES)
    found = topology(load(str(file), {}, []))
    assert found.names == ("paris.0", "paris.1", "dallas", "osaka")
    named = {pair: {found.links[link].name for link in path} for pair, path in found.paths.items()}
    assert named[0, 2] == named[1, 2] == {"uplink of paris", "paris to dallas"}
    assert named[1, 3] == {"uplink of paris", "paris to osaka", "downlink of osaka"}
    assert named[0, 1] == {"within paris"}
    assert named[3, 1] == {"osaka to paris"}
    assert found.rate(0, 2) == parse_rate("50 Mbit/s")
    assert found.rate(2, 3) == parse_rate("20 Mbit/s")
    assert found.rtt_s(0, 3) == pytest.approx(0.020)
    shared = found.together([(0, 2), (1, 2), (0, 3)])
    assert shared == {
        (0, 3): parse_rate("20 Mbit/s"),
        (0, 2): parse_rate("20 Mbit/s"),
        (1, 2): parse_rate("20 Mbit/s"),
    }
    assert found.together([(0, 2), (1, 2)])[0, 2] == parse_rate("25 Mbit/s")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["network.bandwidth=4 Gbit/s"], "network.bandwidth: site-1 to site-2: 4 Gbit/s: a lab"),
        (
            ["network.bandwidth=10 kbit/s"],
            "10 kbit/s: a lab on one machine emulates 1 Mbit/s to 2",
        ),
        (["network.rtt=3 s"], "network.rtt: site-1 to site-2: 3 s: a lab emulates up to 2 s"),
        (["site.count=40"], "site.count: 40 workers: a lab on one machine has 2 to 16"),
        (["site.count=1"], "site.count: 1 workers: "),
        (["site.workers=2"], "network.within.bandwidth: site-1.0 to site-1.1: 400 Gbit/s: a lab"),
    ],
)
def test_what_no_lab_can_play(settings: list[str], message: str) -> None:
    with pytest.raises(RunError) as refused:
        asked(*settings)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_device_to_make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if WHY_NOT:
        pytest.skip(WHY_NOT)
    monkeypatch.setattr(realrun.lab.run, "TUN", str(tmp_path / "tun"))
    with pytest.raises(RunError, match=r"a lab needs .*tun, which is not here"), built(asked()):
        pass


def test_nobody_may_make_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(realrun.lab.run, "Namespace", refused)
    with pytest.raises(RunError, match=r"only root may.* unshare --user"), built(asked()):
        pass


# -- what it emulates -----------------------------------------------------------------------
@needs_lab
def test_a_network_that_is_not_as_asked_is_refused_and_two_labs_do_not_meet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with built(asked()) as first, built(asked("network.bandwidth=20 Mbit/s")) as second:
        for lab in (first, second):
            assert [check.right for check in lab.checks] == [True, True]
        with ThreadPoolExecutor(2) as both:
            rates = list(
                both.map(
                    lambda lab: transferred(lab.topology, lab.namespaces, [(0, 1)]), (first, second)
                )
            )
        assert rates == pytest.approx([parse_rate("50 Mbit/s"), parse_rate("20 Mbit/s")], rel=0.05)

        monkeypatch.setattr(realrun.lab.check, "_TRIES", 1)
        faster = replace(
            first.topology,
            links=tuple(replace(link, rate=2 * link.rate) for link in first.topology.links),
        )
        with pytest.raises(RunError, match=r"site-1 to site-2: .* \(asked 100 Mbit/s\)"):
            list(checked(faster, first.namespaces))
        nearer = replace(first.topology, latency_s=dict.fromkeys(first.topology.latency_s, 0.005))
        with pytest.raises(RunError, match=r"site-1 to site-2: .* ms \(asked 10 ms\)"):
            list(checked(nearer, first.namespaces))


def test_a_switch_whose_lab_has_ended_ends_without_a_word() -> None:
    heard, told = os.pipe()
    os.close(heard)
    counts = os.memfd_create("counts")
    os.ftruncate(counts, 8)
    network = {"devices": [], "rates": [], "paths": [], "profiles": {}, "origin": 0.0}
    done = subprocess.run(
        [sys.executable, "-m", "realrun.lab.switch", str(counts)],
        input=f"{json.dumps(network)}\n", stdout=told, stderr=subprocess.PIPE, text=True,
        timeout=60, pass_fds=[counts],
    )  # fmt: skip
    os.close(told)
    os.close(counts)
    assert (done.returncode, done.stderr) == (0, "")


@needs_lab
def test_every_worker_has_a_network_of_its_own_until_the_switch_dies() -> None:
    own, before = os.readlink("/proc/self/ns/net"), children(os.getpid())
    with built(asked()) as lab:
        inside = [
            namespace.call(os.readlink, "/proc/thread-self/ns/net") for namespace in lab.namespaces
        ]
        assert os.readlink("/proc/self/ns/net") == own
        assert len({own, *inside}) == 3
        os.kill(lab.switch, signal.SIGKILL)
        with pytest.raises(RunError, match="the lab's switch was killed by SIGKILL"):
            lab.run(["train", "quick_start"])
    assert not Path(f"/proc/{lab.switch}").exists()
    assert children(os.getpid()) == before


# -- training in it, and its end ---------------------------------------------------------
@needs_lab
def test_it_trains_and_tells_what_it_checked(command: Callable[[int], Command]) -> None:
    status, output, said = command(4).ended()
    assert status == 0, said
    assert said == []
    assert "In a lab on this machine: 2 namespaces, checked:" in output
    found = re.search(r"(\S+ \S+) \(asked 50 Mbit/s\), (\S+ ms) \(asked 20 ms\)", output)
    assert found is not None
    assert parse_rate(found[1]) == pytest.approx(parse_rate("50 Mbit/s"), rel=0.05)
    assert parse_duration(found[2]) == pytest.approx(0.020, abs=0.002)
    assert "Measured on CPU, gloo" in output


@needs_lab
def test_interrupted_while_it_is_built(command: Callable[[int], Command]) -> None:
    begun = command(1_000_000)
    assert begun.process.stdout is not None
    assert begun.process.stdout.readline().startswith("In a lab")
    begun.process.send_signal(signal.SIGINT)
    status, _, said = begun.ended()
    assert status == 130
    assert said == ["realrun: interrupted"]


@needs_lab
def test_interrupted_while_it_trains(command: Callable[[int], Command]) -> None:
    begun = command(1_000_000)
    begun.trains()
    assert len(marked(begun.mark)) == 5  # itself, the switch, the fork server and two workers
    begun.process.send_signal(signal.SIGINT)
    status, _, said = begun.ended()
    assert status == 130
    assert said == ["realrun: interrupted"]


@needs_lab
def test_killed_it_leaves_nothing_for_the_next(command: Callable[[int], Command]) -> None:
    begun = command(1_000_000)
    begun.trains()
    processes = marked(begun.mark)
    places = networks(processes) - networks([os.getpid()])
    assert len(places) == 2
    begun.process.kill()
    assert begun.ended()[0] == -signal.SIGKILL
    assert within(60, lambda: not places & everywhere())  # nobody is in them, so they are gone
    with built(asked()) as lab:
        assert lab.checks
