"""Planning cases on a full grid: every setting simulated, one after another, by the study's way.

    python benchmarks/planning.py [--jobs 2] [CASE ...]     # simulate the grids (a few minutes)
    python benchmarks/planning.py --check [CASE ...]        # hold the planner's search against them

A case is a file of benchmarks/planning: a scenario as options, limits, and a grid for each method.
Its grid is written next to it, as CASE.csv.gz: a row per setting with what was varied and what came
out. The grids know nothing of how `bandwise plan` searches.
"""

from __future__ import annotations

import argparse
import sys
import time
import tomllib
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd

from sim.planning.asked import Asked
from sim.planning.decision import plan
from sim.planning.limits import Limits
from sim.planning.settings import ORDER
from sim.planning.space import ring_of
from sim.questions.study import run
from sim.records.scenario import Scenario
from sim.scenario import ScenarioError, load, sweep
from sim.units import parse_count, parse_fraction

HERE = Path(__file__).parent / "planning"
FIGURES = [
    "compute_utilization_fraction",
    "tokens_per_s",
    "tokens_per_update",
    "evaluated_tokens",
    "sent_bytes_per_worker",
    "steady",
    "figures_are_bounds",
]


def cases() -> dict[str, dict[str, Any]]:
    """Return every case by its name."""
    return {path.stem: tomllib.loads(path.read_text()) for path in sorted(HERE.glob("*.toml"))}


def grid_of(case: dict[str, Any], jobs: int) -> pd.DataFrame:
    """Simulate every setting of a case."""
    frames = []
    for name, axes in case["grid"].items():
        method = name.partition("-")[0]
        over = [f"{key}={','.join(map(_text, values))}" for key, values in axes.items()]
        options = {**case["options"], "--method": method, "--tokens": case["tokens"]}
        study = sweep(None, options, case.get("settings", []), over)
        begun = time.process_time()
        frame = run(study, jobs=jobs)
        each = 1000 * (time.process_time() - begun) / len(frame)
        print(f"  {name}: {len(frame)} settings, {each:.1f} ms each", file=sys.stderr)
        labels = [name for name in study.axes if name in frame]
        known = [name for name in labels if name != "method.name"]
        frames.append(frame[["method.name", *known, *FIGURES]])
    return pd.concat(frames, ignore_index=True)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Found:
    """What the search found of a case, next to the best of its grid."""

    case: str
    settings: int
    simulated: int
    seconds: float
    #: Least time within the limits over the grid's.
    time: float
    #: Fewest tokens per update that reach the target, over the grid's; nan where none does.
    tokens_per_update: float
    #: Settings of methods that take more than 10 ms each: in the grid, and simulated.
    slow_settings: int
    slow_simulated: int
    #: Whether any setting reaches the target.
    reached: bool


SLOW = ("ddp", "acco")  # more than 10 ms a setting


def check(name: str, case: dict[str, Any], *, on_grid: bool) -> Found:
    """Search a case: on its own grid's values, or on those that the planner chooses."""
    options = {**case["options"], "--tokens": case["tokens"]}
    settings, tokens = case.get("settings", []), parse_count(case["tokens"])
    methods = list(dict.fromkeys(each.partition("-")[0] for each in case["grid"]))
    given = load(None, options, settings)
    study = sweep(None, options, settings, ["method.name=" + ",".join(methods)])
    bases = {each.scenario.method.name: each.scenario for each in study.cases()}
    limits, target = _limits(case), parse_fraction(case["target"])
    axes = {method: _axes(case, method, bases[method]) for method in methods} if on_grid else None
    begun = time.process_time()
    found = plan(Asked(bases, given), target, tokens, limits, axes=axes)
    seconds = time.process_time() - begun
    grid = pd.read_csv(HERE / f"{name}.csv.gz")
    allowed = grid[_within(grid, limits)]
    reaching = allowed[allowed["compute_utilization_fraction"] >= target]["tokens_per_update"]
    assert found.reached == bool(len(reaching)) or not on_grid
    return Found(
        name,
        found.considered,
        found.simulated,
        seconds,
        found.fastest.token_s * allowed["tokens_per_s"].max(),
        found.recommended.tokens_per_update / reaching.min() if len(reaching) else nan,
        int(grid["method.name"].isin(SLOW).sum()),
        sum(point.scenario.method.name in SLOW for point in found.points),
        found.reached,
    )


def simulated_again(case: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """Simulate one row of a grid again, and return its figures."""
    keys = [key for key in row if key.startswith(("method.", "network.")) and key != "method.name"]
    known = {key: row[key] for key in keys if row[key] == row[key] and row[key] != "-"}
    over = [f"{key}={_text(value)}" for key, value in known.items()]
    options = {**case["options"], "--method": row["method.name"], "--tokens": case["tokens"]}
    whole = [text.replace(".0", "") for text in over]
    found = run(sweep(None, options, case.get("settings", []), whole or ["seed=0"]))
    return dict(found.iloc[0])


def _limits(case: dict[str, Any]) -> Limits:
    said = case["limits"]
    return Limits(
        sync_every=said["sync_every"],
        staleness=said["staleness"],
        tokens_per_update=parse_count(said["tokens_per_update"]),
        growth=None,
        measured=False,
    )


def _within(grid: pd.DataFrame, limits: Limits) -> pd.Series:
    """Return which rows are within the limits, from the table alone."""

    def number(name: str, otherwise: float) -> pd.Series:
        column = grid.get(f"method.{name}", pd.Series(index=grid.index, dtype=float))
        return pd.to_numeric(column, errors="coerce").fillna(otherwise)

    steps = number("sync_every", 1)
    late = number("fragment_sync_delay", 0) + number("outer_sync_delay", 0) * steps
    every_step = ~grid["method.name"].str.contains("diloco|local_sgd")
    quantized = grid["method.comm_dtype"].isin(["int8", "fp4"])
    within = (steps <= limits.sync_every) & (late <= limits.staleness)
    within &= grid["tokens_per_update"] <= limits.tokens_per_update
    return within & ~(every_step & quantized)


def _axes(case: dict[str, Any], method: str, base: Scenario) -> dict[str, list[Any]]:
    """Return the values of a method's grid, under the planner's keys."""
    tables = [axes for name, axes in case["grid"].items() if name.partition("-")[0] == method]
    found: dict[str, list[Any]] = {}
    for key, values in (pair for axes in tables for pair in axes.items()):
        full = key if "." in key else f"method.{key}"
        orders = {"given": base.network.collectives.order, "best": ring_of(base)}
        read = [orders.get(value, value) if full == ORDER else value for value in values]
        found[full] = list(dict.fromkeys([*found.get(full, []), *read]))
    if method == "ddp" and "method.zero1" in found:
        found["method.zero1"] = [False, True]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="CASE")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    if given.check:
        names = ("case", "values", "settings", "simulated", "CPU s", "time / best of the grid")
        more = ("tokens per update / fewest", "slow methods: settings", "simulated")
        print("| " + " | ".join((*names, *more)) + " |\n" + "|---" * 9 + "|")
        for name, case in cases().items():
            if given.names and name not in given.names:
                continue
            for on_grid in (True, False):
                found = check(name, case, on_grid=on_grid)
                print(
                    f"| {name} | {'the grid' if on_grid else 'the planner'} | {found.settings} | "
                    f"{found.simulated} | {found.seconds:.1f} | {found.time:.5f} | "
                    f"{found.tokens_per_update:.3f} | {found.slow_settings} | "
                    f"{found.slow_simulated} |",
                    flush=True,
                )
        return 0
    for name, case in cases().items():
        if given.names and name not in given.names:
            continue
        print(name, file=sys.stderr)
        try:
            grid = grid_of(case, given.jobs)
        except ScenarioError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        compression = {"method": "gzip", "mtime": 0}
        grid.to_csv(HERE / f"{name}.csv.gz", index=False, compression=compression)
        print(f"  {len(grid)} settings in all", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
