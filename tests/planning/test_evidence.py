"""What is said of our trainings is what was measured."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.plain_scenario import plain

from sim.planning import evidence
from sim.planning.evidence import Evidence
from sim.planning.limits import Limits

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from learning_results import read
from learning_statistics import difference

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

EVERY = [each for each in vars(evidence).values() if isinstance(each, Evidence)]
ROWS = read(BENCHMARKS / "learning" / "results.csv")


@pytest.mark.parametrize("each", EVERY, ids=lambda each: each.what)
def test_differences_are_those_of_the_results(each: Evidence) -> None:
    for workers, said in ((2, each.two_workers), (4, each.four_workers)):
        found = difference(ROWS, *each.configurations, workers)
        assert found is not None
        assert said == pytest.approx(found.mean, abs=5.1e-4)
        if each.worse:  # and not by chance
            assert found.low > 0


def test_what_learned_worse_is_left_out_unless_it_is_named() -> None:
    eager = plain("eager_diloco", {"sync_every": 10})
    limits = Limits(staleness=None)
    assert "eager_diloco: +0.117 to +0.298" in limits.beyond(eager)[0]
    assert not limits.with_named(("eager_diloco",)).beyond(eager)
    late = plain("streaming_diloco", {"sync_every": 10, "fragment_sync_delay": 5})
    assert Limits().beyond(late)
    assert not Limits(staleness=5).beyond(late)  # asked for


def test_limits_say_what_they_exclude() -> None:
    assert Limits().beyond(plain("diloco", {"sync_every": 200})) == [
        "sync_every 200 is more than 100"
    ]
    assert Limits().beyond(plain("ddp", {"comm_dtype": "int8"})) == [
        "gradients of every step in int8"
    ]
    assert not Limits(quantized_gradients=True).beyond(plain("ddp", {"comm_dtype": "int8"}))
    assert not Limits().beyond(plain("diloco", {"sync_every": 100, "comm_dtype": "fp4"}))
    acco = plain("acco")
    assert Limits(growth=2).too_large(acco, 2.1 * acco.tokens_per_step, looks=True)
    assert not Limits(growth=2).too_large(acco, 2.1 * acco.tokens_per_step, looks=False)
    assert Limits(tokens_per_update=100).too_large(acco, 101, looks=False)
