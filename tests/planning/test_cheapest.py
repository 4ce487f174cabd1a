"""The cheapest setting: against every setting simulated, and what the answer says of money."""

from __future__ import annotations

import pytest
from support.command_line import Bandwise

from sim.planning.limits import Limits
from sim.planning.search import TOLERANCE, Search
from sim.scenario import load

SITES = {"--model": "1B", "--sites": "paris,osaka", "--bandwidth": "1Gbit/s", "--rtt": "180ms"}
OPTIONS = {**SITES, "--accelerators": "8 x H100"}
PRICES = ["site.paris.price=2 EUR/h", "site.osaka.price=3 EUR/h", "site.egress_price=80 EUR/TB"]
AXES = {
    "diloco": {
        "method.sync_every": (10, 30, 90),
        "method.comm_dtype": ("bf16", "fp4"),
        "network.collective.algorithm": ("ring", "hierarchical"),
    },
    "ddp": {
        "method.overlap": ("none", "layer"),
        "network.collective.algorithm": ("ring", "hierarchical"),
    },
    "acco": {"network.collective.algorithm": ("ring", "hierarchical")},
}
TOKENS = 20e9


@pytest.mark.parametrize("workers", ["1", "3"])
def test_the_cheapest_of_the_search_is_the_cheapest_of_all(workers: str) -> None:
    options = {**OPTIONS, "--workers": workers}
    bases = {name: load(None, {**options, "--method": name}, PRICES) for name in AXES}
    limits = Limits(growth=None)
    search = Search(bases, AXES, limits, TOKENS)
    found = search.cheapest()
    simulated = len(search.points)
    assert found is not None
    spent = {}
    for candidate in search.candidates:
        point = search.simulated(candidate)
        spent[candidate.setting] = point.money
        assert candidate.sharpen()
        assert candidate.least_money * TOKENS <= spent[candidate.setting] * (1 + TOLERANCE)
    assert simulated < len(spent) / 2
    assert spent[found.setting] <= min(spent.values()) * (1 + TOLERANCE)


def test_the_cheapest_is_an_answer_where_something_is_priced(bandwise: Bandwise) -> None:
    words = [word for pair in OPTIONS.items() for word in pair]
    few = ("--method", "diloco", "--algorithm", "ring", "--tokens", "20B", "--no-sensitivity")
    priced = [word for price in PRICES for word in ("--set", price)]
    said = bandwise("plan", *words, *few, *priced, "--json").json
    every = [said[which] for which in ("recommended", "fastest", "leanest", "as_given")]
    assert all(said["cheapest"]["money"] <= row["money"] for row in [*every, *said["front"]])
    out = " ".join(bandwise("plan", *words, *few, *priced).out.split())
    more = said["recommended"]["money"] - said["cheapest"]["money"]
    assert more > 0.5
    assert f"{more:+,.0f} EUR against the cheapest" in out
    assert "cheapest" not in bandwise("plan", *words, *few, "--json").json
