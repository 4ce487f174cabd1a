"""Collectives as gloo's messages: closed forms and laws of one, and what a program sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import ceil, inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.plain_scenario import machine, plain
from support.thorough import examples
from support.toy_training import SIZE, scenario

from sim.clock import Clock
from sim.figures.evaluation import figures
from sim.methods import METHODS
from sim.models.quadratic import Quadratic
from sim.network.gloo import SEGMENT_BYTES, part
from sim.network.links import Links
from sim.network.message_links import Connections, MessageLinks
from sim.network.messages import ends
from sim.program import Program
from sim.records.scenario import Collectives, HostCosts, Scenario, Site, Worker
from sim.runtime import CollectiveMismatch, Deadlock, TooLarge, simulate
from sim.scenario import load
from sim.trace.table import LOOK

RATE, LATENCY = 1e6, 0.1
RTT = 2 * LATENCY
FREE = HostCosts()
OPERATIONS = ("all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast")
WHOLE = range(2)


def gloo(**other: Any) -> Collectives:
    return Collectives(algorithm="gloo", **{"concurrent": 2, **other})


class Counting(Connections):
    """Also counts the data that each rank sends."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.counts: Counter[int] = Counter()

    def put(self, sender: int, receiver: int, size: float, arrived: Any) -> float:
        self.counts[sender] += size
        return super().put(sender, receiver, size, arrived)


def carried_out(
    operation: str,
    size: float,
    *,
    dtype: str = "fp32",
    starts: Sequence[float] = (0.0, 0.0),
    rate: float = RATE,
    latency: float = LATENCY,
    host: HostCosts = FREE,
) -> tuple[list[float], Counter[int]]:
    """When each rank ends, and the bytes that it sends, on lines of their own for every pair."""
    workers = len(starts)
    clock = Clock()
    links = MessageLinks(
        clock, [rate] * workers**2, lambda a, b: ((a * workers + b,), latency), host
    )
    connections = Counting(links, workers)
    found = [0.0] * workers

    def begin(end: Any) -> None:
        def ended() -> None:
            found[end.rank] = clock.now

        end.run(part(end, operation, dtype, size), ended)

    for end, start in zip(ends(connections), starts, strict=True):
        clock.after(start, lambda end=end: begin(end), first=True)
    clock.run()
    return found, connections.counts


def last(operation: str, size: float, workers: int = 2, **other: Any) -> float:
    return max(carried_out(operation, size, starts=[0.0] * workers, **other)[0])


@pytest.mark.parametrize("late", [1.01 * LATENCY, 0.5, 3.0])
def test_the_later_of_two_sends_before_it_asks(late: float) -> None:
    """Its own notification then waits behind its data: the directions follow each other."""
    size = 8e6
    half_s = size / 2 / RATE
    (first, second), _ = carried_out("all_to_all", size, starts=[0.0, late])
    assert first == pytest.approx(late + half_s + LATENCY, abs=1e-3)
    assert second == pytest.approx(late + 2 * half_s + 2 * LATENCY, abs=1e-3)
    together, _ = carried_out("all_to_all", size)
    assert together == pytest.approx([half_s + 2 * LATENCY] * 2, abs=1e-3)


# A question's 48 bytes and a preamble's are seen on a slow line; 1e-3 is more than they take.
near = {"rel": 1e-3}


def test_a_buffer_of_fewer_numbers_than_segments_leaves_some_empty() -> None:
    """Two numbers on two workers: all of it is the first one's, who waits for one round trip."""
    assert last("all_reduce", 8, 2, rate=1e9) / RTT == pytest.approx(1.5, **near)


@pytest.mark.parametrize("workers", [2, 3, 4, 5])
def test_a_small_all_reduce_takes_a_round_trip_per_step(workers: int) -> None:
    trips = last("all_reduce", 80 * workers, workers, rate=1e9) / RTT  # 10 numbers a segment
    assert trips == pytest.approx(2 * (workers - 1), **near)


@pytest.mark.parametrize("operation", ["all_gather", "all_to_all", "reduce_scatter"])
def test_an_exchange_of_two_takes_one_round_trip_and_its_bytes(operation: str) -> None:
    assert last(operation, 2e6) == pytest.approx(RTT + 1e6 / RATE, **near)


def test_an_all_gather_waits_in_every_step_but_all_to_all_once() -> None:
    assert last("all_gather", 64, 4, rate=1e9) == pytest.approx(3 * RTT, **near)
    assert last("all_to_all", 64, 4, rate=1e9) == pytest.approx(RTT, **near)


@pytest.mark.parametrize("workers", [2, 4])
def test_a_large_all_reduce_on_a_long_line_takes_a_round_trip_for_two_segments(
    workers: int,
) -> None:
    size = 64 * workers * SEGMENT_BYTES
    expected = size * (workers - 1) / workers / SEGMENT_BYTES * RTT
    assert last("all_reduce", size, workers, rate=1e12) == pytest.approx(expected, **near)


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_without_latency_an_all_reduce_takes_its_bytes(workers: int) -> None:
    size = 12 * workers * SEGMENT_BYTES
    expected = 2 * (workers - 1) / workers * size / RATE
    assert last("all_reduce", size, workers, latency=0.0) == pytest.approx(expected, **near)


@pytest.mark.parametrize(
    ("operation", "late", "transfers"),
    [
        ("all_gather", 0.5 * LATENCY, 1.0),
        ("all_to_all", 0.5 * LATENCY, 1.0),
        ("all_gather", 1.5 * LATENCY, 1.5),
        ("all_to_all", 1.5 * LATENCY, 2.0),
    ],
)
def test_who_is_later_than_the_latency_asks_behind_its_own_data(
    operation: str, late: float, transfers: float
) -> None:
    """The other's notification has arrived, so what it asks for is sent before this rank's own."""
    found, _ = carried_out(operation, 2e6, starts=(0.0, late))
    assert found[1] - late == pytest.approx(RTT + transfers * 1e6 / RATE, **near)


def test_broadcast_doubles_who_has_it() -> None:
    """0 tells 1 and 2 at once; 3 asked 1 long before 1 has it."""
    found, sent = carried_out("broadcast", 1e6, starts=[0.0] * 4)
    assert found[2] == pytest.approx(RTT + 1.0, **near)
    assert found[3] == pytest.approx(RTT + 1.0 + LATENCY + 1.0, **near)
    assert {rank for rank, count in sent.items() if count} == {0, 1}


def test_a_broadcast_from_another_rank_is_the_same_tree_turned() -> None:
    first, _ = carried_out("broadcast", 1e6, starts=[0.0] * 5)
    found, sent = carried_out("broadcast_from_3", 1e6, starts=[0.0] * 5)
    assert found == pytest.approx([first[(rank - 3) % 5] for rank in range(5)], **near)
    assert {rank for rank, count in sent.items() if count} == {3, 4}


@pytest.mark.parametrize(
    ("operation", "dtype", "key", "times"),
    [
        ("all_reduce", "fp32", "call_s", 1),
        ("all_reduce", "fp32", "element_s", 1000),
        ("all_reduce", "bf16", "element_s", 2000),
        ("all_reduce", "int8", "quantized_element_s", 4000),
        ("all_reduce", "int8", "element_s", 0),
        ("all_to_all", "fp32", "byte_s", 2000),  # what comes from the other
        ("all_gather", "fp32", "byte_s", 0),
        ("all_to_all", "fp32", "message_s", 1.5),  # the question half, the data whole
    ],
)
def test_what_the_ends_cost(operation: str, dtype: str, key: str, times: float) -> None:
    more = last(operation, 4000, dtype=dtype, host=replace(FREE, **{key: 1e-4}))
    assert more - last(operation, 4000, dtype=dtype) == pytest.approx(times * 1e-4)


def test_a_window_passes_once_in_a_round_trip() -> None:
    """The first is on its way at once."""
    host = replace(FREE, window_bytes=5e4)
    assert last("all_to_all", 2e6, host=host) == pytest.approx(1e6 / 5e4 * RTT, **near)


def test_a_window_longer_than_the_line_changes_nothing() -> None:
    host = replace(FREE, window_bytes=3 * RATE * RTT)
    assert last("all_to_all", 2e6, host=host) == last("all_to_all", 2e6)


operations = st.sampled_from(OPERATIONS)
sizes = st.sampled_from([4.0, 64.0, 1e4, 1e6, 5e6]) | st.floats(4, 3e6)
skews = st.lists(st.sampled_from([0.0, 0.05, 0.3, 2.0]) | st.floats(0, 3), min_size=2, max_size=5)
hosts = st.builds(
    HostCosts,
    message_s=st.sampled_from([0.0, 2e-4, 0.03]),
    byte_s=st.sampled_from([0.0, 1e-9, 1e-7]),
    call_s=st.sampled_from([0.0, 0.01]),
)


@given(operations, sizes, skews, hosts, st.sampled_from([0.25, 4.0]))
@settings(max_examples=examples(60))
def test_durations_scale(
    operation: str, size: float, starts: list[float], host: HostCosts, c: float
) -> None:
    found, _ = carried_out(operation, size, starts=starts, host=host)
    slower = HostCosts(*(c * value for value in (host.message_s, host.byte_s, host.call_s)))
    stretched, _ = carried_out(
        operation,
        size,
        starts=[c * start for start in starts],
        rate=RATE / c,
        latency=c * LATENCY,
        host=slower,
    )
    assert stretched == pytest.approx([c * value for value in found], rel=1e-9)


@given(sizes, skews, hosts, st.floats(1, 20))
@settings(max_examples=examples(60))
def test_a_faster_line_is_never_slower_for_an_all_reduce(
    size: float, starts: list[float], host: HostCosts, faster: float
) -> None:
    workers = len(starts)
    slow = last("all_reduce", size, workers, host=host)
    assert last("all_reduce", size, workers, host=host, rate=RATE * faster) <= slow * (1 + 1e-9)


@given(st.sampled_from(OPERATIONS[:-1]), sizes, skews, hosts)
@settings(max_examples=examples(60))
def test_nobody_has_what_cannot_have_come(
    operation: str, size: float, starts: list[float], host: HostCosts
) -> None:
    workers = len(starts)
    found, _ = carried_out(operation, size, starts=starts, host=host)
    received = size * (workers - 1) / workers * (2 if operation == "all_reduce" else 1)
    lines = workers - 1 if operation in ("all_to_all", "reduce_scatter") else 1
    for rank, end in enumerate(found):
        others = starts[:rank] + starts[rank + 1 :]
        assert end >= starts[rank] + RTT + received / lines / RATE
        assert end >= max(others) + LATENCY


@given(st.sampled_from(OPERATIONS[:-1]), sizes, skews, st.integers(1, 4))
@settings(max_examples=examples(60))
def test_on_equal_lines_ranks_have_no_names(
    operation: str, size: float, starts: list[float], turn: int
) -> None:
    turn %= len(starts)
    workers = len(starts)
    segments = workers * ceil(max(size / 2**20, 2 * workers) / workers)
    size = 4 * segments * ceil(size / 4 / segments)  # else the last ones have less to send
    found, _ = carried_out(operation, size, starts=starts)
    turned, _ = carried_out(operation, size, starts=starts[turn:] + starts[:turn])
    assert turned == pytest.approx(found[turn:] + found[:turn], rel=1e-9)


@pytest.mark.parametrize("dtype", ["fp32", "int8"])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("workers", [2, 3, 4, 5, 8])
def test_what_goes_on_the_lines_is_what_the_report_says(
    workers: int, operation: str, dtype: str
) -> None:
    size = 960e3  # as many numbers for every segment
    _, sent = carried_out(operation, size, dtype=dtype, starts=[0.0] * workers)
    share = Links(plain(workers=workers, collectives=gloo())).sent_share(operation, dtype)
    assert [sent[rank] / size for rank in range(workers)] == pytest.approx(share.tolist())


# -- what a program sees -------------------------------------------------------------------
def of_gloo(method: Any, arguments: Any = None, **other: Any) -> Scenario:
    return plain(method, arguments, **{"latency": LATENCY, "bandwidth": 1e9, **other})


def total(method: Any, collectives: Collectives, **other: Any) -> float:
    return simulate(of_gloo(method, collectives=collectives, **other)).total_s


@pytest.mark.parametrize(("threads", "trips"), [(1, 8), (2, 4), (4, 2)])
def test_threads_hide_each_others_latency(threads: int, trips: int) -> None:
    def four(worker: Any) -> Program:
        under_way = [worker.all_reduce(worker.model.parameters(WHOLE), "bf16") for _ in range(4)]
        yield from under_way

    assert total(four, gloo(concurrent=threads)) == pytest.approx(trips * RTT, **near)


def test_quantized_collectives_have_a_thread_and_connections_of_their_own() -> None:
    def both(worker: Any) -> Program:
        under_way = [
            worker.all_reduce(worker.model.parameters(WHOLE), dtype)
            for dtype in ("int8", "int8", "bf16", "bf16")
        ]
        yield from under_way

    # Each int8 one is two exchanges of a round trip, one after the other.
    assert total(both, gloo()) == pytest.approx(4 * RTT, **near)


def test_everyone_begins_and_ends_in_its_own_time() -> None:
    def late(worker: Any) -> Program:
        yield worker.compute(worker.model.accumulate, times=1 + 2 * worker.rank)
        yield worker.all_to_all(worker.model.parameters(WHOLE), "bf16")

    trace = simulate(of_gloo(late, collectives=gloo(), bandwidth=100.0))
    rows = {row.rank: row for row in trace.rows if row.operation == "all_to_all"}
    assert {row.ready_s for row in rows.values()} == {3.0}
    ended = [rows[rank].end_s for rank in (0, 1)]
    expected, _ = carried_out("all_to_all", 200.0, starts=(1.0, 3.0), rate=100.0)
    assert ended == pytest.approx(expected)


@pytest.mark.parametrize(("behind", "transfers"), [(0, 2.0), (1, 3.5)])
def test_sharded_exchanges_of_two_never_wait_out_that_a_rank_was_late_once(
    behind: int, transfers: float
) -> None:
    """In step each takes a transfer and a round trip; later, notifications wait behind data."""

    def late_once(worker: Any) -> Program:
        if worker.rank == 0 and behind:
            yield worker.compute(worker.model.accumulate, times=behind)
        yield from METHODS["ddp"](worker, overlap="none", zero1=True)

    host = HostCosts(message_s=1e-7)
    asked = of_gloo(late_once, collectives=gloo(host=host), bandwidth=1e6, layers=(250_000,) * 2)
    trace = simulate(asked, rounds=6)
    rows = [row for row in trace.rows if row.rank == 0 and row.operation == "round"]
    step = rows[5].begin_s - rows[4].begin_s
    assert step == pytest.approx(1.0 + transfers * 0.5 + 2 * RTT, rel=1e-3)


def test_first_collective_of_a_group_costs_extra() -> None:
    def two(worker: Any) -> Program:
        for _ in range(2):
            yield worker.all_reduce(worker.model.parameters(WHOLE), "bf16")

    slow = total(two, gloo(first_seconds=7.0))
    assert slow - total(two, gloo()) == pytest.approx(7.0)


def test_computing_is_slower_while_its_own_collective_is_under_way() -> None:
    def overlapped(worker: Any) -> Program:
        reduction = worker.all_reduce(worker.model.parameters(WHOLE), "bf16")
        yield worker.compute(worker.model.accumulate)
        yield reduction

    machines = [machine(communication_slowdown=2.0)] * 2
    trace = simulate(of_gloo(overlapped, collectives=gloo(), machines=machines))
    row = next(row for row in trace.rows if row.operation == "accumulate")
    assert row.end_s == pytest.approx(1.0 + 2 * RTT / 2, **near)


def test_one_worker_sends_nothing() -> None:
    trace = simulate(of_gloo("ddp", workers=1, collectives=gloo()), rounds=3)
    assert trace.total_s == pytest.approx(3.0)


def test_sites_with_several_workers_send_one_stream_each_way() -> None:
    """The ring passes every site once, so a pair's line carries what one worker sends."""
    pair = of_gloo("diloco", {"sync_every": 1}, bandwidth=100.0, latency=0.0, layers=(4000,))
    four = replace(
        pair,
        workers=tuple(Worker(rank, rank // 2, machine()) for rank in range(4)),
        sites=tuple(Site(f"s{n}", 2, within_bandwidth=1e9, within_latency=0.0) for n in (0, 1)),
        network=replace(pair.network, collectives=gloo()),
    )
    assert Links(four).cost("all_reduce", "fp32", 16e6).seconds == pytest.approx(
        2 * 3 / 4 * 16e6 / 100, **near
    )
    assert figures(simulate(four)).steady


def looking(worker: Any) -> Program:
    yield worker.broadcast(worker.model.parameters(range(SIZE.layers)), "fp32")
    worker.model.seen = (worker.now, worker.model.theta.copy())


def test_a_broadcast_gives_everyone_rank_0s_numbers_even_before_the_last_has_called() -> None:
    def late(worker: Any) -> Program:
        if worker.rank == 3:
            yield worker.compute(worker.model.accumulate, times=50)
        yield from looking(worker)

    asked = of_gloo(late, workers=4, collectives=gloo(), bandwidth=100.0)
    models: dict[int, Any] = {rank: Quadratic(SIZE, rank, 4, noise=0.0) for rank in range(4)}
    for rank, model in models.items():
        model.theta[:] = rank + 0.5
    trace = simulate(asked, models=models)
    for model in models.values():
        np.testing.assert_array_equal(model.seen[1], 0.5)
    assert models[2].seen[0] < 10 < models[3].seen[0]  # 1 has to pass it on to 3
    rows = [row for row in trace.rows if row.operation == "broadcast"]
    assert all(row.begin_s <= row.ready_s <= row.end_s for row in rows)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("workers", [2, 3])
def test_numbers_are_those_of_the_other_algorithms(method: str, workers: int) -> None:
    """Bitwise, of every method that does not look at the clock; the others run."""
    pytest.importorskip("torch")
    from support.method_cases import ARGUMENTS, BLOCK, ROUNDS, TOY

    for arguments in ARGUMENTS[method]:
        traces, thetas = [], []
        for algorithm in ("ring", "gloo"):
            asked = scenario(method, workers, speeds=[1.0, 0.7, 1.3][:workers], **arguments)
            collectives = Collectives(algorithm, concurrent=2, quantize_block=BLOCK)
            asked = replace(asked, network=replace(asked.network, collectives=collectives))
            models = {rank: Quadratic(SIZE, rank, workers, **TOY) for rank in range(workers)}
            traces.append(simulate(asked, rounds=ROUNDS, models=models))
            thetas.append([models[rank].theta for rank in models])
        if not any(row.operation == LOOK for row in traces[0].rows):
            assert traces[0].sequence() == traces[1].sequence()
            np.testing.assert_array_equal(thetas[0], thetas[1])


def unequal(worker: Any) -> Program:
    yield worker.all_reduce(worker.model.parameters(range(0, 1 + worker.rank)), "bf16")


def leaves(worker: Any) -> Program:
    if worker.rank == 0:
        yield worker.all_reduce(worker.model.parameters(WHOLE), "bf16")


def leaves_unwaited(worker: Any) -> Program:
    if worker.rank == 0:
        worker.all_reduce(worker.model.parameters(WHOLE), "bf16")
    yield worker.compute(worker.model.accumulate)


@pytest.mark.parametrize(
    ("program", "error"),
    [
        (unequal, CollectiveMismatch),
        (leaves, Deadlock),
        (leaves_unwaited, CollectiveMismatch),
    ],
)
def test_a_wrong_program_fails_in_the_same_words(program: Any, error: type[Exception]) -> None:
    said = []
    for collectives in (Collectives("ring"), gloo()):
        with pytest.raises(error) as caught:
            simulate(plain(program, collectives=collectives))
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_too_many_messages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.runtime.limits.MOST_MESSAGES", 50)
    with pytest.raises(TooLarge, match="passed 50 messages"):
        simulate(of_gloo("ddp", collectives=gloo()), rounds=20)


@pytest.mark.parametrize(("method", "arguments"), [("acco", {}), ("ddp", {"zero1": True})])
def test_where_time_goes_adds_up(method: str, arguments: dict[str, Any]) -> None:
    machines = [machine(), machine(speed=0.5), machine()]
    asked = of_gloo(method, arguments, machines=machines, bandwidth=500.0, collectives=gloo())
    result = figures(simulate(asked))
    assert sum(result.breakdown.values()) == pytest.approx(1.0)
    assert result.compute_utilization > 0.1


def test_keys_reach_the_model() -> None:
    keys = {
        "message_time": "200us",
        "byte_time": "1ns",
        "call_time": "3us",
        "element_time": "4ns",
        "quantized_element_time": "5ns",
        "window": "1 MB",
    }
    given_keys = [f"network.collective.{key}={value}" for key, value in keys.items()]
    asked = load("quick_start", {}, ["network.collective.algorithm=gloo", *given_keys])
    found = asked.network.collectives
    assert found.host == HostCosts(*(pytest.approx(x) for x in (2e-4, 1e-9, 3e-6, 4e-9, 5e-9, 1e6)))
    assert found.concurrent == 2
    bare = load("quick_start", {}, ["network.collective.algorithm=gloo"])
    assert bare.network.collectives.host == HostCosts(window_bytes=inf)
    kind = ("all_reduce", "fp32", 4e6)
    assert Links(asked).cost(*kind).seconds > Links(bare).cost(*kind).seconds
