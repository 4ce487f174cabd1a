"""Frozen parameters cost computation and no traffic: adapters on a base that is not trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.plain_scenario import machine, plain

from sim.figures.evaluation import figures
from sim.records.flops import flops_per_token
from sim.runtime import simulate
from sim.scenario import ScenarioError, load
from sim.theory import wall_clock

LORA = {
    "--model": "20M",
    "--accelerators": "8 x H100",
    "--batch-tokens": "64Ki",
    "--mfu": "40%",
    "--method": "diloco",
    "--sync-every": "10",
    "--sites": "2",
    "--bandwidth": "1Gbit/s",
}
FROZEN = ["model.frozen_parameters=7B"]
RATE = 8 * 989e12 * 0.40


def test_adapters_on_a_frozen_model_take_its_time_and_send_themselves():
    scenario = load(None, LORA, FROZEN)
    model = scenario.model
    assert (model.parameters, model.frozen_parameters) == (20_000_000, 7_000_000_000)
    assert model.active_parameters == 7_020_000_000
    assert sum(model.layer_parameters) == 20_000_000
    step = (6 * 20e6 + 4 * 7e9) * 2**16 / RATE
    assert scenario.workers[0].machine.step_seconds == pytest.approx(step)
    reduced = [row for row in simulate(scenario).rows if row.operation == "all_reduce"]
    assert {row.bytes for row in reduced} == {20e6 * 2}  # bf16


def test_without_frozen_parameters_a_token_takes_six_operations_per_parameter():
    assert flops_per_token(10e9) == 60e9
    assert flops_per_token(10e9, active_parameters=2e9) == 12e9
    options = {**LORA, "--model": "7020M"}
    whole = load(None, options).workers[0].machine
    lora = load(None, LORA, FROZEN).workers[0].machine
    assert whole.step_seconds == pytest.approx(6 * 7.02e9 * 2**16 / RATE)
    assert 1.49 < whole.step_seconds / lora.step_seconds < 1.5


def test_a_frozen_mixture_of_experts_computes_with_its_active_parameters():
    settings = ["model.frozen_parameters=100B", "model.active_parameters=10020M"]
    scenario = load(None, LORA, settings)
    step = (6 * 20e6 + 4 * 10e9) * 2**16 / RATE
    assert scenario.workers[0].machine.step_seconds == pytest.approx(step)


def test_the_step_time_says_what_it_was_computed_from():
    found = dict(load(None, LORA, FROZEN).assumed)
    assert "(6 x trained + 4 x frozen parameters) x tokens" in found["site.step_time"]
    assert found["model.active_parameters"] == "7.02B (all, trained and frozen)"


def test_the_depth_is_that_of_the_whole_model():
    assert load(None, LORA, FROZEN).model.layers == 33
    assert load(None, LORA).model.layers == 5


def test_more_active_parameters_than_there_are_is_refused():
    with pytest.raises(ScenarioError, match=r"at most 7.02B, trained and frozen ones together"):
        load(None, LORA, [*FROZEN, "model.active_parameters=8B"])
    with pytest.raises(ScenarioError, match=r"give frozen ones as model.frozen_parameters"):
        load(None, LORA, ["model.active_parameters=7B"])


def test_the_published_step_time_of_a_preset_is_not_that_of_adapters():
    with pytest.raises(ScenarioError, match="step_time: missing"):
        load(None, {"--model": "1B", "--sites": "2"}, FROZEN)


@pytest.mark.parametrize(
    ("frozen", "ratio"), [(0, 2.0), (20_000_000, 1.5), (7_000_000_000, 7.04 / 7.02)]
)
def test_a_backward_pass_over_frozen_parameters_is_as_long_as_a_forward_pass(frozen, ratio):
    settings = [f"model.frozen_parameters={frozen}"] if frozen else []
    found = load(None, LORA, settings).workers[0].machine
    assert found.backward_ratio == pytest.approx(ratio)


@pytest.mark.parametrize("method", ["ddp", "acco"])
def test_the_ratio_divides_a_step_and_does_not_change_its_length(method):
    """Seconds of a step of 3: forward 1.5 and backward 1.5 instead of 1 and 2."""
    asked = plain(method, {"overlap": "layer"} if method == "ddp" else {}, workers=1)
    own = replace(asked.workers[0], machine=machine(3.0, backward_ratio=1.0))
    equal = replace(asked, workers=(own,))
    trace = simulate(equal, rounds=2)
    usual = replace(asked, workers=(replace(own, machine=machine(3.0)),))
    assert trace.total_s == pytest.approx(simulate(usual, rounds=2).total_s)
    assert trace.total_s == pytest.approx(wall_clock(equal, 2).total_s)
    forward = [row.work_s for row in trace.rows if row.operation == "forward"]
    assert method == "acco" or forward[0] == pytest.approx(1.5)


def test_less_is_hidden_behind_a_shorter_backward_pass_and_theory_agrees():
    layers = (30, 30, 30)
    full = plain("ddp", {"overlap": "layer"}, machines=[machine(3.0)] * 2, layers=layers)
    adapters = plain(
        "ddp",
        {"overlap": "layer"},
        machines=[machine(3.0, backward_ratio=1.0)] * 2,
        layers=layers,
    )
    total = []
    for case in (full, adapters):
        total.append(simulate(case, rounds=4).total_s)
        assert total[-1] == pytest.approx(wall_clock(case, 4).total_s)
    assert total[1] != pytest.approx(total[0])


def test_measured_times_scale_with_operations_and_optimizers_with_what_is_trained(tmp_path: Path):
    (tmp_path / "measured.toml").write_text(
        "[calibration]\nschema = 1\n[machine.worker]\ninner_step_s = 1.0\ninner_optimizer_s = 0.5\n"
        "parameters = 10_000_000\nfrozen_parameters = 1_000_000_000\nbatch_tokens = 65536\n"
    )
    (tmp_path / "case.toml").write_text(
        'hardware = "measured.toml"\n[model]\nparameters = "20M"\nfrozen_parameters = "7B"\n'
        '[[site]]\ncount = 2\nbatch_tokens = "64Ki"\n[method]\nname = "diloco"\n'
    )
    found = load(str(tmp_path / "case.toml")).workers[0].machine
    ratio = (6 * 20e6 + 4 * 7e9) / (6 * 10e6 + 4 * 1e9)
    assert found.step_seconds == pytest.approx(ratio)
    assert found.optimizer_seconds == pytest.approx(0.5 * 2)


def test_the_first_line_names_both():
    from sim.output.run_report import subject

    scenario = load(None, LORA, FROZEN)
    assert "20M parameters trained, 7B frozen" in subject(scenario)
    assert figures(simulate(scenario)).compute_utilization > 0.5
