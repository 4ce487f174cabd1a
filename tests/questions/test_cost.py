"""Accelerator-hours, money, energy and egress: by hand, and by a second method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.figures.evaluation import Figures
from sim.network.links import Links
from sim.questions.cost import BUSY, cost
from sim.questions.replications import predicted
from sim.records.scenario import Tariff
from sim.runtime import simulate
from sim.scenario import Scenario, ScenarioError, load

TEXT = """
[run]
rounds = 6
[model]
parameters = "1B"
layers = 4
[method]
name = "diloco"
sync_every = 4
[[site]]
name = "a"
accelerators = "8 x H100"
price = "2.50 USD/h"
egress_price = "90 USD/TB"
power = "1 kW"
idle_power = "300 W"
pue = 1.2
[[site]]
name = "b"
accelerators = "4 x H100"
workers = 2
price = "1.80 USD/h"
[network]
bandwidth = "1 Gbit/s"
"""


def scenario(folder: Path, *changes: tuple[str, str]) -> Scenario:
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "priced.toml"
    path.write_text(text)
    return load(path)


@pytest.fixture(scope="module")
def priced(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    return scenario(tmp_path_factory.mktemp("priced"))


@pytest.fixture(scope="module")
def figures(priced: Scenario) -> Figures:
    return predicted(priced).figures


def test_waiting_is_paid_and_money_is_hours_and_egress_at_the_sites_prices(
    priced: Scenario,
) -> None:
    figures = predicted(priced).figures
    found = cost(priced, figures)
    hours = figures.total_wall_clock_s / 3600
    assert [site.accelerator_hours for site in found.sites] == pytest.approx([8 * hours, 8 * hours])
    # By site: the first workers of the two sites exchange 2e9 bytes a round, each sends as many.
    sent = 6 * 2e9 / 1e12
    assert [site.egress_tb for site in found.sites] == pytest.approx([sent, sent])
    assert found.sites[0].money == pytest.approx(8 * hours * 2.5 + sent * 90)
    assert found.sites[1].money == pytest.approx(8 * hours * 1.8)
    assert found.money == pytest.approx(sum(site.money or 0 for site in found.sites))
    assert (found.currency, found.money_is_lower_bound) == ("USD", False)


def test_an_accelerator_that_waits_draws_its_idle_power(priced: Scenario) -> None:
    figures = predicted(priced).figures
    found = cost(priced, figures)
    spent = figures.breakdown_by_worker[0]
    idle = sum(part for cause, part in spent.items() if cause not in BUSY)
    assert 0.05 < idle < 0.95
    watts = 8 * (1000 - 700 * idle) * 1.2
    hours = figures.total_wall_clock_s / 3600
    assert found.energy_kwh == pytest.approx(watts * hours / 1000)
    assert found.energy_is_lower_bound  # site b says nothing


def test_two_hours_at_three_quarters_busy_are_15_84_kwh(priced: Scenario, figures: Figures) -> None:
    spent = dict.fromkeys(figures.breakdown_by_worker[0], 0.0)
    spent |= {"compute": 0.5, "contention": 0.25, "exposed_communication": 0.25}
    assert spent.keys() == figures.breakdown_by_worker[0].keys()
    one = replace(figures, total_wall_clock_s=7200.0, breakdown_by_worker=[spent] * 3)
    # 8 x (0.75 x 1000 W + 0.25 x 300 W) = 6600 W; x 2 h = 13.2 kWh; x 1.2 = 15.84 kWh.
    assert cost(priced, one).sites[0].energy_kwh == pytest.approx(15.84)


def test_tokens_are_priced_at_the_pace_of_the_evaluated_rounds(priced: Scenario) -> None:
    figures = predicted(priced).figures
    once, twice = (cost(priced, figures, tokens) for tokens in (1e9, 2e9))
    assert twice.money == pytest.approx(2 * (once.money or 0))
    rounds = 1e9 / (figures.window_tokens / figures.window_rounds)
    assert once.egress_tb == pytest.approx(rounds * 2 * 2e9 / 1e12)


@pytest.mark.parametrize("algorithm", ["ring", "tree", "hierarchical", "direct", "gloo"])
@pytest.mark.parametrize("method", ["diloco", "streaming_diloco"])
def test_what_leaves_a_site_is_what_its_uplink_carries(
    tmp_path: Path, algorithm: str, method: str
) -> None:
    name = 'name = "diloco"'
    more = f'[network]\ncollective = {{ algorithm = "{algorithm}" }}\n'
    changes = [("[network]\n", more), (name, f'name = "{method}"')]
    one = scenario(tmp_path, *changes)
    figures = predicted(one).figures
    links, carried = Links(one), np.zeros(2)
    first = {}
    trace = simulate(one)
    for row in trace.rows:
        if row.bytes > 0:
            first[row.group, row.call, row.operation] = row
    for row in first.values():
        price = links.cost(row.operation, row.detail.rpartition(" ")[2], row.bytes)
        for link, use in zip(price.links, price.use, strict=True):
            for site in range(2):
                if link == 4 + site:  # uplinks follow the 2 x 2 pairs
                    carried[site] += use * price.transmit_s * links.capacity[link]
    if algorithm == "gloo":  # its seconds are of messages, its bytes those of the schedule
        assert all(sent > 0 for sent in figures.total_egress_bytes_by_site)
    else:
        assert figures.total_egress_bytes_by_site == pytest.approx(carried)


def test_traffic_within_a_site_is_no_egress(tmp_path: Path) -> None:
    text = TEXT[: TEXT.index("[[site]]")] + TEXT[TEXT.index('[[site]]\nname = "b"') :]
    path = tmp_path / "one.toml"
    path.write_text(text)
    figures = predicted(load(path)).figures
    assert figures.sent_bytes_per_worker > 0
    assert figures.total_egress_bytes_by_site == (0.0,)


def test_a_site_without_a_price_makes_money_a_lower_bound(tmp_path: Path) -> None:
    one = scenario(tmp_path, ('price = "1.80 USD/h"', ""))
    found = cost(one, predicted(one).figures)
    assert found.money_is_lower_bound
    assert found.money == found.sites[0].money
    assert found.sites[1].money is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("1.80 USD", "1.80 EUR", "site.b.price.*in EUR, another price in USD"),
        ('accelerators = "4 x H100"', 'step_time = "1 s"', "site.b.price.*goes with accelerators"),
        ('power = "1 kW"\nidle', "idle", "site.a.idle_power.*goes with power"),
        ("300 W", "3 kW", "site.a.idle_power.*at most that of power"),
        ("pue = 1.2", "pue = 0.2", "site.*pue"),
        ("90 USD/TB", "90 USD/GB", "site.a.egress_price.*1 per GB is 1000 per TB"),
    ],
)
def test_a_slip_is_one_line_that_names_the_key(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    with pytest.raises(ScenarioError, match=said) as caught:
        scenario(tmp_path, (old, new))
    assert "\n" not in str(caught.value)


def test_the_hash_counts_prices_only_where_they_are_given(tmp_path: Path, priced: Scenario) -> None:
    gone = [line for line in TEXT.splitlines() if line.split(" ")[0] in KEYS]
    bare = scenario(tmp_path, *((line + "\n", "") for line in gone))
    assert bare.sha256 != priced.sha256
    without = tuple(replace(site, tariff=Tariff()) for site in priced.sites)
    assert replace(priced, sites=without, name=bare.name).sha256 == bare.sha256


KEYS = ("price", "egress_price", "power", "idle_power", "pue")
PRICES = st.floats(0, 1000)


@given(first=PRICES, second=PRICES, egress=PRICES, factor=st.floats(0, 100))
def test_money_is_linear_in_prices_and_additive_over_sites(
    priced: Scenario, figures: Figures, first: float, second: float, egress: float, factor: float
) -> None:

    def money(*tariffs: Tariff) -> float:
        sites = zip(priced.sites, tariffs, strict=True)
        one = replace(priced, sites=tuple(replace(s, tariff=t) for s, t in sites))
        return cost(one, figures).money or 0.0

    both = Tariff(first, egress), Tariff(second)
    scaled = Tariff(factor * first, factor * egress), Tariff(factor * second)
    assert money(*scaled) == pytest.approx(factor * money(*both), abs=1e-9)
    apart = money(both[0], Tariff()) + money(Tariff(), both[1])
    assert money(*both) == pytest.approx(apart, abs=1e-9)


def test_each_site_alone_costs_its_hours_and_the_cheapest_is_named(
    bandwise: Callable[..., Any],
) -> None:
    """Equal accelerators at 2.50 and 1.80 USD/h: the same time, and the same ratio of money."""
    command = ("compare", "priced_sites", "--methods", "diloco", "--no-sensitivity")
    found = bandwise(*command, "--json").json
    north, south = found["single_sites"]
    assert north["money"] == pytest.approx(2.5 * 8 * north["time_for_tokens_s"] / 3600)
    assert south["money"] / north["money"] == pytest.approx(1.8 / 2.5)
    (method,) = found["methods"]
    parts = [site["money"] for site in method["cost_by_site"]]
    assert sum(parts) == pytest.approx(method["money"])
    text = bandwise(*command).out
    assert "Cost by site (USD)" in text
    assert "The cheapest is south" in " ".join(text.split())
