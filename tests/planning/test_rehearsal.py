"""A rehearsal is a lower bound, and the time itself where workers are equal."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.plain_scenario import machine, plain

from sim.network.links import Links
from sim.planning.rehearsal import rehearsed
from sim.questions.replications import predicted
from sim.records.scenario import Jitter, Run, Scenario

SETTINGS = [
    ("ddp", {"overlap": "none"}),
    ("ddp", {"overlap": "bucket", "bucket_bytes": 60}),
    ("ddp", {"overlap": "layer"}),
    ("ddp", {"zero1": True, "overlap": "none"}),
    ("local_sgd", {"sync_every": 5}),
    ("diloco", {"sync_every": 5}),
    ("diloco", {"sync_every": 5, "overlap": "layer"}),
    ("streaming_diloco", {"sync_every": 6, "layers_per_fragment": 1, "fragment_sync_delay": 0}),
    ("streaming_diloco", {"sync_every": 6, "layers_per_fragment": 1, "fragment_sync_delay": 2}),
    ("streaming_diloco", {"sync_every": 6, "layers_per_fragment": 1, "overlap": "layer"}),
    ("streaming_diloco", {"sync_every": 4, "layers_per_fragment": 2, "comm_dtype": "fp4"}),
    ("delayed_diloco", {"sync_every": 3}),
    ("eager_diloco", {"sync_every": 3}),
]


def of(method: str, arguments: dict, **other: object) -> Scenario:
    return plain(method, arguments, layers=(50, 50, 40), latency=0.1, **other)


def both(scenario: Scenario) -> tuple:
    return rehearsed(scenario, Links(scenario)), predicted(scenario).figures


@pytest.mark.parametrize("bandwidth", [20.0, 100.0, 2000.0])
@pytest.mark.parametrize(("method", "arguments"), SETTINGS)
def test_with_equal_workers_the_rehearsal_is_the_run(method, arguments, bandwidth) -> None:
    bound, figures = both(of(method, arguments, workers=3, bandwidth=bandwidth))
    assert bound.token_s == pytest.approx(figures.time_for(1.0), rel=1e-9)
    assert bound.utilization == pytest.approx(figures.compute_utilization, rel=1e-9)
    assert bound.tokens_per_update == pytest.approx(figures.tokens_per_update, rel=1e-9)
    sent = figures.sent_bytes_per_worker / figures.window_tokens
    assert bound.sent_per_token == pytest.approx(sent, rel=1e-9)
    assert bound.least_token_s <= bound.token_s * (1 + 1e-9)
    assert bound.most_utilization >= bound.utilization * (1 - 1e-9)


@pytest.mark.parametrize(
    ("method", "arguments"), [*SETTINGS, ("acco", {}), ("dpu", {}), ("wp", {})]
)
def test_with_unequal_workers_and_jitter_the_run_takes_no_less(method, arguments) -> None:
    machines = [
        machine(1.0, optimizer_seconds=0.05),
        machine(1.7, jitter=Jitter("lognormal", 0.2)),
        machine(1.2, speed=0.9, outer_step_seconds=0.1),
    ]
    scenario = of(method, arguments, machines=machines, bandwidth=100.0)
    scenario = replace(scenario, run=Run(seed=3, replications=1))
    bound, figures = both(scenario)
    # Of few random steps the mean may lie a little below that of many.
    slack = 0.9 if method not in ("acco", "dpu", "wp") else 0.8
    assert bound.token_s * slack <= figures.time_for(1.0)
    assert bound.tokens_per_update <= figures.tokens_per_update * (1 + 1e-9)


def test_an_exchange_that_takes_long_is_known_to_enlarge_the_update() -> None:
    scenario = of("acco", {}, workers=2, bandwidth=20.0)
    bound, figures = both(scenario)
    assert bound.looks
    assert bound.tokens_per_update > 2 * scenario.tokens_per_step  # the exchange lasts many steps
    assert bound.tokens_per_update <= figures.tokens_per_update
    assert bound.tokens_per_update > 0.7 * figures.tokens_per_update


def test_another_delay_or_overlap_is_bounded_by_the_kind() -> None:
    """What is rehearsed with the plainest overlap bounds the settings that move it in time."""
    plain_kind = rehearsed(
        (base := of("streaming_diloco", {"sync_every": 6, "layers_per_fragment": 1})), Links(base)
    )
    for delay in (0, 1, 5):
        for overlap in ("none", "layer"):
            arguments = {"sync_every": 6, "layers_per_fragment": 1}
            arguments |= {"fragment_sync_delay": delay, "overlap": overlap}
            bound, figures = both(of("streaming_diloco", arguments))
            assert plain_kind.least_token_s <= figures.time_for(1.0) * (1 + 1e-9)
            assert plain_kind.tokens_per_update == pytest.approx(bound.tokens_per_update)
            assert plain_kind.sent_per_token == pytest.approx(bound.sent_per_token)
