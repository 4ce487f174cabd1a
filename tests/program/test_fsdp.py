"""What fully sharded training computes, sends and holds; its times are in tests/theory."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from support.toy_training import SIZE, same, scenario, train

from sim.runtime import simulate
from sim.trace.table import Row, Trace

LAYERS = SIZE.layers
BYTES = 4.0 * SIZE.parameters


def run(rounds: int = 2, n: int = 1, **arguments: object) -> Trace:
    return simulate(scenario("fsdp", 2, n, **arguments), rounds=rounds)


def of(trace: Trace, *operations: str) -> list[Row]:
    return [row for row in trace.rows if row.rank == 0 and row.operation in operations]


@pytest.mark.parametrize(
    ("n", "prefetch", "reshard"), list(product((1, 3), (True, False), (True, False)))
)
def test_it_learns_what_a_sharded_optimizer_learns(n: int, prefetch: bool, reshard: bool) -> None:
    ours = train("fsdp", 5, n=n, prefetch=prefetch, reshard=reshard)
    same(ours, train("ddp", 5, n=n, zero1=True), 1e-6)  # sums of fp32 in another order


@pytest.mark.parametrize(("n", "reshard"), list(product((1, 3), (True, False))))
def test_bytes_are_those_of_zero(n: int, reshard: bool) -> None:
    """Gathered per micro-batch: all layers, and with reshard all but the last once more."""
    rounds = 3
    trace = run(rounds, n, reshard=reshard)
    last = 4.0 * SIZE.layer_parameters[-1]
    gathered = sum(row.bytes for row in of(trace, "all_gather"))
    per_micro_batch = 2 * BYTES - last if reshard else BYTES
    assert gathered == rounds * n * per_micro_batch + BYTES  # and once to end with
    reduced = sum(row.bytes for row in of(trace, "reduce_scatter"))
    assert reduced == rounds * BYTES


def test_with_reshard_two_layers_are_whole_at_a_time() -> None:
    trace = run(1)
    rows = sorted(of(trace, "all_gather", "forward", "backward"), key=lambda row: row.begin_s)
    gathers = [row for row in rows if row.operation == "all_gather"][: 2 * LAYERS - 1]
    uses = [row for row in rows if row.operation != "all_gather"]
    assert len(uses) == 2 * LAYERS
    # The layer that ends the forward begins the backward, without being gathered again.
    freed = [use.end_s for number, use in enumerate(uses) if number != LAYERS - 1]
    for gather in gathers:
        begun = sum(other.begin_s <= gather.begin_s for other in gathers)
        assert begun - sum(end <= gather.begin_s for end in freed) <= 2


def test_prefetching_hides_a_gathering_behind_a_computation() -> None:
    """One equal layer after another: c to compute forward, 2 c backward, g to gather or reduce."""
    size, layers = 1000, 10
    model = replace(
        SIZE,
        parameters=size * layers,
        active_parameters=size * layers,
        layer_parameters=(size,) * layers,
        layer_tensors=((size,),) * layers,
    )

    def seconds(bandwidth: float, prefetch: bool) -> float:
        plain = replace(scenario("fsdp", 2, prefetch=prefetch), model=model)
        links = ((bandwidth,) * 2,) * 2
        network = replace(plain.network, bandwidth=links, latency=((0.0,) * 2,) * 2)
        begins = simulate(replace(plain, network=network), rounds=3).round_begins()
        return float(begins[2, 0] - begins[1, 0])

    forward = 1.0 / 30
    exchange = forward / 4  # of a layer; a ring of two workers sends half a buffer each way
    bandwidth = 4 * size / 2 / exchange
    in_turn = 1.0 + exchange * (layers + layers - 1) + exchange
    assert seconds(bandwidth, prefetch=False) == pytest.approx(
        in_turn + exchange * (layers - 1), rel=1e-9
    )
    # All but the first gathering and the last reduction travel while something is computed.
    assert seconds(bandwidth, prefetch=True) == pytest.approx(1.0 + 2 * exchange, rel=1e-9)
