"""The sentence about collectives: how many there are in an inner step, and their latencies."""

from __future__ import annotations

import pytest

from sim.figures.collective_model import in_words
from sim.figures.evaluation import figures
from sim.runtime import simulate
from sim.scenario import load


@pytest.mark.parametrize(
    ("every", "at_once", "said"),
    [
        (20, 1, "2.4 in an inner step on average, each with 180 ms of latency: 432 ms per inner"),
        (24, 1, "; 2 in an inner step, each with 180 ms of latency: 360 ms per inner step"),
        (24, 2, "; 2 in an inner step, each with 180 ms of latency, 2 at a time: 180 ms per inner"),
    ],
)
def test_latencies_are_the_number_of_collectives_times_a_round_trip(
    every: int, at_once: int, said: str
) -> None:
    """A ring of two has 2 (2 - 1) hops of 90 ms; 48 fragments leave in H inner steps."""
    asked = load(
        None,
        {
            "--model": "10B",
            "--step-time": "1s",
            "--rtt": "180ms",
            "--bandwidth": "100Gbit/s",
            "--method": "streaming_diloco",
            "--num-fragments": "48",
            "--sync-every": str(every),
        },
        [f"network.collective.concurrent={at_once}"],
    )
    assert said in in_words(figures(simulate(asked)).exchanges, asked)
