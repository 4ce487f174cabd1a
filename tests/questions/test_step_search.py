"""The fewest inner steps that reach a target, against a scan of every number."""

from dataclasses import replace

import pytest

from sim import make_scenario
from sim.figures.evaluation import figures
from sim.program import ArgumentError
from sim.questions.step_search import fewest_steps
from sim.runtime import simulate


@pytest.mark.parametrize("method", ["diloco", "streaming_diloco"])
@pytest.mark.parametrize("target", [0.5, 0.8])
def test_the_search_finds_what_a_scan_of_every_number_finds(method, target):
    scenario = make_scenario(model="1B", method=method, bandwidth="20 Gbit/s").resolved

    def utilization(steps):
        arguments = {**scenario.method.arguments, "sync_every": steps}
        changed = replace(scenario, method=replace(scenario.method, arguments=arguments))
        return figures(simulate(changed)).compute_utilization

    scanned = next(steps for steps in range(1, 200) if utilization(steps) >= target)
    assert fewest_steps(scenario, target).sync_every == scanned


def test_a_method_without_sync_every_is_refused():
    scenario = make_scenario(model="1B", method="ddp", bandwidth="20 Gbit/s").resolved
    with pytest.raises(ArgumentError, match="ddp takes no sync_every"):
        fewest_steps(scenario, 0.5)


def test_sync_every_per_worker_is_refused():
    scenario = make_scenario(model="1B", method="diloco", bandwidth="20 Gbit/s").resolved
    arguments = {**scenario.method.arguments, "sync_every": (4, 8)}
    each = replace(scenario, method=replace(scenario.method, arguments=arguments))
    with pytest.raises(ArgumentError, match="given per worker"):
        fewest_steps(each, 0.5)
