"""Collectives over some of the workers, simulated: ``over=`` of a program's collectives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.collective_reference import CASES, own_values, received
from support.plain_scenario import machine, plain
from support.two_levels import two_levels

from sim.figures.collective_model import in_words
from sim.figures.evaluation import figures
from sim.methods import METHODS
from sim.models.quadratic import Numbers
from sim.program import Program, Worker
from sim.questions.effort import _count
from sim.records.scenario import Collectives, HostCosts, Method, Run, Scenario, Site
from sim.runtime import CollectiveMismatch, Deadlock, SimulationError, simulate
from sim.runtime.context import context_of, sent_shares
from sim.trace.files import load, save
from sim.trace.perfetto import events

BLOCK = 32
GLOO = Collectives("gloo", quantize_block=BLOCK, host=HostCosts(message_s=0.01))
RING = Collectives("ring", quantize_block=BLOCK)


def at_two_sites(program, **other) -> Scenario:
    """Three workers: 0 and 2 at the first site, 1 at the second."""
    asked = plain(program, workers=3, run=Run(rounds=2), **other)
    workers = tuple(replace(each, site=each.rank % 2) for each in asked.workers)
    network = replace(asked.network, bandwidth=((1.0, 1.0),) * 2, latency=((0.0, 0.0),) * 2)
    return replace(asked, workers=workers, sites=(Site("a", 2), Site("b", 1)), network=network)


def seconds(trace, **columns: Any) -> list[float]:
    """Return how long the chosen collectives took once all their members were there."""
    return [
        row.end_s - row.ready_s
        for row in trace.rows
        if row.bytes and all(getattr(row, name) == value for name, value in columns.items())
    ]


def test_a_program_knows_how_many_workers_there_are_and_which_are_at_its_site() -> None:
    seen = {}

    def looking(worker: Worker) -> Program:
        seen[worker.rank] = worker.workers, worker.site
        while worker.next_round(steps=1):
            yield worker.compute(worker.model.inner_step)

    simulate(at_two_sites(looking))
    assert seen == {0: (3, (0, 2)), 1: (3, (1,)), 2: (3, (0, 2))}


def averaging(worker: Worker, *, inside: bool) -> Program:
    parameters = worker.model.parameters(range(worker.model.num_layers))
    while worker.next_round(steps=1):
        yield worker.all_reduce(parameters, "fp32", over=worker.site if inside else None)


def test_the_effort_of_a_collective_is_that_of_its_members() -> None:
    def messages(**arguments) -> float:
        return _count(at_two_sites(averaging, arguments=arguments, collectives=GLOO)).messages

    assert messages(inside=True) < messages(inside=False)


@pytest.mark.parametrize("collectives", [RING, GLOO], ids=["ring", "gloo"])
def test_members_receive_what_numpy_computes_of_theirs_alone(collectives: Collectives) -> None:
    found: dict[int, list[Any]] = {rank: [] for rank in range(4)}

    def every_case(worker: Worker) -> Program:
        worker.next_round(steps=1)
        for parts, (operation, dtype, mean), size in CASES:
            over = next(ranks for ranks in parts if worker.rank in ranks)[::-1]
            buffer = Numbers("delta", "", own_values(worker.rank, size).astype(float))
            more = {"mean": mean} if "reduce" in operation else {}
            yield getattr(worker, operation)(buffer, dtype, over=over, **more)
            found[worker.rank].append(buffer.values)

    simulate(plain(every_case, workers=4, collectives=collectives), rounds=1)
    for number, (parts, kind, size) in enumerate(CASES):
        for over in map(tuple, map(sorted, parts)):
            for rank, values in zip(over, received(over, kind, size, BLOCK), strict=True):
                given = found[rank][number]
                arrived = ~np.isnan(given)  # what a reduce_scatter does not deliver is poison
                assert arrived.any() or size < len(over)
                np.testing.assert_array_equal(given[arrived], values[arrived])


def test_groups_are_a_program_and_its_members_with_calls_of_their_own() -> None:
    def side(worker: Worker) -> Program:
        yield worker.all_reduce(worker.model.handed_count(), "fp32", over=(1, 0))

    def calling(worker: Worker) -> Program:
        count = worker.model.handed_count()
        worker.next_round(steps=1)
        yield worker.all_reduce(count, "fp32")
        if worker.rank < 2:
            yield worker.all_reduce(count, "fp32", over=(0, 1))
            yield worker.spawn(side)
            yield worker.all_reduce(count, "fp32", over=(1, 0))
        yield worker.all_reduce(count, "fp32", over=(2, 1, 0))

    trace = simulate(plain(calling, workers=3), rounds=1)
    calls = [(row.group, row.call) for row in trace.rows if row.bytes and row.rank == 1]
    assert calls == [("main", 0), ("main[0,1]", 0), ("side[0,1]", 0), ("main[0,1]", 1), ("main", 1)]


@pytest.mark.parametrize("collectives", [RING, GLOO], ids=["ring", "gloo"])
def test_only_members_wait_and_a_collective_takes_what_its_members_cost(
    collectives: Collectives,
) -> None:
    """The first of a group takes longer, unless it has one member."""
    collectives = replace(collectives, first_seconds=5.0, host=HostCosts())

    def pairs(worker: Worker) -> Program:
        parameters = worker.model.parameters(range(worker.model.num_layers))
        while worker.next_round(steps=1):
            yield worker.compute(worker.model.inner_step)
            over = {0: (0, 3), 3: (0, 3), 1: (1,), 2: (2,)}[worker.rank]
            yield worker.all_reduce(parameters, "fp32", over=over)

    machines = [machine(1.0), machine(2.0), machine(3.0), machine(7.0)]
    asked = plain(pairs, machines=machines, collectives=collectives, latency=0.1)
    trace = simulate(asked, rounds=2)
    pair = 2 * (0.1 + 200 / 100)
    assert seconds(trace, rank=1) == seconds(trace, rank=2) == [0.0, 0.0]
    if collectives.algorithm == "ring":
        assert seconds(trace, rank=3) == pytest.approx([pair + 5, pair])
    begins = trace.round_begins()
    assert begins[:, 1].tolist() == [0, 2, 4]
    assert begins[:, 0].tolist() == begins[:, 3].tolist() or collectives.algorithm == "gloo"


def test_a_mean_weighs_its_members_by_their_tokens() -> None:
    """3 : 1 of ranks 0 and 2, whatever rank 1 has; it counts for itself alone."""
    found = {}

    def weighing(worker: Worker) -> Program:
        worker.next_round(steps=(3, 50, 2))
        buffer = Numbers("delta", "", np.full(4, float(worker.rank)))
        yield worker.all_reduce(buffer, "fp32", over=(1,) if worker.rank == 1 else (0, 2))
        found[worker.rank] = buffer.values[0]
        worker.next_round(steps=1)
        buffer = Numbers("delta", "", np.full(4, float(worker.rank)))
        yield worker.all_reduce(buffer, "fp32", over=(1,) if worker.rank == 1 else (0, 2))
        found[worker.rank, "equal steps"] = buffer.values[0]

    machines = [replace(machine(), batch_tokens=tokens) for tokens in (2.0, 9.0, 1.0)]
    asked = plain(weighing, machines=machines, run=Run(average_by="tokens"))
    simulate(asked, rounds=2)
    assert [found[rank] for rank in range(3)] == pytest.approx([2 * 2 / 8, 1, 2 * 2 / 8])
    assert found[0, "equal steps"] == found[2, "equal steps"] == pytest.approx(2 / 3)


def test_computation_slows_down_at_members_alone() -> None:
    def background(worker: Worker) -> Program:
        worker.next_round(steps=1)
        parameters = worker.model.parameters(range(worker.model.num_layers))
        if worker.rank < 2:
            under_way = worker.all_reduce(parameters, "fp32", over=(0, 1))
            yield worker.compute(worker.model.accumulate)
            yield under_way
        else:
            yield worker.compute(worker.model.accumulate)

    machines = [machine(1.0, communication_slowdown=2.0)] * 3
    trace = simulate(plain(background, machines=machines), rounds=1)
    took = [row.end_s for row in trace.rows if row.operation == "accumulate"]
    assert took == pytest.approx([2.0, 2.0, 1.0])


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ((0, 1), "rank 2 (main): all_reduce: over=(0, 1): called by rank 2, which is not in it"),
        ((2, 3), "rank 2 (main): all_reduce: over=(2, 3): there is no rank 3, only 0 to 2"),
    ],
)
def test_a_mistake_is_a_line_with_rank_and_collective(over, message: str) -> None:
    def calling(worker: Worker) -> Program:
        worker.next_round(steps=1)
        if worker.rank == 2:
            yield worker.all_reduce(worker.model.handed_count(), "fp32", over=over)

    with pytest.raises(SimulationError) as refused:
        simulate(plain(calling, workers=3), rounds=1)
    assert str(refused.value) == message


def test_a_member_that_never_calls_is_named_and_nobody_else() -> None:
    def waiting(worker: Worker) -> Program:
        worker.next_round(steps=1)
        if worker.rank == 0:
            yield worker.all_reduce(worker.model.handed_count(), "fp32", over=(0, 2))

    with pytest.raises(Deadlock) as stuck:
        simulate(plain(waiting, workers=4), rounds=1)
    assert str(stuck.value).endswith("call 0 of group main[0,2], which rank 2 never issued")

    def leaving(worker: Worker) -> Program:
        worker.next_round(steps=1)
        if worker.rank == 0:
            worker.all_reduce(worker.model.handed_count(), "fp32", over=(0, 2))
        yield worker.compute(worker.model.inner_step)

    with pytest.raises(CollectiveMismatch, match=r"call 0 of group main\[0,2\]: .* rank 2 never"):
        simulate(plain(leaving, workers=4), rounds=1)


def test_a_method_of_ours_that_names_members_is_simulated_with_all_workers_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = {"sync_every": 2, "average_every": 3}
    asked = plain(two_levels, arguments, workers=4)
    apart = simulate(asked, rounds=4)
    monkeypatch.setitem(METHODS, "two_levels", two_levels)
    ours = replace(asked, method=Method("two_levels", two_levels, arguments))
    again = simulate(ours, rounds=4)
    assert again.frame().equals(apart.frame())
    assert len(again.context.standing_for) == 4


def test_traffic_counts_what_members_send() -> None:
    """Per worker: a pair of a ring sends S, all four 2 (4 - 1) S / 4."""

    def both(worker: Worker) -> Program:
        parameters = worker.model.parameters(range(worker.model.num_layers))
        while worker.next_round(steps=1):
            yield worker.compute(worker.model.inner_step)
            first = worker.rank // 2 * 2
            yield worker.all_reduce(parameters, "fp32", over=(first, first + 1))
            yield worker.all_reduce(parameters, "fp32")

    asked = plain(both, workers=4, collectives=RING)
    trace = simulate(asked, rounds=4)
    pairs, everyone = figures(trace).exchanges
    assert (len(pairs.members), pairs.count, pairs.sent_bytes) == (2, 4, (400.0, 400.0))
    assert (len(everyone.members), everyone.count, everyone.sent_bytes) == (4, 4, (600.0,) * 4)
    words = in_words((pairs, everyone), asked)
    assert "over 2 of 4 workers; buffers of 400 B" in words
    assert "over 4 workers; buffers of 400 B" in words


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_trace_is_read_back_as_it_was_written(suffix: str, tmp_path) -> None:
    asked = at_two_sites(averaging, arguments={"inside": True})
    trace = simulate(asked, rounds=2)
    save(trace, tmp_path / f"t{suffix}")
    assert context_of(asked, sent_shares(asked, trace.rows)) == trace.context
    again = load(tmp_path / f"t{suffix}")
    assert again.sequence() == trace.sequence()
    assert again.context.sent_share == {
        "all_reduce fp32[0,2]": (1.0, 1.0),
        "all_reduce fp32[1]": (0.0,),
    }
    rates = [each["args"]["Gbit/s"] for each in events(trace) if each["ph"] == "C"]
    assert max(rates) > 0
