"""Planning cases on a full grid: every setting simulated, one after another, by the study's way.

    python benchmarks/planning.py [--jobs 2] [CASE ...]

A case is a file of benchmarks/planning: a scenario as options, limits, and a grid for each method.
Its grid is written next to it, as CASE.csv.gz: a row per setting with what was varied and what came
out. Nothing here knows how `bandwise plan` searches; tests hold its answers against these grids.
"""

from __future__ import annotations

import argparse
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd

from sim.questions.study import run
from sim.scenario import ScenarioError, sweep

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="CASE")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
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
