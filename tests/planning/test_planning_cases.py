"""The search finds what a full grid finds, with few runs (benchmarks/planning)."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from planning import HERE, cases, check, simulated_again

CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_the_search_finds_the_best_of_the_grid(name: str) -> None:
    found = check(name, CASES[name], on_grid=True)
    assert 0.999 < found.time < 1.005
    assert found.tokens_per_update == pytest.approx(1.0, rel=1e-6) or not found.reached
    assert found.simulated < found.settings / 50
    assert found.slow_simulated <= found.slow_settings / 10


@pytest.mark.parametrize("name", ["one_metro", "two_continents"])
def test_the_planners_own_values_are_no_worse_than_the_grid(name: str) -> None:
    found = check(name, CASES[name], on_grid=False)
    assert found.time < 1.005
    assert found.slow_simulated <= found.slow_settings / 10


@pytest.mark.parametrize("name", CASES)
def test_every_grid_has_thousands_of_settings_and_still_holds(name: str) -> None:
    grid = pd.read_csv(HERE / f"{name}.csv.gz")
    assert len(grid) >= 2000
    for row in grid.sample(4, random_state=1).to_dict("records"):
        again = simulated_again(CASES[name], row)
        for column in ("compute_utilization_fraction", "tokens_per_s", "tokens_per_update"):
            assert again[column] == pytest.approx(row[column], rel=1e-9), row
