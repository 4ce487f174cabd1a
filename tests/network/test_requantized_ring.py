"""int8 and fp4 by a ring that quantizes the sum so far again at every step."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.plain_scenario import plain
from support.toy_training import SIZE, scenario

from sim.models.quadratic import Quadratic
from sim.network.schedules import form_of
from sim.program import wire_bytes
from sim.records.scenario import Collectives
from sim.runtime import SimulationError, simulate
from sim.theory.closed_forms import ring_seconds

WORKERS, RATE, LATENCY = 4, 100.0, 0.5


@pytest.mark.parametrize("dtype", ["int8", "fp4", "bf16"])
def test_an_all_reduce_takes_a_ring_in_every_type(dtype: str) -> None:
    def seconds(algorithm: str) -> float:
        asked = plain(
            "local_sgd",
            {"sync_every": 1, "comm_dtype": dtype},
            workers=WORKERS,
            bandwidth=RATE,
            latency=LATENCY,
            layers=(1024, 1024),
            collectives=Collectives(algorithm),
        )
        return simulate(asked, rounds=1).total_s - 1.0  # of one inner step

    size = wire_bytes(2048, dtype)
    ring = ring_seconds("all_reduce", WORKERS, size, RATE, LATENCY)
    assert seconds("requantized_ring") == pytest.approx(ring, rel=1e-9)
    exchanged = LATENCY + size / WORKERS / RATE  # every pair has a link of its own
    exchanged += ring_seconds("all_gather", WORKERS, size, RATE, LATENCY)
    assert seconds("ring") == pytest.approx(ring if dtype == "bf16" else exchanged, rel=1e-9)


def test_only_reductions_of_narrow_types_are_quantized_again() -> None:
    found = {
        (operation, dtype): form_of(operation, "requantized_ring", dtype)
        for operation in ("all_reduce", "reduce_scatter", "all_gather", "broadcast")
        for dtype in ("int8", "bf16")
    }
    narrow = {key for key, form in found.items() if form == "requantized_ring"}
    assert narrow == {("all_reduce", "int8"), ("reduce_scatter", "int8")}
    assert found["all_reduce", "bf16"] == found["all_gather", "int8"] == "ring"


def test_numbers_are_refused_because_their_rounding_is_not_computed() -> None:
    asked = scenario("diloco", sync_every=1, comm_dtype="int8")
    network = replace(asked.network, collectives=Collectives("requantized_ring"))
    models = {rank: Quadratic(SIZE, rank, 2) for rank in range(2)}
    with pytest.raises(SimulationError, match="requantized_ring: what int8 by ring"):
        simulate(replace(asked, network=network), rounds=1, models=models)


def test_a_real_run_refuses_it_in_one_line() -> None:
    pytest.importorskip("torch")
    from realrun.runnable import check_runnable
    from sim.scenario import ScenarioError
    from sim.scenario.loading import loaded

    settings = [
        "model.kind=gpt",
        "model.size=1M",
        "method.name=diloco",
        "method.comm_dtype=int8",
        "site.step_time=1s",
        "network.collective.algorithm=requantized_ring",
    ]
    asked = loaded(settings=settings)
    with pytest.raises(ScenarioError, match=r"requantized_ring.*only simulated"):
        check_runnable(asked.scenario, asked.sections, len(asked.scenario.workers))
