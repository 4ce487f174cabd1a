"""How fast the simulator is. `make bench`; figures of one machine are in HISTORY.md.

Nothing here asserts a time: machines differ, and a loaded one would fail for no reason.
Growth is reported as a ratio within one run.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pytest

from sim.figures.evaluation import figures
from sim.methods import METHODS
from sim.questions.replications import predicted
from sim.questions.study import row, run
from sim.records.scenario import (
    Jitter,
    Machine,
    Method,
    ModelSize,
    Network,
    Run,
    Scenario,
    Site,
    Worker,
)
from sim.runtime import simulate
from sim.scenario import load, load_study


def one_site(
    machines: list[Machine], method: str, arguments: dict[str, Any], layers: int, parameters: int
) -> Scenario:
    return Scenario(
        run=Run(),
        model=ModelSize("m", parameters, parameters, (parameters // layers,) * layers),
        method=Method(method, METHODS[method], arguments),
        workers=tuple(Worker(rank, 0, machine) for rank, machine in enumerate(machines)),
        sites=(Site("one", len(machines)),),
        network=Network(((0.0,),), ((0.0,),)),
    )


def many_unequal(workers: int = 1024, steps: int = 100) -> Scenario:
    speeds = np.random.default_rng(0).uniform(0.8, 1.2, workers)
    machines = [
        Machine(1.0, 2.0**20, speed=float(speed), jitter=Jitter("lognormal", 0.05))
        for speed in speeds
    ]
    return one_site(machines, "diloco", {"sync_every": steps}, 48, 9_600_000_000)


def work(scenario: Scenario, rounds: int) -> None:
    figures(simulate(scenario, rounds=rounds))


def test_table_4_study_on_two_cores(benchmark: Any, tmp_path: Path) -> None:
    """15 rows x 50 bandwidths with traces and figures, two processes, from their start."""
    study = load_study("streaming_diloco_table4")

    def whole() -> None:
        with TemporaryDirectory(dir=tmp_path) as out:  # finished results are not computed again
            run(study, Path(out), jobs=2)

    benchmark.pedantic(whole, rounds=3)


def test_1024_unequal_workers_with_jitter(benchmark: Any) -> None:
    """DiLoCo, 100 rounds of 100 inner steps."""
    benchmark.pedantic(work, (many_unequal(), 100), rounds=3)


def test_ddp_108_layers_100_steps_not_merged(benchmark: Any) -> None:
    """Layer overlap on two workers of different speed."""
    machines = [Machine(4.9, 2.0**20, speed=speed) for speed in (1.0, 0.9)]
    scenario = one_site(machines, "ddp", {"overlap": "layer"}, 108, 108 * 10**9)
    benchmark.pedantic(simulate, (scenario,), {"rounds": 100}, rounds=5)


@pytest.mark.benchmark(timer=process_time)
@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("ddp", []),
        ("acco", []),
        ("streaming_diloco", ["method.overlap=layer"]),
        ("diloco", []),
    ],
    ids=["ddp, buckets", "acco", "streaming_diloco, layers", "diloco"],
)
def test_one_point_of_a_study_at_10b(benchmark: Any, method: str, arguments: list[str]) -> None:
    """Simulation, figures and the row of results, in seconds of one processor."""
    scenario = load(None, {"--model": "10B", "--method": method}, arguments)
    benchmark.pedantic(lambda: row({}, scenario, predicted(scenario)), rounds=10, warmup_rounds=1)


@pytest.mark.parametrize("arguments", [["--help"], ["simulate", "--model", "10B"]], ids=" ".join)
def test_command_line(benchmark: Any, arguments: list[str]) -> None:
    """From prompt to output, a new process each time."""
    command = [sys.executable, "-m", "sim.cli", *arguments]
    benchmark.pedantic(
        subprocess.run,
        (command,),
        {"check": True, "stdout": subprocess.DEVNULL},
        rounds=5,
        warmup_rounds=1,
    )


def seconds(task: Callable[[], None]) -> float:
    times = []
    for _ in range(3):
        start = perf_counter()
        task()
        times.append(perf_counter() - start)
    return min(times)


@pytest.mark.parametrize(
    ("what", "small", "large"),
    [
        ("workers x 4", (256, 50, 100), (1024, 50, 100)),
        ("rounds x 4", (256, 25, 100), (256, 100, 100)),
        ("inner steps x 10", (256, 50, 100), (256, 50, 1000)),
    ],
    ids=["workers x 4", "rounds x 4", "inner steps x 10"],
)
def test_growth(benchmark: Any, what: str, small: Any, large: Any) -> None:
    """Time grows linearly in workers and rounds, and hardly in inner steps."""

    def time_of(case: tuple[int, int, int]) -> float:
        workers, rounds, steps = case
        scenario = many_unequal(workers, steps)
        return seconds(lambda: work(scenario, rounds))

    before = time_of(small)
    after = benchmark.pedantic(time_of, (large,), rounds=1)
    benchmark.extra_info["ratio"] = after / before
    print(f"\n{what}: time x {after / before:.2f}")


def test_memory_of_1024_workers(benchmark: Any) -> None:
    """Peak memory of a process that does nothing else."""
    code = (
        f"import resource, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
        "import test_speed as t; t.work(t.many_unequal(), 100); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = benchmark.pedantic(
        subprocess.run,
        ([sys.executable, "-c", code],),
        {"check": True, "capture_output": True, "text": True},
        rounds=1,
    )
    mebibytes = int(done.stdout) / 1024
    benchmark.extra_info["MiB"] = mebibytes
    print(f"\npeak memory: {mebibytes:.0f} MiB")
