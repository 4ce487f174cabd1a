"""The simulator counts without torch what realrun comes to hold, for every method."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("torch")

from realrun.model.memory import state_bytes
from sim.methods import METHODS
from sim.questions.memory import memory
from sim.scenario import Scenario, load

LAYERS = [30_000, 12_000, 12_500, 20_001]
CASES = [
    ("ddp", {}),
    ("ddp", {"overlap": "layer"}),
    ("ddp", {"zero1": True, "bucket_bytes": 20_000}),
    ("local_sgd", {"sync_every": 2}),
    ("diloco", {"sync_every": 2}),
    ("diloco", {"sync_every": 2, "overlap": "layer"}),
    ("diloco", {"sync_every": 2, "outer_momentum": 0.0}),
    ("streaming_diloco", {"sync_every": 4, "num_fragments": 2, "fragment_sync_delay": 2}),
    ("streaming_diloco", {"sync_every": 4, "num_fragments": 2, "fragment_sync_delay": [0, 9, 1]}),
    ("streaming_diloco", {"sync_every": 4, "overlap": "layer", "outer_momentum": 0.0}),
    ("delayed_diloco", {"sync_every": 2, "outer_sync_delay": 2, "num_fragments": 2}),
    ("eager_diloco", {"sync_every": 2}),
    ("eager_diloco", {"sync_every": 2, "outer_sync_delay": 3, "num_fragments": 2}),
    ("acco", {}),
    ("dpu", {}),
    ("wp", {}),
]
# Parts of realrun -> ours.
PARTS = {
    "parameters": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "outer parameters": "outer_parameters",
    "outer optimizer": "outer_momentum",
    "outer gradients": "buffers",
    "handed over": "buffers",
    "room for outer state": "outer_room",
}


def scenario(method: str, arguments: dict[str, Any], *settings: str) -> Scenario:
    given = {"name": method, **arguments}
    return load(
        None,
        {"--step-time": "1s", "--sites": "3"},
        [
            *(f"method.{key}={json.dumps(value)}" for key, value in given.items()),
            f"model.layer_parameters={LAYERS}",
            "memory.convention=realrun",
            *settings,
        ],
    )


def in_our_parts(theirs: dict[str, int]) -> dict[str, float]:
    ours: dict[str, float] = {}
    for part, size in theirs.items():
        ours[PARTS[part]] = ours.get(PARTS[part], 0) + size
    return {part: size for part, size in ours.items() if size}


def test_every_method_is_among_the_cases() -> None:
    assert {method for method, _ in CASES} == set(METHODS)


@pytest.mark.parametrize("place", ["device", "host"])
@pytest.mark.parametrize(("method", "arguments"), CASES)
def test_persistent_state_is_within_one_percent_of_what_realrun_rehearses(
    method: str, arguments: dict[str, Any], place: str
) -> None:
    asked = scenario(method, arguments, f"train.outer_state={place}")
    for counted in memory(asked).per_site:
        for name in counted.sites:
            rank = [site.name for site in asked.sites].index(name)
            on_device, on_host = state_bytes(asked, rank, outer_on_host=place == "host")
            state = {part: counted.parts[part] for part in counted.parts if part != "activations"}
            assert sum(state.values()) == counted.persistent_bytes
            assert state == pytest.approx(in_our_parts(on_device), rel=0.01)
            assert counted.host_parts == pytest.approx(in_our_parts(on_host), rel=0.01)


def test_a_short_run_holds_as_little_as_realrun() -> None:
    asked = scenario("delayed_diloco", {"outer_sync_delay": 4}, "run.rounds=1")
    (counted,) = memory(asked).per_site
    on_device, _ = state_bytes(asked, 0)
    assert counted.parts["buffers"] == on_device["outer gradients"] == 4 * sum(LAYERS)


def test_unequal_workers_are_counted_each() -> None:
    late = {"sync_every": 4, "num_fragments": 2, "fragment_sync_delay": [0, 9, 1]}
    asked = scenario("streaming_diloco", late)
    buffers = {each.site: each.parts["buffers"] for each in memory(asked).per_site}
    assert len(buffers) == 3
    assert buffers["site-2"] > buffers["site-1"]
