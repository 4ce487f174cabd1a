"""Train the same small model with every method on equal tokens; `make learning`.

One row per finished run goes to ``results.csv``; a run that has its row is not run again, so
the script can be stopped and called again. Then come ``summary.md`` and two pictures, from
whatever is finished.

    python benchmarks/learning.py [--out DIR] [--seeds N] [--jobs N] [--report]
    python benchmarks/learning.py --pilot         # the learning rates, on a seed of its own
    python benchmarks/learning.py --experiments   # why some results are as they are
"""

from __future__ import annotations

import argparse
import atexit
import csv
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from math import ceil
from pathlib import Path
from statistics import fmean
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING, Any

from learning_plan import (
    BASE,
    BATCH_TOKENS,
    CONFIGURATIONS,
    HERE,
    WORKERS,
    Planned,
    experiments,
    pilot,
    planned,
)
from learning_report import HELD_OUT_SEQUENCES, summarise
from learning_results import Row, add, read

if TYPE_CHECKING:
    from realrun.data.batches import Data
    from realrun.model.build import Built

SEEDS = 3
_PARTS_OF_A_CURVE = 40
_SEQUENCES_AT_ONCE = 16
_PARAMETERS = "parameters.safetensors"


def train(run: Planned) -> Row:
    """Train in processes of their own, and measure on text that no worker trains on.

    Raises
    ------
    RuntimeError
        If the training failed; one line.
    """
    start = None if run.after is None else _start(run.after)
    began = perf_counter()
    with tempfile.TemporaryDirectory(prefix="learning-") as folder:
        parameters, each = Path(folder, _PARAMETERS), Path(folder, "losses.csv")
        if run.configuration.late_share is None:
            told = _by_realrun(run, parameters, each, start)
        else:
            from learning_alone import train_alone

            told = train_alone(run, parameters, each)
        held_out, curve = held_out_loss(parameters), _curve(each)
    return Row(
        run.key,
        run.configuration.name,
        run.configuration.method,
        ", ".join(f"{key} = {value}" for key, value in run.configuration.arguments.items()),
        run.workers,
        run.seed,
        run.learning_rate,
        held_out,
        told["trained_tokens"],
        told["tokens_per_update"],
        round(perf_counter() - began, 1),
        curve,
    )


def _by_realrun(run: Planned, parameters: Path, losses: Path, start: Path | None) -> Any:
    command = [sys.executable, "-m", "realrun", "train", str(BASE), "--json"]
    command += [part for text in run.assignments for part in ("--set", text)]
    command += ["--losses", str(losses), "--save", str(parameters)]
    if start is not None:
        command += ["--start", str(start)]
    if run.configuration.replayed:
        command += ["--replay", str(_timed_by_the_simulator(run, parameters.parent))]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"status {ended.returncode}"]
        raise RuntimeError(f"{run}: {lines[-1]}")
    return json.loads(ended.stdout)


_started = Lock()
_starts: dict[str, Path] = {}


def _start(run: Planned) -> Path:
    """Parameters that other runs begin with: trained once, kept while this script runs."""
    with _started:
        if run.key not in _starts:
            folder = tempfile.mkdtemp(prefix="learning-")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            parameters = Path(folder, _PARAMETERS)
            _by_realrun(run, parameters, Path(folder, "losses.csv"), None)
            print(f"{run}: {held_out_loss(parameters):.4f}, where others start", flush=True)
            _starts[run.key] = parameters
    return _starts[run.key]


def _timed_by_the_simulator(run: Planned, folder: Path) -> Path:
    from sim.runtime import simulate
    from sim.scenario import load
    from sim.trace.files import save

    scenario = load(str(BASE), {}, run.assignments)
    assert scenario.horizon_tokens is not None
    rounds = ceil(scenario.horizon_tokens / BATCH_TOKENS)  # without them it stops when steady
    path = folder / "simulated.parquet"
    save(simulate(scenario, rounds=rounds), path)
    return path


def held_out_loss(parameters: Path) -> float:
    """Mean loss on the same held-out text for every run, nats per token.

    realrun's own figure is of as many tokens as a worker's batch makes it, so it is not used.
    """
    import torch

    from realrun.state.saved import begin_from

    built, data = _model_and_data()
    found = []
    begin_from(parameters, built.module, built.stages)
    with torch.no_grad():
        batches = HELD_OUT_SEQUENCES // _SEQUENCES_AT_ONCE
        for inputs, targets in data.validation(_SEQUENCES_AT_ONCE, batches):
            outputs = inputs
            for stage in built.stages:
                outputs = stage(outputs)
            found.append(float(built.loss(outputs, targets)))
    return fmean(found)


@cache
def _model_and_data() -> tuple[Built, Data]:
    from realrun.data.batches import open_data
    from realrun.model.build import build
    from sim.scenario import loaded

    base = loaded(str(BASE))
    built = build(base.sections.model, base.scenario.model)
    return built, open_data(
        base.sections.data, vocabulary=built.vocabulary, context=built.context, workers=WORKERS[0]
    )


def _curve(path: Path) -> tuple[float, ...]:
    """Mean training loss of all workers in equal parts of the run."""
    by_rank: dict[str, list[float]] = {}
    with path.open(newline="") as file:
        for line in csv.DictReader(file):
            by_rank.setdefault(line["rank"], []).append(float(line["loss_nats_per_token"]))
    return tuple(
        round(fmean(fmean(_part(own, number)) for own in by_rank.values()), 4)
        for number in range(_PARTS_OF_A_CURVE)
    )


def _part(values: list[float], number: int) -> list[float]:
    count = len(values)
    return values[count * number // _PARTS_OF_A_CURVE : count * (number + 1) // _PARTS_OF_A_CURVE]


def make(runs: Sequence[Planned], path: Path, jobs: int) -> bool:
    """Make the runs that have no row yet; whether all have one now."""
    finished = {row.key for row in read(path)}
    missing = [run for run in runs if run.key not in finished]
    print(f"{len(runs) - len(missing)} of {len(runs)} runs are finished", flush=True)
    complete = True
    with ThreadPoolExecutor(jobs) as pool:
        for done in as_completed([pool.submit(train, run) for run in missing]):
            try:
                row = done.result()
            except RuntimeError as error:
                complete = False
                print(f"failed: {error}", file=sys.stderr, flush=True)
                continue
            add(path, row)
            print(
                f"{row.configuration}, {row.workers} workers, seed {row.seed}, "
                f"lr {row.learning_rate:g}: {row.held_out_loss:.4f} nats per token on held-out "
                f"text, {row.tokens_per_update:,.0f} tokens per update, {row.seconds:.0f} s",
                flush=True,
            )
    return complete


def main() -> int:
    """Run what is asked for; 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of every configuration")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--pilot", action="store_true", help="make the pilot's runs")
    parser.add_argument("--experiments", action="store_true", help="make the experiments' runs")
    parser.add_argument("--report", action="store_true", help="only write the summary")
    asked = parser.parse_args()
    if asked.seeds < 1 or asked.jobs < 1:
        parser.error("--seeds and --jobs must be at least 1")
    asked.out.mkdir(parents=True, exist_ok=True)
    complete = True
    if asked.pilot:
        complete = make(pilot(), asked.out / "pilot.csv", asked.jobs)
    elif asked.experiments:
        complete = make(experiments(), asked.out / "experiments.csv", asked.jobs)
    elif not asked.report:
        complete = make(planned(CONFIGURATIONS, asked.seeds), asked.out / "results.csv", asked.jobs)
    summarise(asked.out, asked.seeds)
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
