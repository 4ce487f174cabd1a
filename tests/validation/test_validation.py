"""A validation from end to end: what is planned, what is refused, and that the loop closes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from support.labs import nothing_measured
from support.thorough import only_thorough

from realrun.calibration.collectives import Case, Measured
from realrun.calibration.fit import Observed, fitted, predicted
from realrun.cli.app import app
from realrun.errors import RunError
from realrun.lab.control import Chooser, controlled
from realrun.processes.launch import Handed
from realrun.processes.namespaces import Namespace
from realrun.validation import labs
from realrun.validation.archive import Archive, calibration, record, tidy
from realrun.validation.handing_over import handed_over, received
from realrun.validation.networks import calibrated_on, networks
from realrun.validation.plan import Planned, order, planned, to_be_measured
from realrun.validation.predict import alpha_beta, as_calibrated, bandwidth_only
from realrun.validation.run import check_folder
from sim.operations import timed
from sim.program import wire_bytes
from sim.records.scenario import HostCosts, Method
from sim.runtime import simulate
from sim.scenario import ScenarioError, Study, load, load_study
from sim.storage.files import DamagedError
from sim.storage.locks import locked

STUDIES = Path(__file__).parents[2] / "validation"
QUICK = STUDIES / "quick" / "study.toml"


@pytest.fixture(scope="module")
def study() -> Study:
    return load_study(QUICK)


@pytest.fixture(scope="module")
def plan(study: Study) -> list[Planned]:
    return planned(study)


def test_what_is_sent_by_tensor_is_of_the_same_model(tmp_path: Path) -> None:
    text = QUICK.read_text().replace(
        '"ddp" = {}',
        '"ddp" = {}\n"torch\'s zero1" = { method = { zero1 = true, zero1_exchange = "torch" } }',
    )
    (tmp_path / "study.toml").write_text(text)
    plans = planned(load_study(tmp_path / "study.toml"))
    assert "torch's zero1" in {each.labels["method"] for each in plans}


def test_every_configuration_has_whole_rounds_of_about_the_asked_duration(
    plan: list[Planned],
) -> None:
    assert len(plan) == 8
    for each in plan:
        assert each.scenario.run.rounds is not None
        assert 5 <= each.scenario.run.rounds <= 201
        assert each.sections.train.compute_mode == "paced"


def test_a_sample_takes_every_value_of_every_axis_equally_often() -> None:
    full = load_study(STUDIES / "lab" / "study.toml")
    assert full.validation is not None
    small = replace(full, validation=replace(full.validation, sample=60, side_by_side=None))
    chosen = planned(small)
    assert len(chosen) == 60
    for axis in full.axes:
        times = Counter(each.labels[axis] for each in chosen)
        assert max(times.values()) - min(times.values()) <= 1, axis
    modes = Counter(each.mode for each in chosen)
    assert modes["paced"] == modes["real"] == 30
    assert planned(small) == chosen  # the same every time


def test_values_of_an_axis_side_by_side_differ_in_nothing_else() -> None:
    full = load_study(STUDIES / "lab" / "study.toml")
    chosen = planned(full)
    assert len(chosen) == 60
    places: dict[tuple[object, ...], set[object]] = {}
    for each in chosen:
        rest = (*(v for axis, v in each.labels.items() if axis != "method"), each.mode)
        places.setdefault(rest, set()).add(each.labels["method"])
    assert len(places) == 15
    assert all(len(methods) == 4 for methods in places.values())
    for axis in full.axes:  # whole places are drawn, so it is as even as these allow
        times = Counter(each.labels[axis] for each in chosen)
        assert max(times.values()) - min(times.values()) <= 4, axis


def test_every_repeat_is_one_pass_in_another_order(plan: list[Planned]) -> None:
    runs = order(plan, 2, 3, shuffled=True)
    assert len(runs) == 24
    passes = [[each.number for each, _ in runs[i : i + 8]] for i in (0, 8, 16)]
    assert all(sorted(one) == list(range(8)) for one in passes)
    assert len({tuple(one) for one in passes}) == 3
    assert [n.number for n, _ in order(plan, 2, 1, shuffled=False)] == list(range(8))
    assert order(plan, 4, 3, shuffled=True) == []


def test_the_calibration_sees_no_link_of_the_study(study: Study, plan: list[Planned]) -> None:
    seen = {
        (scenario.rate(0, 1), scenario.network.latency[0][1])
        for scenario in calibrated_on(study, plan, 2)
    }
    run = {(each.scenario.rate(0, 1), each.scenario.network.latency[0][1]) for each in plan}
    assert seen == {(12.5e6, 0.0), (12.5e6, 0.02)}
    assert not seen & run
    assert len(networks(study, plan, 2)) == len(seen | run)


def test_workers_receive_the_launchers_plan(
    monkeypatch: pytest.MonkeyPatch, study: Study, plan: list[Planned]
) -> None:
    assert received() is None
    with handed_over(study, plan) as handed:
        for key, value in handed.environment.items():
            monkeypatch.setenv(key, value)
        found = received()
        assert received() == found  # by another worker, which shares the file
    assert found is not None
    assert found[1] == plan
    assert networks(*found, 2) == networks(study, plan, 2)
    assert found[0].validation == study.validation


def test_a_plan_with_a_users_method_is_made_by_every_worker(
    study: Study, plan: list[Planned]
) -> None:
    own = Method("module:program", lambda worker: iter(()))
    with handed_over(
        study, [replace(plan[0], scenario=replace(plan[0].scenario, method=own))]
    ) as handed:
        assert handed == Handed()


def test_another_studys_folder_is_refused(plan: list[Planned], tmp_path: Path) -> None:
    check_folder(plan, Archive(tmp_path))
    record(tmp_path, plan[0], 0, {"busy": 0.0})
    check_folder(plan, Archive(tmp_path))
    record(tmp_path, replace(plan[1], mode="real"), 0, {"busy": 0.0})
    with pytest.raises(ScenarioError, match="another study"):
        check_folder(plan, Archive(tmp_path))


def test_a_record_that_was_broken_off_is_a_run_not_made(
    plan: list[Planned], tmp_path: Path
) -> None:
    record(tmp_path, plan[0], 0, {"busy": 0.0})
    record(tmp_path, plan[1], 0, {"busy": 0.0})
    path = tmp_path / "runs.jsonl"
    path.write_text(path.read_text()[:-9])
    assert list(Archive(tmp_path).records) == [(0, 0)]
    record(tmp_path, plan[1], 0, {"busy": 0.0})
    assert list(Archive(tmp_path).records) == [(0, 0), (1, 0)]


def test_a_damaged_record_is_named(plan: list[Planned], tmp_path: Path) -> None:
    for each in plan[:2]:
        record(tmp_path, each, 0, {"busy": 0.0})
    path = tmp_path / "runs.jsonl"
    path.write_text(path.read_text().replace('"busy": 0.0', '"busy": 7.0', 1))
    with pytest.raises(DamagedError, match=r"runs\.jsonl: line 1 is damaged"):
        assert Archive(tmp_path).records


def test_what_a_killed_validation_left_is_removed(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "traces"):
        (folder / ".bandwise-partial-x").mkdir(parents=True)
    tidy(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["traces"]


def test_a_folder_is_one_validations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["realrun", "validate", str(QUICK), "--out", str(tmp_path), "--report-only"]
    monkeypatch.setattr(sys, "argv", arguments)
    with locked(tmp_path), pytest.raises(SystemExit) as left:
        app()
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert f"--out: {tmp_path}: in use by process {os.getpid()}" in said
    assert len(said.splitlines()) == 1


class Played:
    """A lab that becomes what it is asked to be."""

    switch = 7

    def __init__(self) -> None:
        self.asked: list[tuple[Any, bool]] = []

    def change(self, found: Any, *, check: bool) -> list[str]:
        if found == "too fast":
            raise RunError("cannot emulate the network")
        self.asked.append((found, check))
        return ["checked"] * check


def test_a_worker_asks_for_networks_over_what_it_inherits(monkeypatch: pytest.MonkeyPatch) -> None:
    lab: Any = Played()
    networks: Any = ["slow", "too fast"]
    with controlled(lab, networks) as handed:
        for key, value in handed.environment.items():
            monkeypatch.setenv(key, str(os.dup(int(value))))
        chooser = Chooser()
        assert chooser.choose(0) == (["checked"], 7)
        assert chooser.choose(0) == (["checked"], 7)
        with pytest.raises(RunError, match="cannot emulate"):
            chooser.choose(1)
    assert lab.asked == [("slow", True), ("slow", False)]
    with pytest.raises(RunError, match="the lab has ended"):
        chooser.choose(0)
    chooser.close()


def test_a_scenario_that_is_no_study_is_refused() -> None:
    with pytest.raises(ScenarioError, match='must be "validate"'):
        planned(load_study("streaming_diloco_table4"))


def test_host_costs_are_found_again() -> None:
    true = HostCosts(message_s=3e-4, byte_s=4e-10, call_s=5e-4, element_s=2e-9)
    observed = []
    for rate, rtt in (("100 Mbit/s", "0 ms"), ("500 Mbit/s", "40 ms")):
        settings = [f"network.bandwidth={rate}", f"network.rtt={rtt}"]
        scenario = load("quick_start", {}, settings)
        cases = [Case("all_reduce", "bf16", n) for n in (64, 50_000, 1_000_000)]
        cases += [Case("reduce_scatter", "bf16", 1_000_000), Case("all_gather", "bf16", 64)]
        one = [Measured(case, wire_bytes(case.elements, case.dtype, 256), (1.0,)) for case in cases]
        exact = [replace(m, seconds=(predicted(scenario, true, m),)) for m in one]
        observed.append(Observed(scenario, exact))
    fit = fitted(observed, true.byte_s)
    assert fit.host.message_s == pytest.approx(true.message_s, rel=0.02)
    assert fit.host.call_s == pytest.approx(true.call_s, rel=0.05)
    assert fit.host.element_s == pytest.approx(true.element_s, rel=0.05)
    assert fit.median_error < 1e-3


def test_a_calibration_fills_the_network_and_real_computation_only(
    plan: list[Planned], tmp_path: Path
) -> None:
    path = tmp_path / "calibration-2-launch-1.toml"
    path.write_text(
        '[calibration]\nschema = 1\nbackend = "gloo"\n[machine.worker]\nparameters = 1099136\n'
        "message_s = 0.0002\ncall_s = 0.001\ninner_step_s = 0.05\ninner_optimizer_s = 0.002\n"
        "quantize_s = 0.01\ncommunication_s_per_byte = 1e-9\n"
    )
    hardware = calibration(path)
    paced = as_calibrated(plan[0], hardware)
    assert paced.network.collectives.algorithm == "gloo"
    assert paced.network.collectives.host.message_s == 2e-4
    assert paced.workers[0].machine.step_seconds == 0.04
    assert paced.workers[0].machine.quantize_seconds == 0.01
    real = as_calibrated(replace(plan[0], mode="real"), hardware)
    assert real.workers[0].machine.step_seconds == 0.05
    assert real.workers[0].machine.optimizer_seconds == 0.002
    for baseline in (alpha_beta, bandwidth_only):
        simple = baseline(replace(plan[0], mode="real"), hardware)
        assert simple.network.collectives.algorithm == "ring"
        assert simple.workers[0].machine.step_seconds == 0.05
    short, long = (
        simulate(one, rounds=3).total_s
        for one in (bandwidth_only(plan[0], hardware), alpha_beta(plan[0], hardware))
    )
    assert short < long < simulate(paced, rounds=3).total_s


def test_a_worker_slowed_down_by_sleeping_is_cold_after_every_operation(tmp_path: Path) -> None:
    path = tmp_path / "calibration-2-launch-1.toml"
    path.write_text(
        '[calibration]\nschema = 1\nbackend = "gloo"\n[machine.worker]\ninner_step_s = 0.05\n'
        "cold_start = { pause_s = [0.05, 0.2], seconds = [0.003, 0.005] }\n"
    )
    slower = ["train.emulate_speeds=true", "site.site-1.speed=0.5"]
    slowed = replace(planned(load_study(QUICK, {}, slower))[0], mode="real")
    machines = [worker.machine for worker in as_calibrated(slowed, calibration(path)).workers]
    # At half the speed it sleeps as long as it computes, 50 ms: 3 of the 5 ms are in every step.
    assert [m.speed for m in machines] == [0.5, 1.0]
    assert [m.step_seconds for m in machines] == pytest.approx([0.053, 0.05])
    assert machines[0].cold_start == ((0.05, 0.0), (0.2, pytest.approx(0.002)))
    assert machines[1].cold_start == ((0.05, 0.003), (0.2, 0.005))


@only_thorough  # `make validate` calibrates two networks, and predicts from their files
def test_a_calibration_is_a_hardware_file_for_the_simulator(tmp_path: Path) -> None:
    out = tmp_path / "two.toml"
    small = ["model.hidden=32", "model.layers=3", "model.heads=2", "model.context=32"]
    sets = [word for each in (*small, "site.batch_tokens=256") for word in ("--set", each)]
    command = [sys.executable, "-m", "realrun", "calibrate", "quick_start", *sets]
    command += ["--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (record,) = calibration(out).machines.values()
    assert record.inner_step_s is not None
    assert record.inner_step_s > 0
    assert {row.measured for row in timed()} - record.model_fields_set == {"quantize_s"}
    assert record.cold_start is not None
    assert len(record.cold_start.pairs) == 2
    assert all(pause > 0 and longer >= 0 for pause, longer in record.cold_start.pairs)
    slowed = record.transmission_slowdown  # none where the traffic was over at once
    assert slowed is None or all(factor >= 1 for _, factor in slowed.pairs)
    bare = tmp_path / "bare.toml"  # of its own it has no time, rate or latency
    bare.write_text(
        f'hardware = "two.toml"\n[run]\nsteps = 3\n[model]\nparameters = {record.parameters:g}\n'
        "[[site]]\ncount = 2\n"
    )
    filled = load(bare, {}, [])
    assert filled.workers[0].machine.cold_start == record.cold_start.pairs
    assert simulate(filled, rounds=3).total_s > 3 * record.inner_step_s


def test_what_a_user_gets_wrong_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, text in (
        (["validate", "no_such.toml", "--out", "out"], "no such file"),
        (["validate", str(QUICK), "--out", "out", "--timeout", "5"], "--timeout"),
        (["validate", str(QUICK), "--out", "out", "--device", "gpu"], "--device"),
        (["validate", str(QUICK), "--out", "out", "--report-only"], "no run of quick was measured"),
        (["validate", "quick_start", "--out", "out"], "study"),
        (["calibrate", "quick_start", "--out", "a.json"], ".toml"),
        (["calibrate", "quick_start", "--out", "a.toml", "--only", "netwrok"], 'mean "network"'),
    ):
        with pytest.raises(SystemExit) as left:
            app(arguments)
        said = capsys.readouterr().err
        assert left.value.code == 2, (arguments, said)
        assert text in said
        assert len(said.splitlines()) == 1
        assert "Traceback" not in said


@pytest.mark.skipif(bool(nothing_measured()), reason=nothing_measured())
def test_the_loop_closes(tmp_path: Path) -> None:
    """Calibrate, predict, run in a lab, compare; and nothing is run twice."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "realrun", "validate", str(QUICK), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (out / "report.md").read_text().startswith("# Validation: quick")
    assert len((out / "report.csv").read_text().splitlines()) == 1 + 8
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0
    assert "in a lab" not in again.stderr


def test_a_lab_that_cannot_be_had_is_an_error_in_a_line(
    monkeypatch: pytest.MonkeyPatch, study: Study, plan: list[Planned], tmp_path: Path
) -> None:
    from realrun.lab import run as lab_run

    def refused() -> Namespace:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(lab_run, "Namespace", refused)
    with pytest.raises(RunError, match="only root may"):
        labs.in_labs(study, plan, Archive(tmp_path), ["validate"], lambda text: None)


def test_a_validation_ends_with_the_status_of_workers_that_said_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Silent(Played):
        def run(self, *_: object) -> int:
            return 7

    monkeypatch.setattr(labs, "built", lambda *_, **__: nullcontext(Silent()))
    with pytest.raises(SystemExit) as left:
        app(["validate", str(QUICK), "--out", str(tmp_path)])
    assert left.value.code == 7
    assert capsys.readouterr().err == "realrun: in a lab with 2 workers and 4 networks\n"
    assert not (tmp_path / "report.md").exists()


def test_a_study_stands_for_its_cases_where_machines_are_measured(tmp_path: Path) -> None:
    text = QUICK.read_text().replace(
        'name = "streaming_diloco",', 'name = "diloco", comm_dtype = "int8",'
    )
    text = text.replace(", layers_per_fragment = 2, fragment_sync_delay = 1", "")
    path = tmp_path / "study.toml"
    path.write_text(text + '"site.count" = [2, 3]\n')
    found = to_be_measured(str(path), {}, [], 3)
    assert {len(each.scenario.workers) for each in found} == {3}
    assert {each.scenario.comm_dtype for each in found} == {"bf16", "int8"}
    assert {each.sections.train.compute_mode for each in found} == {"paced"}
    assert len(to_be_measured(str(path), {}, [], 5)) == 2 * len(found)  # there is none of 5
    (alone,) = to_be_measured("quick_start", {}, [], 2)
    assert alone.scenario.method.name == "diloco"
    with pytest.raises(ScenarioError, match="not one scenario"):
        to_be_measured("streaming_diloco_table4", {}, [])
