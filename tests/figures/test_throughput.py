"""Model FLOPs utilization and tokens per second per accelerator."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.plain_scenario import machine, plain

from sim.figures.evaluation import Figures, figures
from sim.figures.throughput import throughput
from sim.records.flops import flops_per_token
from sim.records.scenario import Scenario
from sim.runtime import simulate
from sim.scenario.loading import load

OPTIONS = {
    "--model": "10B",
    "--accelerators": "64 x H100",
    "--batch-tokens": "1Mi",
    "--mfu": "40%",
    "--method": "diloco",
    "--bandwidth": "1Gbit/s",
}


def figures_of(scenario: Scenario) -> Figures:
    return figures(simulate(scenario))


def test_mfu_is_the_steps_mfu_times_the_share_of_time_spent_computing() -> None:
    result = figures_of(load(None, OPTIONS))
    assert result.throughput is not None
    assert 0.1 < result.compute_utilization < 0.9
    assert result.throughput.mfu == pytest.approx(0.40 * result.compute_utilization, rel=1e-9)
    assert result.throughput.accelerators == 128
    per_accelerator = result.window_tokens / result.wall_clock_s / 128
    assert result.throughput.tokens_per_s_per_accelerator == pytest.approx(per_accelerator)


def test_unequal_accelerators_count_with_their_own_peaks() -> None:
    """6 N x 20 tokens a second on 2 x 1e3 + 1 x 4e3 FLOP/s, all computing."""
    machines = [
        machine(accelerators=2, peak_flops=1e3 * 6e2),
        machine(accelerators=1, peak_flops=4e3 * 6e2),
    ]
    found = figures_of(plain("delayed_diloco", {"sync_every": 9}, machines=machines)).throughput
    assert found is not None
    assert found.mfu == pytest.approx(flops_per_token(100) * 20 / (6e3 * 6e2))
    assert found.tokens_per_s_per_accelerator == pytest.approx(20 / 3)


def test_it_is_not_given_where_a_site_is_unknown() -> None:
    known = machine(accelerators=2, peak_flops=1e15)
    assert figures_of(plain("diloco", machines=[known, known])).throughput is not None
    assert figures_of(plain("diloco", machines=[known, machine()])).throughput is None
    assert figures_of(plain("diloco")).throughput is None


def test_what_was_measured_is_not_divided_by_what_was_planned() -> None:
    scenario = plain("diloco", machines=[machine(accelerators=2, peak_flops=1e15)] * 2)
    trace = simulate(scenario)
    trace.context = replace(trace.context, measured=True)
    assert figures(trace).throughput is None
    assert throughput(6e3, 10.0, [(1, 989e12), (1, 0.0)]) is None
