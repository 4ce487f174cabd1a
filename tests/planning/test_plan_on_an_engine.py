"""A plan whose settings are simulated on an engine: the same answer, several settings at a time."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from support.command_line import Bandwise

from sim.planning.asked import Asked, asked_of
from sim.planning.decision import Plan, plan
from sim.planning.predictions import AT_ONCE, Predictions
from sim.processes.engines import engine
from sim.scenario import load
from sim.scenario.loading import document_of

OPTIONS = {"--model": "1B", "--sites": "paris,osaka", "--bandwidth": "2Gbit/s", "--rtt": "60ms"}


class Elsewhere:
    """An engine that sends items and results away, and gives results in another order."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, function: Callable[[Any], Any], items: Any) -> Iterator[Any]:
        sent = pickle.loads(pickle.dumps(list(items)))
        self.asked.append(len(sent))
        for item in reversed(sent):
            yield pickle.loads(pickle.dumps(function(item)))


def asked(**more: str) -> Asked:
    given = OPTIONS | {f"--{name.replace('_', '-')}": value for name, value in more.items()}
    return asked_of(document_of(None, given, []))


def told(found: Plan) -> list[Any]:
    chosen = (found.recommended, found.fastest, found.leanest, found.given, *found.front)
    points = [(point.setting, point.figures) for point in (*chosen, *found.points)]
    changes = [(each.key, each.after, each.point.figures) for each in found.changes]
    return [*points, *changes, found.binds, found.excluded, found.simulated]


@pytest.mark.parametrize("more", [{}, {"jitter": "lognormal:0.1", "method": "diloco"}])
def test_a_plan_on_an_engine_is_the_plan_without(more: dict[str, str]) -> None:
    elsewhere = Elsewhere()
    here = plan(asked(**more), 0.9, 2e9)
    there = plan(asked(**more), 0.9, 2e9, predictions=Predictions(elsewhere))
    assert repr(told(there)) == repr(told(here))  # nan is no equal of itself
    assert max(elsewhere.asked) == AT_ONCE
    assert len(elsewhere.asked) < here.simulated


def test_a_trace_that_was_not_sent_is_simulated_again() -> None:
    base = load(None, {**OPTIONS, "--method": "diloco"})
    found, known = Predictions(Elsewhere()).of(base), Predictions().of(base)
    assert found.trace.total_s == known.trace.total_s


def test_what_fails_matters_only_if_it_is_asked_for() -> None:
    base = load(None, {**OPTIONS, "--method": "diloco"})
    wrong = {**base.method.arguments, "control_time": 1.0}  # goes with control_round_trips
    broken = replace(base, method=replace(base.method, arguments=wrong))
    runs = Predictions(Elsewhere())
    assert runs.of(base, [broken]).figures == Predictions().of(base).figures
    with pytest.raises(ValueError, match="control_round_trips"):
        runs.of(broken)


def test_the_command_finds_the_same_in_processes(bandwise: Bandwise) -> None:
    words = ["plan", *(word for pair in OPTIONS.items() for word in pair), "--method", "diloco"]
    words += ["--set", "method.sync_every=50", "--tokens", "2B", "--json"]
    here, there = bandwise(*words), bandwise(*words, "--backend", "local")
    assert there.status == 0, there.err
    assert there.json == here.json
    wrong = bandwise(*words, "--address", "a:1")
    assert wrong.status == 2
    assert "--address: goes with --backend dask or --backend ray" in wrong.err


def test_a_dask_cluster_finds_the_same() -> None:
    distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
    given = asked(method="diloco")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=False,
            protocol="tcp://",
            dashboard_address=None,
            host="127.0.0.1",
        ) as cluster,
        engine("dask", cluster.scheduler_address) as dask,
    ):
        there = plan(given, 0.9, 2e9, predictions=Predictions(dask))
    assert repr(told(there)) == repr(told(plan(given, 0.9, 2e9)))
