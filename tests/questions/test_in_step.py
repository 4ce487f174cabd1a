"""Two paces of one program over gloo's messages, and that a prediction says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.command_line import Command
from support.plain_scenario import machine, plain

from sim.figures.evaluation import figures
from sim.questions.in_step import other_pace_s, warned
from sim.questions.replications import a_round_s as a_round
from sim.questions.replications import predicted
from sim.records.scenario import Collectives, HostCosts, Jitter, Run, Scenario
from sim.runtime import simulate
from sim.scenario import load

RATE, LATENCY, COMPUTE = 1000.0, 0.5, 2.0
CALL = 0.01  # what comes with the last data is there before the next call


def two(arguments: dict[str, Any], algorithm: str = "gloo", **other: Any) -> Scenario:
    """100 parameters in fp32 and two workers: half a buffer of a collective takes 0.2 s."""
    collectives = Collectives(algorithm=algorithm, host=HostCosts(call_s=CALL))
    return plain(
        "ddp",
        {"comm_dtype": "fp32", **arguments},
        bandwidth=RATE,
        latency=LATENCY,
        collectives=collectives,
        run=Run(measured_rounds=10),
        **{"machines": [machine(COMPUTE)] * 2, **other},
    )


def a_round_s(scenario: Scenario, skew_s: float = 0.0) -> float:
    run = replace(scenario.run, start_skew_s=skew_s)
    found = figures(simulate(replace(scenario, run=run)))
    return found.wall_clock_s / found.window_rounds


def slow_link() -> Scenario:
    """Half a buffer takes 20 s, which is longer than all else."""
    return replace(
        two({"zero1": True}),
        network=replace(two({}).network, bandwidth=((10.0,) * 2,) * 2),
    )


def test_a_late_start_is_kept_and_costs_each_round() -> None:
    scenario = slow_link()
    slower = a_round_s(scenario, 1.5 * LATENCY)
    assert slower > 1.3 * a_round_s(scenario)
    assert slower == pytest.approx(a_round_s(scenario, 5 * LATENCY), rel=1e-6)


def test_what_it_takes_is_said() -> None:
    scenario = slow_link()
    (said,) = warned(scenario, predicted(scenario)).warnings
    assert "run.start_skew" in said
    assert f"{a_round_s(scenario, 1.5 * LATENCY):.3g} s per round" in said


ACCO = """
[model]
kind = "gpt"
size = "1M"
[method]
name = "acco"
[run]
rounds = 12
[[site]]
name = "a"
step_time = "100 ms"
batch_tokens = 1024
n_grad_accumulation = 2
[[site]]
name = "b"
step_time = "100 ms"
batch_tokens = 1024
n_grad_accumulation = 2
[network]
bandwidth = "50 Mbit/s"
rtt = "20 ms"
collective = { algorithm = "gloo", call_time = "0.8 ms" }
"""


def test_it_is_said_also_where_a_tie_has_put_the_workers_out_of_step(tmp_path: Path) -> None:
    path = tmp_path / "acco.toml"
    path.write_text(ACCO)
    scenario = load(path)
    own = predicted(scenario)
    late = replace(scenario, run=replace(scenario.run, start_skew_s=0.015))
    assert a_round(predicted(late).figures) == pytest.approx(a_round(own.figures), rel=0.02)
    (said,) = [text for text in warned(scenario, own).warnings if "exactly in step" in text]
    assert "message_time" in said
    other = other_pace_s(scenario, own)
    assert other is not None
    assert other < 0.95 * a_round(own.figures)


@pytest.mark.parametrize(
    "scenario",
    [
        two({}),  # a ring sends in one direction
        two({"zero1": True}, "ring"),
        two({"zero1": True}, machines=[machine(COMPUTE, jitter=Jitter("normal", 0.1))] * 2),
        replace(slow_link(), run=Run(measured_rounds=10, start_skew_s=1.0)),
    ],
    ids=["all-reduce", "no messages", "random", "given"],
)
def test_elsewhere_nothing_is_said(scenario: Scenario) -> None:
    assert warned(scenario, predicted(scenario)).warnings == ()


def test_the_command_says_it(bandwise: Command) -> None:
    asked = ("--model", "1B", "--sites", "2", "--bandwidth", "10Gbit/s", "--method", "ddp", "--set")
    more = ("network.collective.algorithm=gloo", "--set", "method.zero1=true", "--set")
    more = (*more, "method.overlap=none")
    assert "Workers exactly in step" in bandwise("simulate", *asked, *more).out
