"""A published prediction and what a user gets for the same question are one figure.

The report of validation/lab predicts through :mod:`realrun.validation.predict`. A user writes a
scenario file, gives options and a hardware file. Both must come to the same scenario.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from realrun.validation.archive import calibration
from realrun.validation.plan import Planned, planned
from realrun.validation.predict import as_calibrated, as_run, simulated
from sim.cli import app
from sim.figures.breakdown import listed
from sim.figures.evaluation import figures
from sim.runtime import simulate
from sim.scenario import Scenario, ScenarioError, load, load_study

LAB = Path(__file__).parents[2] / "validation" / "lab"


@pytest.fixture(scope="module")
def plan() -> list[Planned]:
    return planned(load_study(LAB / "study.toml"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lab's scenario without its study, as a user's file."""
    path = tmp_path_factory.mktemp("lab") / "lab.toml"
    path.write_text((LAB / "study.toml").read_text().split("\n[study]\n")[0])
    return path


def asked(each: Planned) -> tuple[dict[str, str], list[str]]:
    """Options and settings with which a user asks for one of the study's configurations."""
    axes: dict[str, Any] = tomllib.loads((LAB / "study.toml").read_text())["study"]["axis"]
    options = {
        "--hardware": str(LAB / f"calibration-{each.workers}-launch-1.toml"),
        "--rounds": str(each.scenario.run.rounds),
    }
    settings = [
        f"run.measured_rounds={(each.scenario.run.rounds or 0) - 1}",
        f"train.compute_mode={each.mode}",
    ]
    for axis, label in each.labels.items():
        if axis in axes and isinstance(axes[axis], dict):
            settings += written(axes[axis][label])
    settings.append(f"network.rtt={each.labels['network.rtt_s']} s")
    settings.append(f"site.count={each.workers}")
    settings.sort(key=lambda setting: setting.startswith("site.site-"))
    return options, settings


def written(table: dict[str, Any], prefix: str = "") -> list[str]:
    """A table of a study's axis as --set takes it."""
    found = []
    for key, value in table.items():
        if isinstance(value, dict):
            found += written(value, f"{prefix}{key}.")
        else:
            found.append(f"{prefix}{key}={value}")
    return found


def told_apart(scenario: Scenario) -> Scenario:
    """All of it, but which keys were given."""
    return replace(scenario, assumed=())


def test_all_sixty_configurations_are_the_scenarios_that_a_user_gets(
    plan: list[Planned], base: Path
) -> None:
    assert len(plan) == 60
    for each in plan:
        options, settings = asked(each)
        hardware = calibration(Path(options["--hardware"]))
        by_report = told_apart(as_calibrated(each, hardware))
        assert by_report == told_apart(load(base, options, settings)), each.name


@pytest.mark.parametrize("number", [11, 17, 13])  # paced, paced and slower, real and slower
def test_the_command_line_prints_the_figure_of_the_report(
    plan: list[Planned], base: Path, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    each = plan[number]
    options, settings = asked(each)
    words = [word for pair in options.items() for word in pair]
    words += [word for setting in settings for word in ("--set", setting)]
    with pytest.raises(SystemExit) as left:
        app(["simulate", str(base), *words, "--replications", "3", "--json"])
    assert not left.value.code
    printed = json.loads(capsys.readouterr().out)

    scenario = as_calibrated(each, calibration(Path(options["--hardware"])))
    found = simulated(replace(scenario, run=replace(scenario.run, replications=3)))
    part = printed["evaluated_rounds"]
    assert part["wall_clock_s"] == found.figures.wall_clock_s
    assert part["wall_clock_low_s"] == found.interval.low
    assert part["wall_clock_high_s"] == found.interval.high
    assert part["compute_utilization"] == found.figures.compute_utilization
    assert part["breakdown"] == listed(found.figures.breakdown)
    assert part["inner_step_s"] == found.figures.inner_step_s
    assert printed["replications"] == 3


def test_a_prediction_covers_the_rounds_that_are_measured(plan: list[Planned]) -> None:
    """All but the first, to the last worker's end: as in a run's own trace."""
    each = plan[17]
    scenario = as_calibrated(each, calibration(LAB / "calibration-2-launch-1.toml"))
    trace = simulate(scenario, rounds=each.scenario.run.rounds)
    assert trace.context.window is None  # as in a trace that was measured
    windowed = figures(simulate(scenario))
    assert windowed.window_rounds == (each.scenario.run.rounds or 0) - 1
    assert figures(trace) == windowed


# The rule, key by key


HARDWARE = """\
[calibration]
schema = 1
backend = "gloo"
[machine.a]
parameters = 1_000_000
batch_tokens = 1000
inner_step_s = 0.5
inner_optimizer_s = 0.05
outer_gradient_s = 0.02
outer_step_s = 0.03
quantize_s = 0.01
communication_slowdown = 1.5
background_slowdown = 1.25
communication_s_per_byte = 1e-9
transmission_slowdown = { bytes_per_s = [1e6], slowdown = [1.1] }
cold_start = { pause_s = [0.5, 2], seconds = [0.1, 0.3] }
samples = [1.0, 3.0]
message_s = 1e-4
call_s = 1e-3
[machine.b]
inner_step_s = 0.7
batch_tokens = 1000
message_s = 3e-4
byte_s = 1e-9
[machine.idle]
inner_step_s = 9.0
message_s = 1.0
[link.a-b]
goodput_bytes_per_s = 1e6
rtt_s = 0.1
[[link.a-b.collective]]
operation = "all_reduce"
dtype = "bf16"
bytes = [10, 1000]
seconds = [1, 2]
[link.a-c]
goodput_bytes_per_s = 5e5
rtt_s = 0.2
[[link.a-c.collective]]
operation = "all_reduce"
dtype = "bf16"
bytes = [10]
seconds = [7]
[[link.a-c.collective]]
operation = "all_gather"
dtype = "bf16"
bytes = [10]
seconds = [3]
[link.b-c]
goodput_bytes_per_s = 2e6
rtt_s = 0.3
"""
SCENARIO = """\
hardware = "hw.toml"
[model]
parameters = 1_000_000
[method]
name = "diloco"
sync_every = 4
comm_dtype = "int8"
[[site]]
name = "a"
speed = 0.5
step_time = "2 s"
batch_tokens = 1000
outer_step_time = "1 s"
jitter = "lognormal:0.1"
[[site]]
name = "b"
step_time = "2 s"
batch_tokens = 1000
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "hw.toml").write_text(HARDWARE)
    path = tmp_path / "case.toml"
    path.write_text(SCENARIO)
    return path


def test_keys_of_the_scenario_go_before_the_file_where_nothing_is_said_of_computation(
    file: Path,
) -> None:
    machine = load(file).workers[0].machine
    assert (machine.step_seconds, machine.outer_step_seconds, machine.speed) == (2.0, 1.0, 0.5)
    assert machine.jitter.distribution == "lognormal"
    assert machine.optimizer_seconds == 0.05
    assert machine.communication_slowdown == 1.5
    assert machine.quantize_seconds == 0.01


def test_paced_computation_takes_nothing_but_packing_from_the_file(file: Path) -> None:
    scenario = load(file, {}, ["train.compute_mode=paced"])
    machine = scenario.workers[0].machine
    assert (machine.step_seconds, machine.outer_step_seconds, machine.speed) == (2.0, 1.0, 0.5)
    assert machine.jitter.distribution == "lognormal"
    assert (machine.optimizer_seconds, machine.outer_gradient_seconds) == (0.0, 0.0)
    assert (machine.communication_slowdown, machine.background_slowdown) == (1.0, 1.0)
    assert (machine.communication_s_per_byte, machine.transmission_slowdown) == (0.0, ())
    assert machine.cold_start == ()
    # Values are really packed, by a machine that is no slower: 10 ms at half the speed.
    assert machine.quantize_seconds / machine.speed == 0.01
    assert scenario.network.bandwidth[0][1] == 1e6
    assert scenario.network.collectives.host.message_s == 3e-4


def test_paced_computation_without_a_time_is_refused_although_the_file_has_one(
    file: Path,
) -> None:
    file.write_text(SCENARIO.replace('step_time = "2 s"\n', ""))
    assert load(file).workers[0].machine.step_seconds == 0.5
    with pytest.raises(ScenarioError, match=r"step_time: missing.*paced computation does not"):
        load(file, {}, ["train.compute_mode=paced"])


def test_real_computation_takes_the_file_before_the_scenario(file: Path) -> None:
    scenario = load(file, {}, ["train.compute_mode=real"])
    first, second = (worker.machine for worker in scenario.workers)
    assert (first.step_seconds, second.step_seconds) == (0.5, 0.7)
    assert (first.speed, second.speed) == (1.0, 1.0)  # a machine is as fast as it is
    assert first.outer_step_seconds == 0.03
    assert first.jitter.samples == (0.5, 1.5)
    assert second.jitter.distribution == "constant"
    assert first.cold_start == ((0.5, 0.1), (2.0, 0.3))
    assumed = dict(scenario.assumed)
    assert "what the scenario gives is not used" in assumed["site.a.step_time"]
    assert assumed["site.a.speed"].startswith("1;")
    assert "not used" not in assumed["site.a.optimizer_time"]


def test_real_computation_takes_the_scenario_where_the_file_has_nothing(file: Path) -> None:
    settings = ["train.compute_mode=real", "site.b.outer_step_time=4s"]
    assert load(file, {}, settings).workers[1].machine.outer_step_seconds == 4.0
    file.with_name("hw.toml").write_text(
        "[calibration]\nschema = 1\n[link.a-b]\nrtt_s = 0.1\n"
    )  # nothing computed
    machine = load(file, {}, settings).workers[0].machine
    assert (machine.step_seconds, machine.speed) == (2.0, 0.5)


def test_workers_that_are_slowed_down_sleep_and_are_cold_in_every_step(file: Path) -> None:
    settings = ["train.compute_mode=real", "train.emulate_speeds=true", "site.b.speed=2"]
    first, second = (w.machine for w in load(file, {}, settings).workers)
    assert (first.speed, second.speed) == (0.25, 1.0)  # of the fastest
    # A step of 0.5 s is followed by 1.5 s of sleep: 0.1 + (0.3 - 0.1) * (1.5 - 0.5) / 1.5.
    longer = 0.1 + 0.2 / 1.5
    assert first.step_seconds == pytest.approx(0.5 + longer)
    assert first.cold_start == ((0.5, 0.0), (2.0, pytest.approx(0.3 - longer)))


def test_host_overhead_is_the_slowest_of_the_machines_that_take_part(file: Path) -> None:
    host = load(file).network.collectives.host
    assert (host.message_s, host.byte_s, host.call_s) == (3e-4, 1e-9, 1e-3)
    alone = load(file, {}, ["site.b.machine=a"]).network.collectives
    assert (alone.algorithm, alone.concurrent) == ("gloo", 2)
    assert (alone.host.message_s, alone.host.byte_s) == (1e-4, 0.0)


def test_tables_of_several_links_are_the_slowest_links(file: Path) -> None:
    with_tables = HARDWARE.replace('backend = "gloo"', 'backend = "nccl"')
    file.with_name("hw.toml").write_text(with_tables)
    two = load(file).network.collectives
    assert (two.algorithm, two.concurrent) == ("ring", 1)
    assert [(t.operation, t.seconds) for t in two.tables] == [("all_reduce", (1, 2))]
    file.write_text(SCENARIO + '[[site]]\nname = "c"\nmachine = "b"\nstep_time = "1 s"\n')
    three = load(file).network
    assert [(t.operation, t.seconds) for t in three.collectives.tables] == [
        ("all_reduce", (7,)),
        ("all_gather", (3,)),
    ]
    assert three.bandwidth[0][1:] == (1e6, 5e5)
    assert [2 * latency for latency in three.latency[0][1:]] == [0.1, 0.2]
    assert load(file, {}, ["network.rtt=1ms"]).network.collectives.tables == ()


# What a validation writes


def test_links_that_were_measured_go_before_what_a_study_says_of_them(
    tmp_path: Path, plan: list[Planned]
) -> None:
    text = '[calibration]\nschema = 1\nbackend = "gloo"\n[link.{}]\ngoodput_bytes_per_s = 5e6\n'
    text += "rtt_s = 0.5\nfirst_collective_s = 9.0\n"
    path = tmp_path / "calibration-2-launch-1.toml"
    each = next(each for each in plan if each.workers == 2)
    emulated = each.scenario.network
    for name, rate, latency in (
        ("site-1-site-2", 5e6, 0.25),
        ('"30 Mbit/s, 0 s"', emulated.bandwidth[0][1], emulated.latency[0][1]),
    ):
        path = tmp_path / f"{name[:5].strip(chr(34))}.toml"
        path.write_text(text.format(name))
        network = as_calibrated(each, calibration(path)).network
        assert (network.bandwidth[0][1], network.latency[0][1]) == (rate, latency)
        assert network.collectives.first_seconds == 0.0  # runs are warmed up
    assert as_run(each, calibration(path)).has("network", "bandwidth")
