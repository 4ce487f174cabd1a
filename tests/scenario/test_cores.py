"""More workers than cores: what goes with a prediction from measured computation."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.output.run_report import report
from sim.questions.replications import predicted
from sim.scenario import Scenario, load
from sim.scenario.cores import Processors, warning

HARDWARE = """
[calibration]
schema = 1
device = "{device}"
cores = {cores}
workers = {workers}

[machine.worker]
parameters = 1000000
inner_step_s = {{ mean = 0.5, median = 0.5, p05 = 0.5, p95 = 0.5 }}
{more}
"""


def asked(
    folder: Path,
    *settings: str,
    workers: int,
    measured: int,
    cores: int = 2,
    device: str = "CPU",
    more: str = "",
) -> Scenario:
    text = HARDWARE.format(device=device, cores=cores, workers=measured, more=more)
    (folder / "here.toml").write_text(text)
    (folder / "asked.toml").write_text(
        'hardware = "here.toml"\n[model]\nparameters = "1M"\n[method]\nname = "diloco"\n'
        f"[[site]]\ncount = {workers}\n"
    )
    return load(folder / "asked.toml", settings=list(settings))


def test_what_was_measured_with_more_workers_than_cores_warns(tmp_path: Path) -> None:
    (said,) = asked(tmp_path, workers=3, measured=4).warnings
    assert "here.toml was measured with 4 workers on 2 cores" in said


def test_more_workers_than_the_one_machine_has_cores_warn(tmp_path: Path) -> None:
    (said,) = asked(tmp_path, workers=3, measured=2).warnings
    assert "here.toml is of one machine with 2 cores" in said


@pytest.mark.parametrize(
    "given",
    [
        {"workers": 2, "measured": 2, "more": "communication_s_per_byte = 1e-9"},
        {"workers": 4, "measured": 4, "cores": 5},
        {"workers": 4, "measured": 4, "device": "NVIDIA H100 80GB HBM3"},
    ],
    ids=["as many", "enough cores", "a GPU"],
)
def test_nothing_is_said_where_every_worker_has_a_core(tmp_path: Path, given: dict) -> None:
    assert asked(tmp_path, **given).warnings == ()


def test_cores_that_all_compute_leave_none_to_communication(tmp_path: Path) -> None:
    (said,) = asked(tmp_path, workers=2, measured=2).warnings
    assert said.startswith("No core left: ")
    assert "here.toml was measured with 2 workers on 2 cores" in said
    assert asked(tmp_path, "site.communication_slowdown=1", workers=2, measured=2).warnings == ()
    assert asked(tmp_path, workers=1, measured=2).warnings == ()


def test_several_machines_have_a_core_for_each_worker() -> None:
    assert warning(Processors("CPU", 2, 8, 2), "cluster.toml", 100) is None
    assert warning(Processors("CPU", 2, 8, 4), "cluster.toml", 8) is not None


def test_paced_computation_needs_no_core(tmp_path: Path) -> None:
    paced = ("train.compute_mode=paced", "site.step_time=1s")
    assert asked(tmp_path, *paced, workers=4, measured=4).warnings == ()


def test_the_answer_carries_the_warning_and_its_hash_does_not(tmp_path: Path) -> None:
    with_it = asked(tmp_path, workers=3, measured=4)
    found = report(with_it, predicted(with_it).figures)
    assert with_it.warnings[0] in found.blocks
    assert found.data["warnings"] == list(with_it.warnings)
    assert asked(tmp_path, workers=3, measured=4, cores=4).sha256 == with_it.sha256
