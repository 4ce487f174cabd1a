"""Laws that hold for every scenario, also beyond the theory's domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.scenarios_strategy import scenarios, stretched, with_links
from support.thorough import examples

from sim import theory
from sim.figures.causes import CAUSES
from sim.figures.evaluation import figures
from sim.methods import METHODS
from sim.program import wire_bytes
from sim.records.scenario import Jitter, Machine, Method, Run, Scenario
from sim.runtime import simulate
from sim.trace.table import COLUMNS, Trace

LAW = settings(
    derandomize=True,
    deadline=None,
    max_examples=examples(120),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
RELATIVE = 1e-9
LOOK_AT_THE_CLOCK = ("acco", "dpu", "wp")
FIXED = tuple(sorted(set(METHODS) - set(LOOK_AT_THE_CLOCK)))
RUN = Run(skip_rounds=1, measured_rounds=3)

jitters = st.sampled_from(
    [Jitter(), Jitter("normal", 0.2), Jitter("empirical", 0.3, (0.7, 0.9, 1.4))]
)


@st.composite
def disturbed(draw: st.DrawFn, **kinds: Any) -> Scenario:
    """A scenario with jitter, slowed computation, and several collectives at once."""
    concurrent = draw(st.sampled_from([1, 2, 10]))
    scenario = draw(scenarios(concurrent=concurrent, **kinds))
    change = {
        "jitter": draw(jitters),
        "communication_slowdown": draw(st.sampled_from([1.0, 1.2])),
        "background_slowdown": draw(st.sampled_from([1.0, 1.1])),
    }
    return replace(scenario, run=RUN, workers=with_machines(scenario, **change))


def with_machines(scenario: Scenario, **change: Any) -> tuple[Any, ...]:
    return tuple(replace(w, machine=replace(w.machine, **change)) for w in scenario.workers)


def contents(trace: Trace) -> list[tuple[str, ...]]:
    return [tuple(repr(getattr(row, name)) for name in COLUMNS) for row in trace.rows]


# --- time -----------------------------------------------------------------------------------------


@LAW
@given(disturbed(), st.sampled_from([2.0, 3.0, 0.1, 1 / 3, 7.7]))
def test_all_durations_times_c_give_wall_clock_times_c(scenario, factor):
    once = simulate(scenario, rounds=3)
    scaled = simulate(stretched(scenario, factor), rounds=3)
    assert scaled.total_s == pytest.approx(factor * once.total_s, rel=RELATIVE)
    np.testing.assert_allclose(
        scaled.round_begins(), factor * once.round_begins(), rtol=RELATIVE, atol=0
    )
    assert scaled.sequence() == once.sequence()


@LAW
@given(disturbed())
def test_two_identical_runs_give_identical_traces(scenario):
    first, second = simulate(scenario, rounds=3), simulate(scenario, rounds=3)
    assert contents(first) == contents(second)
    assert first.total_s == second.total_s


@LAW
@given(scenarios(methods=FIXED), st.sampled_from([1.0, 1.5, 10.0]), st.sampled_from([1.0, 0.5, 0]))
def test_faster_links_are_never_slower(scenario, rate, wait):
    """Of methods that do not look at the clock; one that does uses the time for a bigger batch."""
    before = simulate(scenario, rounds=3).total_s
    assert simulate(with_links(scenario, rate, wait), rounds=3).total_s <= before * (1 + RELATIVE)


@LAW
@given(scenarios(methods=FIXED), st.data())
def test_one_faster_link_or_worker_is_never_slower(scenario, data):
    before = simulate(scenario, rounds=3).total_s
    count = len(scenario.sites)
    a = data.draw(st.integers(0, count - 1))
    b = data.draw(st.integers(0, count - 1))
    kind = data.draw(st.sampled_from(["pair", "uplink", "downlink", "within", "latency", "worker"]))
    sites, network, workers = list(scenario.sites), scenario.network, list(scenario.workers)
    if kind in ("pair", "latency"):
        name, factor = ("bandwidth", 2.0) if kind == "pair" else ("latency", 0.5)
        table = [list(row) for row in getattr(network, name)]
        table[a][b] *= factor
        network = replace(network, **{name: tuple(map(tuple, table))})
    elif kind == "worker":
        rank = data.draw(st.integers(0, len(workers) - 1))
        machine = workers[rank].machine
        workers[rank] = replace(workers[rank], machine=replace(machine, speed=2 * machine.speed))
    else:
        name = "within_bandwidth" if kind == "within" else kind
        sites[a] = replace(sites[a], **{name: getattr(sites[a], name) * 2})
    faster = replace(scenario, sites=tuple(sites), network=network, workers=tuple(workers))
    assert simulate(faster, rounds=3).total_s <= before * (1 + RELATIVE)


# --- names ----------------------------------------------------------------------------------------


def moved(arguments: Mapping[str, Any], place: Sequence[int]) -> dict[str, Any]:
    """Return the arguments with the entry of worker ``place[rank]`` at ``rank``."""
    return {
        key: tuple(value[was] for was in place) if isinstance(value, tuple) else value
        for key, value in arguments.items()
    }


@LAW
@given(scenarios(), st.data())
def test_workers_of_one_site_may_be_relabelled(scenario, data):
    """Machines (and delays) trade places inside their sites; times go with them."""
    place = list(range(len(scenario.workers)))  # rank -> whose machine it now has
    for site in range(len(scenario.sites)):
        ranks = [w.rank for w in scenario.workers if w.site == site]
        for rank, other in zip(ranks, data.draw(st.permutations(ranks)), strict=True):
            place[rank] = other
    arguments = moved(scenario.method.arguments, place)
    relabelled = replace(
        scenario,
        workers=tuple(
            replace(worker, machine=scenario.workers[other].machine)
            for worker, other in zip(scenario.workers, place, strict=True)
        ),
        method=replace(scenario.method, arguments=arguments),
    )
    before, after = simulate(scenario, rounds=3), simulate(relabelled, rounds=3)
    assert after.total_s == pytest.approx(before.total_s, rel=RELATIVE)
    np.testing.assert_allclose(
        after.round_begins(), before.round_begins()[:, place], rtol=RELATIVE, atol=0
    )


@LAW
@given(scenarios(), st.sampled_from(["ring", "direct"]), st.data())
def test_sites_may_be_relabelled(scenario, algorithm, data):
    """Where no rank is special (a tree's root is) and the ring keeps its order."""
    count = len(scenario.sites)
    old = data.draw(st.permutations(range(count)))  # new index -> old index
    new = {site: number for number, site in enumerate(old)}
    network, collectives = scenario.network, scenario.network.collectives
    order = collectives.order or tuple(range(count))
    collectives = replace(collectives, algorithm=algorithm, order=order)
    scenario = replace(scenario, network=replace(network, collectives=collectives))

    ranks = [w.rank for site in old for w in scenario.workers if w.site == site]
    arguments = moved(scenario.method.arguments, ranks)
    relabelled = replace(
        scenario,
        sites=tuple(scenario.sites[site] for site in old),
        workers=tuple(
            replace(scenario.workers[was], rank=rank, site=new[scenario.workers[was].site])
            for rank, was in enumerate(ranks)
        ),
        method=replace(scenario.method, arguments=arguments),
        network=replace(
            network,
            bandwidth=tuple(tuple(network.bandwidth[a][b] for b in old) for a in old),
            latency=tuple(tuple(network.latency[a][b] for b in old) for a in old),
            collectives=replace(collectives, order=tuple(new[site] for site in order)),
        ),
    )
    before, after = simulate(scenario, rounds=3), simulate(relabelled, rounds=3)
    assert after.total_s == pytest.approx(before.total_s, rel=RELATIVE)
    np.testing.assert_allclose(
        after.round_begins(), before.round_begins()[:, ranks], rtol=RELATIVE, atol=0
    )


# --- figures --------------------------------------------------------------------------------------


@LAW
@given(disturbed(), st.integers(1, 5))
def test_fractions_lie_between_zero_and_one_and_sum_to_one(scenario, rounds):
    found = figures(simulate(scenario, rounds=rounds))
    for breakdown in (found.breakdown, *found.breakdown_by_worker):
        assert set(breakdown) <= set(CAUSES)
        assert all(-1e-12 <= fraction <= 1 + 1e-12 for fraction in breakdown.values()), breakdown
        assert sum(breakdown.values()) == pytest.approx(1, rel=RELATIVE)
        assert breakdown["other"] == pytest.approx(0, abs=1e-12)  # in a simulation all is known
    assert found.compute_utilization == found.breakdown["compute"]


@LAW
@given(disturbed())
def test_fractions_do_not_change_when_all_durations_do(scenario):
    once = figures(simulate(scenario, rounds=4))
    scenario = stretched(scenario, 2.5)
    scaled = figures(simulate(scenario, rounds=4))
    assert scaled.breakdown == pytest.approx(once.breakdown, rel=RELATIVE, abs=1e-12)


@LAW
@given(scenarios(methods=("diloco",)))
def test_blocking_utilization_is_its_closed_form(scenario):
    """Equal workers that do nothing but compute and reduce: CU = H T / (H T + D)."""
    sync_every = int(np.max(scenario.method.arguments["sync_every"]))
    arguments = {"sync_every": sync_every, "comm_dtype": "bf16"}
    machine = Machine(step_seconds=0.8, batch_tokens=64)
    scenario = replace(
        scenario,
        run=RUN,
        method=Method("diloco", METHODS["diloco"], arguments),
        workers=tuple(replace(worker, machine=machine) for worker in scenario.workers),
    )
    size = wire_bytes(scenario.model.parameters, "bf16")
    seconds = theory.longest_path(scenario, "all_reduce", size).total_s
    expected = theory.blocking_utilization(arguments["sync_every"] * 0.8, seconds)
    found = figures(simulate(scenario, rounds=4))
    assert found.compute_utilization == pytest.approx(expected, rel=RELATIVE)


@LAW
@given(scenarios(methods=("ddp",)))
def test_who_waits_for_a_straggler_waits_as_the_closed_form_says(scenario):
    quick = with_links(scenario, 1e15, 0.0)
    machine = Machine(step_seconds=0.8, batch_tokens=64)
    speeds = [worker.machine.speed for worker in scenario.workers]
    scenario = replace(
        quick,
        run=RUN,
        method=Method("ddp", METHODS["ddp"], {"overlap": "none"}),
        workers=tuple(
            replace(worker, machine=replace(machine, speed=speed))
            for worker, speed in zip(scenario.workers, speeds, strict=True)
        ),
    )
    expected = theory.straggler_utilization([0.8 / speed for speed in speeds])
    found = figures(simulate(scenario, rounds=4))
    assert found.compute_utilization == pytest.approx(expected, rel=RELATIVE)
