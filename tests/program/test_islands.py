"""Workers of several accelerators: the outer text runs between islands, another one inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from support.toy_training import SIZE, scenario

from sim.methods import METHODS
from sim.methods.ddp import ddp
from sim.methods.inside import fsdp
from sim.methods.islands import on_islands
from sim.models.quadratic import Quadratic
from sim.program import ArgumentError, Program
from sim.records.scenario import Method
from sim.runtime import simulate

INSIDES: dict[str, Callable[..., Program]] = {
    "ddp": partial(ddp, comm_dtype="fp32"),
    "zero1": partial(ddp, zero1=True, bucket_bytes=20, comm_dtype="fp32"),
    "fsdp": partial(fsdp, comm_dtype="fp32"),
    "fsdp kept, one after the other": partial(
        fsdp, prefetch=False, reshard=False, comm_dtype="fp32"
    ),
}
OUTER: dict[str, dict[str, Any]] = {
    "local_sgd": {"sync_every": 3},
    "diloco": {"sync_every": 3, "exchange": "bucket", "bucket_bytes": 10},
    "streaming_diloco": {"sync_every": 6, "num_fragments": 3, "fragment_sync_delay": 2},
    "delayed_diloco": {"sync_every": 3, "num_fragments": 2},
    "eager_diloco": {"sync_every": 3, "num_fragments": 2, "outer_sync_delay": 2},
    "ddp": {"bucket_bytes": 20},
}
BY_LAYERS = {
    "diloco": {"sync_every": 3, "overlap": "layer"},
    "streaming_diloco": {"sync_every": 6, "num_fragments": 3, "overlap": "layer"},
}
ROUNDS = 4


def trained(
    method: str,
    arguments: dict[str, Any],
    inside: str,
    islands: int,
    accelerators: int,
    **how: Any,
) -> tuple[dict[int, Quadratic], dict[int, Quadratic]]:
    """Train islands, and one worker in place of each whose target is the mean of its own."""
    count = islands * accelerators
    asked = scenario(method, count, **arguments)
    program = on_islands(METHODS[method], INSIDES[inside], accelerators, **how)
    asked = replace(asked, method=Method(method, program, asked.method.arguments, accelerators))
    toy = {"momentum": 0.5}
    models = {
        r: Quadratic(SIZE, r, count, shards=accelerators, averaging=islands, **toy)
        for r in range(count)
    }
    alone = scenario(method, islands, **arguments)
    whole = {r: Quadratic(SIZE, r, islands, **toy) for r in range(islands)}
    for island, model in whole.items():
        own = range(island * accelerators, (island + 1) * accelerators)
        model.target = np.mean([models[rank].target for rank in own], axis=0)
    simulate(asked, rounds=ROUNDS, models=models)
    simulate(alone, rounds=ROUNDS, models=whole)
    return models, whole


@pytest.mark.parametrize("inside", INSIDES)
@pytest.mark.parametrize("method", OUTER)
@pytest.mark.parametrize(("islands", "accelerators"), [(2, 2), (3, 2), (2, 4)])
def test_an_island_trains_as_one_worker_with_its_batch(
    method: str, inside: str, islands: int, accelerators: int
) -> None:
    check_islands(*trained(method, OUTER[method], inside, islands, accelerators), accelerators)


@pytest.mark.parametrize("method", OUTER)
@pytest.mark.parametrize(("islands", "accelerators"), [(3, 2), (2, 4)])
def test_a_leader_exchanges_for_all(method: str, islands: int, accelerators: int) -> None:
    found = trained(method, OUTER[method], "ddp", islands, accelerators, leader=True)
    check_islands(*found, accelerators)


@pytest.mark.parametrize("method", BY_LAYERS)
@pytest.mark.parametrize("leader", [False, True])
def test_single_layers_are_averaged_inside_before_they_are_optimized(
    method: str, leader: bool
) -> None:
    how = {"leader": leader, "gradient_dtype": "fp32"}
    check_islands(*trained(method, BY_LAYERS[method], "ddp", 2, 3, **how), 3)


def check_islands(
    models: dict[int, Quadratic], whole: dict[int, Quadratic], accelerators: int
) -> None:
    for rank, model in models.items():
        alone = whole[rank // accelerators]
        np.testing.assert_allclose(model.theta, alone.theta, rtol=0, atol=2e-6)
        np.testing.assert_allclose(model.outer, alone.outer, rtol=0, atol=2e-6)
        first = models[rank // accelerators * accelerators]
        np.testing.assert_array_equal(model.theta, first.theta)


def test_what_an_island_cannot_do_is_refused_in_a_line() -> None:
    for method, arguments, says in (
        ("diloco", {"sync_every": 3, "overlap": "layer"}, "with ddp inside"),
        ("ddp", {"zero1": True}, "reduce_scatter: a method between islands"),
        ("acco", {}, "how many inner steps"),
    ):
        asked = scenario(method, 4, **arguments)
        program = on_islands(METHODS[method], INSIDES["ddp"], 2)
        asked = replace(asked, method=Method(method, program, asked.method.arguments, 2))
        with pytest.raises(ArgumentError) as refused:
            simulate(asked, rounds=2)
        assert says in str(refused.value)


def test_accelerators_that_make_no_whole_islands_are_refused() -> None:
    asked = scenario("diloco", 5, sync_every=3)
    program = on_islands(METHODS["diloco"], INSIDES["ddp"], 2)
    asked = replace(asked, method=Method("diloco", program, asked.method.arguments, 2))
    with pytest.raises(ArgumentError, match="no whole number of islands of 2"):
        simulate(asked, rounds=2)
