"""The doctor finds what is wrong, says how to fix it, and never collapses itself."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from time import sleep
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from support.command_line import Command  # noqa: E402
from support.thorough import only_thorough  # noqa: E402
from torch.distributed import HashStore  # noqa: E402

from realrun.doctor import lab, machine, network, peers, software  # noqa: E402
from realrun.doctor.cluster import Cluster, Machine, differences, sights  # noqa: E402
from realrun.doctor.finding import Finding, found, limited, missing, ready  # noqa: E402
from realrun.doctor.look import Plan, looked, scenario_fits  # noqa: E402
from realrun.doctor.peers import Seen, in_time, looked_around  # noqa: E402
from sim.scenario import load, loaded  # noqa: E402

CPU = SimpleNamespace(
    __version__="2.13.0+cpu",
    version=SimpleNamespace(cuda=None),
    cuda=SimpleNamespace(is_available=lambda: False),
    _C=SimpleNamespace(),
)
GPU = SimpleNamespace(
    __version__="2.13.0+cu128",
    version=SimpleNamespace(cuda="12.8"),
    cuda=SimpleNamespace(
        is_available=lambda: True,
        nccl=SimpleNamespace(version=lambda: (2, 27, 5)),
        device_count=lambda: 2,
        mem_get_info=lambda index: (60e9 + index, 80e9),
        get_device_name=lambda index: "H100",
    ),
    _C=SimpleNamespace(_cuda_getDriverVersion=lambda: 12080),
)


def giving(torch: Any, *, gloo: bool = True, nccl: bool = True) -> Callable[[str], Any]:
    distributed = SimpleNamespace(
        is_available=lambda: True, is_gloo_available=lambda: gloo, is_nccl_available=lambda: nccl
    )
    return lambda name: distributed if name == "torch.distributed" else torch


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: object) -> Any:
        raise error

    return fail


def plan(*settings: str, source: str = "quick_start", **more: Any) -> Plan:
    return Plan(loaded(source, {}, [*settings]), **more)


# -- software ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("version", "declared", "verdict"),
    [("3.11.7", ">=3.11", "ready"), ("3.10.12", ">=3.11", "missing"), ("3.12.0", "", "ready")],
)
def test_python(version: str, declared: str, verdict: str) -> None:
    assert software.python_version(version, declared).verdict == verdict


def test_torch_outside_its_range_absent_or_broken() -> None:
    assert software.torch_version(giving(CPU), ">=2.4") == ready("torch", "2.13.0+cpu")
    old = software.torch_version(giving(CPU), ">=2.14")
    assert (old.verdict, old.fix) == ("missing", 'pip install "torch>=2.14"')
    absent = software.torch_version(failing(ModuleNotFoundError("No module named 'torch'")))
    assert (absent.what, absent.fix) == ("not installed", 'pip install "bandwise[realrun]"')
    broken = software.torch_version(failing(OSError("libtorch.so: cannot open\nmore")))
    assert broken.what == "cannot be imported: libtorch.so: cannot open"
    assert broken.verdict == "missing"


def test_what_is_declared_is_read_from_the_package() -> None:
    assert software.declared_range("torch") in (">=2.4", "")
    assert software.declared_range("nothing") == ""


def test_backends() -> None:
    assert software.gloo(giving(CPU)).verdict == "ready"
    assert software.gloo(giving(CPU, gloo=False)).verdict == "missing"
    assert software.nccl(giving(GPU)) == ready("nccl", "2.27.5")
    assert software.nccl(giving(GPU, nccl=False)).verdict == "limited"
    assert software.nccl(giving(CPU, nccl=False)).verdict == "ready"


# -- machine -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("workers", "paced", "gpus", "verdict"),
    [
        (0, False, 0, "ready"),
        (2, False, 0, "ready"),
        (4, False, 0, "limited"),
        (4, True, 0, "ready"),
        (4, False, 4, "limited"),
    ],
)
def test_cores(workers: int, paced: bool, gpus: int, verdict: str) -> None:
    finding = machine.cores(2, workers, paced, gpus)
    assert finding.verdict == verdict
    assert bool(finding.fix) == (verdict == "limited")


@pytest.mark.parametrize(
    ("free", "verdict"), [(10e9, "ready"), (2.2e9, "limited"), (1.9e9, "missing")]
)
def test_memory(free: float, verdict: str) -> None:
    finding = machine.memory(free, 1e9, 2)
    assert finding.verdict == verdict
    assert "2 GB needed" in finding.what


def test_gpus_and_a_driver_that_torch_does_not_use(tmp_path: Path) -> None:
    seen = machine.cards(giving(GPU))
    assert seen == [machine.Card("H100", 60e9, 80e9), machine.Card("H100", 60e9 + 1, 80e9)]
    two = machine.gpus(seen, 2, giving(GPU))
    assert two == ready("gpus", "2 x H100, at least 60 GB free, CUDA 12.8, driver up to CUDA 12.8")
    four = machine.gpus(seen, 4, giving(GPU))
    assert four.verdict == "limited"
    assert four.fix.startswith("--nproc-per-node 2")
    driver = tmp_path / "version"
    assert machine.cards(giving(CPU)) == []
    assert machine.gpus([], 2, giving(CPU), driver).verdict == "ready"
    driver.touch()
    assert "build for CPUs" in machine.gpus([], 2, giving(CPU), driver).what
    assert "sees no GPU" in machine.gpus([], 2, giving(GPU), driver).what


def test_open_files() -> None:
    assert machine.open_files(1024, 4096, 16).verdict == "ready"
    assert machine.open_files(-1, -1, 10_000).verdict == "ready"
    few = machine.open_files(100, 4096, 16)
    assert (few.verdict, few.fix) == ("missing", "ulimit -n 256")
    assert machine.open_files(100, 200, 16).fix.startswith("raise the hard limit")


def test_disk(tmp_path: Path) -> None:
    assert machine.disk(tmp_path / "a" / "b", 1e3, 2).verdict == "ready"
    full = machine.disk(tmp_path, 1e18, 2)
    assert full.verdict == "missing"
    file = tmp_path / "file"
    file.touch()
    assert "cannot be written to" in machine.disk(file, 1e3, 2).what


# -- network -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("environment", "verdict"),
    [
        ({}, "ready"),
        ({"GLOO_SOCKET_IFNAME": "lo"}, "ready"),
        ({"GLOO_SOCKET_IFNAME": "nope0"}, "missing"),
        ({"NCCL_SOCKET_IFNAME": "et,l"}, "ready"),  # beginnings of names
        ({"NCCL_SOCKET_IFNAME": "=eth"}, "missing"),
        ({"NCCL_SOCKET_IFNAME": "^docker"}, "ready"),
        ({"NCCL_SOCKET_IFNAME": "ib"}, "missing"),
    ],
)
def test_chosen_cards(environment: dict[str, str], verdict: str) -> None:
    assert network.chosen_cards(environment, ["lo", "eth0"]).verdict == verdict


def test_an_address_that_others_cannot_reach() -> None:
    near = network.address({}, ["lo"], False, lambda host: "127.0.1.1")
    assert near.verdict == "ready"
    far = network.address({}, ["lo"], True, lambda host: "127.0.1.1")
    assert far.verdict == "missing"
    assert far.fix.startswith("export GLOO_SOCKET_IFNAME=")
    assert network.address({}, ["lo"], True, lambda host: "10.0.0.7").verdict == "ready"
    assert network.address({}, ["lo"], True, lambda host: "").verdict == "missing"
    named = {"GLOO_SOCKET_IFNAME": "nope0"}
    assert network.address(named, ["lo"], False).what == "nope0 has no address"


def test_the_port() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = str(taken.getsockname()[1])
        said = network.port({"MASTER_PORT": number})
        assert (said.verdict, said.fix) == ("missing", "unset MASTER_PORT")
    assert network.port({"MASTER_PORT": number}, lambda number: True).verdict == "ready"
    assert network.port({"MASTER_PORT": "http"}).verdict == "missing"
    assert network.port({}, lambda number: True).verdict == "ready"
    assert network.port({}, lambda number: False).fix.startswith("for torchrun: --master-port")


# -- lab ---------------------------------------------------------------------------------
def test_who_may_not_make_namespaces() -> None:
    refused = failing(PermissionError(1, "Operation not permitted"))
    assert lab.namespaces(refused, user_may=True).fix == (
        "unshare --user --map-root-user realrun lab ..."
    )
    assert lab.namespaces(refused, user_may=False).verdict == "missing"
    assert lab.namespaces(failing(OSError(28, "No space left"))).what == "No space left"
    assert lab.tc(refused).verdict == "ready"  # nobody needs it


def test_no_tun(tmp_path: Path) -> None:
    finding = lab.tun(str(tmp_path / "tun"))
    assert (finding.verdict, finding.what) == ("missing", "not here")


def test_what_a_lab_plays() -> None:
    assert lab.emulates(load("quick_start", {}, [])).verdict == "ready"
    refused = lab.emulates(load("quick_start", {}, ["network.bandwidth=4 Gbit/s"]))
    assert refused.verdict == "missing"
    assert "4 Gbit/s" in refused.what
    assert refused.part == "lab"


# -- a scenario --------------------------------------------------------------------------
def test_whether_a_scenario_can_be_trained() -> None:
    assert scenario_fits(plan()).what == "2 workers, diloco"
    assert "3 processes were started" in scenario_fits(plan(started=3, here=3)).what
    sized = scenario_fits(plan(source="three_sites"))
    assert (sized.verdict, sized.what) == ("missing", "model: only sizes are given")
    assert "never ends" in scenario_fits(plan("run.steps=steady")).what


def test_too_large_a_model_is_missing_memory_unless_paced() -> None:
    large = ["model.kind=gpt", "model.hidden=16384", "model.layers=96", "model.heads=128"]
    by_check = {f.check: f for f in looked(plan(*large, "model.vocabulary=65536"), {}).findings}
    assert by_check["memory"].verdict == "missing"
    paced = plan(*large, "model.vocabulary=65536", "train.compute_mode=paced")
    by_check = {f.check: f for f in looked(paced, {}).findings}
    assert by_check["memory"].verdict == "ready"


def test_a_check_that_fails_is_a_finding() -> None:
    finding = found("cores", failing(ZeroDivisionError("by zero")))
    assert (finding.verdict, finding.what) == ("limited", "could not be looked at: by zero")


# -- ranks -------------------------------------------------------------------------------
FACTS = {"torch": "2.13.0", "python": "3.11.7", "scenario": "a", "address": "10.0.0.1"}


def machines(**other: str) -> list[Machine]:
    return [
        Machine((0, 1), "a", FACTS, (ready("torch", ""),)),
        Machine((2, 3), "b", FACTS, (limited("cores", "few", "more"),)),
        Machine((4,), "c", {**FACTS, **other}, (ready("torch", ""),)),
    ]


def test_what_is_not_the_same_everywhere() -> None:
    assert differences(machines()) == []
    (torch_differs,) = differences(machines(torch="2.12.1"))
    assert torch_differs.verdict == "limited"
    assert torch_differs.what == "not the same everywhere: 2.13.0, but 2.12.1 on c (rank 4)"
    (scenario_differs,) = differences(machines(scenario="b"))
    assert scenario_differs.verdict == "missing"
    assert differences(machines(address="10.0.0.2")) == []
    assert [m.verdict for m in machines()] == ["ready", "limited", "ready"]
    assert Cluster(tuple(machines(torch="2.12.1"))).differing() == {"torch": "2.13.0"}


def test_training_can_run_unless_something_it_needs_is_missing() -> None:
    assert Cluster(tuple(machines()), (limited("clocks", "", ""),)).ready
    assert Cluster(tuple(machines()), (missing("tun", "", "", "lab"),)).ready
    assert not Cluster(tuple(machines()), (missing("reach", "", ""),)).ready


def test_clocks_and_pairs_that_do_not_meet() -> None:
    first = Machine((0,), "a", FACTS, (), {1: Seen(0.02, -3.2), 2: Seen(0.02, 0.4)})
    second = Machine(
        (1,), "b", {"address": "10.0.0.2"}, (), {0: Seen(), 2: Seen(trouble="refused")}
    )
    third = Machine((2,), "c", {"address": "10.0.0.3"}, (), {2: Seen(trouble="not ours")})
    said = [str(finding) for finding in sights([first, second, third])]
    assert len(said) == 3
    assert said[0].startswith("reach: missing: b (rank 1) cannot reach c (rank 2) at 10.0.0.3: ref")
    assert said[1].startswith("reach: missing: c (rank 2) cannot listen at its own address")
    assert said[2].startswith("clocks: limited: b (rank 1) is 3.2 s behind rank 0")


def test_a_desk_tells_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "time", lambda: 100.0)
    desk = peers.Desk("127.0.0.1")
    seen = peers.visited("127.0.0.1", desk.port)
    assert 0 < seen.round_trip_s < 1
    assert abs(seen.ahead_s) <= seen.round_trip_s / 2
    desk.close()
    assert peers.visited("127.0.0.1", 1, 1.0).trouble == "connection refused"
    with pytest.raises(OSError):
        peers.Desk("192.0.2.1")  # reserved for documentation: nobody's


def test_ranks_look_at_each_other_and_miss_one_that_has_no_address() -> None:
    store: Any = HashStore()
    store.set_timeout(timedelta(seconds=20))
    results: dict[int, dict[int, Seen]] = {}

    def rank(number: int, address: str, first_here: bool) -> None:
        results[number] = looked_around(
            store, number, 4, address, first_here=first_here, patience_s=20
        )

    asked = [("127.0.0.1", True), ("127.0.0.1", False), ("127.0.0.1", True), ("192.0.2.1", True)]
    threads = [threading.Thread(target=rank, args=(i, *each)) for i, each in enumerate(asked)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(results[0]) == {2}
    assert results[0][2].trouble == ""
    assert results[1] == {}
    assert results[3][3].trouble.startswith("192.0.2.1: ")


def test_a_trial_that_hangs_or_fails_is_a_finding() -> None:
    def hangs() -> Finding:
        sleep(60)
        raise AssertionError

    assert in_time("trial", hangs, 0.05, "fix").what == "nothing within 0.05 s"
    assert in_time("trial", failing(RuntimeError("no route")), 5, "fix").what == "no route"
    assert in_time("trial", lambda: ready("trial", "2"), 5, "fix").verdict == "ready"


# -- the command -------------------------------------------------------------------------
def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120", **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert "Traceback" not in done.stdout
    return done


def test_one_machine(realrun: Command) -> None:
    ran = realrun("doctor", "quick_start", "--set", "site.count=1")
    assert ran.status == 0, ran.err
    assert ran.out.startswith("Training can run here.")
    assert "network: missing: site.count: 1 workers: a lab" in ran.out


def test_what_is_missing_is_status_1(realrun: Command) -> None:
    ran = realrun("doctor", "three_sites", "--json")
    assert ran.status == 1
    assert ran.err == ""
    said = ran.json
    assert not said["ready"]
    assert "scenario" in said["missing"]
    assert len(said["machines"]) == 1
    assert any(line.startswith("scenario: missing: ") for line in said["problems"])


def test_a_mistake_in_asking_is_status_2(realrun: Command) -> None:
    ran = realrun("doctor", "quick_start", "--timeout", "soon")
    assert ran.status == 2
    assert ran.err.startswith('realrun: error: --timeout: "soon": ')


def torchrun(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run = ["-m", "torch.distributed.run", "--nproc-per-node", "2", f"--master-port={port}"]
    return command(*run, "-m", "realrun", "doctor", *arguments, **environment)


def test_under_torchrun_rank_0_speaks_for_all() -> None:
    done = torchrun("quick_start")
    assert done.returncode == 0, done.stderr
    assert "2 ranks summed a number over gloo." in done.stdout.replace("\n", " ")
    (row,) = (line for line in done.stdout.splitlines() if "(ranks 0 to 1)" in line)
    assert torch.__version__ in row


@only_thorough
def test_under_torchrun_a_card_that_is_not_there() -> None:
    done = torchrun("quick_start", "--timeout", "300 s", "--json", GLOO_SOCKET_IFNAME="nope0")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert {"network card", "address", "trial"} <= set(said["missing"])
    assert any("GLOO_SOCKET_IFNAME=nope0: no such card here" in line for line in said["problems"])
    assert "realrun: error" not in done.stderr


def test_a_rank_that_does_not_come() -> None:
    done = command(
        *("-m", "realrun", "doctor", "quick_start", "--timeout", "1 s", "--json"),
        **{"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"},
    )
    assert done.returncode == 1, done.stderr
    assert "meeting" in json.loads(done.stdout)["missing"]
    assert "Traceback" not in done.stderr


def test_something_else_listens_at_the_port() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(other.getsockname()[1])}
        asked = ("-m", "realrun", "doctor", "--timeout", "1 s", "--json")
        first = command(*asked, RANK="0", WORLD_SIZE="2", **place)
        second = command(*asked, RANK="1", WORLD_SIZE="2", **place)
    assert first.returncode == 1, first.stderr
    assert any("is in use on this machine" in line for line in json.loads(first.stdout)["problems"])
    assert second.returncode == 2
    assert second.stderr.startswith("realrun: error: rank 1: rank 0 could not be reached at 127.")
    assert "Traceback" not in second.stderr
