"""A sweep on a local Dask and a local Ray cluster of two workers, one of which is killed half-way.

    python benchmarks/engines.py [--points N] [--folder DIR] [ENGINE ...]

Runs `bandwise sweep --backend` on processes of this machine, then on the engines named ("dask",
"ray"; by default both), 10,000 points of diloco each by default. Prints seconds, the client's
memory in the second and in the last quarter of the run, whether a worker was killed, and whether
every part has the bytes of the local run's. Needs the extras dask and ray. Figures are in
HISTORY.md.

With --folder the parts stay, and the same command continues after it was interrupted: parts that
are there are not computed again, and the local run's serve for every engine. Seconds and memory
are then of what was left.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

import psutil

ROOT = Path(__file__).parent.parent
POINTS = 10_000
_EVERY_S = 0.25
Workers = Callable[[], list[int]]


def command(points: int, out: Path, *engine: str) -> list[str]:
    return [
        *(sys.executable, "-P", "-m", "sim.cli", "sweep", "--model", "1B", "--method", "diloco"),
        *("--over", f"bandwidth=0.1..100Gbit/s:{points // 16}"),
        *("--over", "sync_every=10,20,50,100", "--over", "rtt=1,10,50,100ms"),
        *("--out", str(out), "--backend", *engine),
    ]


def no_workers() -> list[int]:
    return []


@contextmanager
def local() -> Iterator[tuple[list[str], Workers]]:
    yield ["local", "--jobs", "2"], no_workers


@contextmanager
def dask() -> Iterator[tuple[list[str], Workers]]:
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield (
            ["dask", "--address", cluster.scheduler_address],
            lambda: [worker.pid for worker in cluster.workers.values()],
        )


@contextmanager
def ray() -> Iterator[tuple[list[str], Workers]]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        yield (
            ["ray", "--address", ray.get_runtime_context().gcs_address],
            lambda: [
                each.pid
                for each in psutil.Process().children(recursive=True)
                if each.name().startswith("ray::_run")
            ],
        )
    finally:
        ray.shutdown()


def run(points: int, out: Path, engine: list[str], workers: Workers) -> tuple[str, bool]:
    """Run the sweep, kill a worker half-way; return the cells of its row, and whether it ended."""
    begin, memory, killed = perf_counter(), [], 0
    process = subprocess.Popen(
        command(points, out, *engine),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    client = psutil.Process(process.pid)
    try:
        while process.poll() is None:
            sleep(_EVERY_S)
            done = len(list(out.glob("part-*.parquet")))
            try:
                memory.append((done, client.memory_info().rss / 2**20))
            except psutil.Error:  # it has just ended
                break
            half = points <= 2000 * done < 2 * points
            if half and not killed and (pids := workers()):
                killed = pids[0]
                os.kill(killed, signal.SIGKILL)
    finally:
        process.terminate()  # of no effect on one that has ended
    seconds, parts = perf_counter() - begin, points / 1000
    second = [size for done, size in memory if parts / 4 <= done < parts / 2]
    last = [size for done, size in memory if 3 * parts / 4 <= done]
    status = process.wait()
    cells = (
        f"{points:,} | {seconds:.0f} | {_middle(second)} | {_middle(last)} | "
        f"{'yes' if killed else 'no'} | {status} |"
    )
    return cells, status == 0


def _middle(sizes: list[float]) -> str:
    return f"{median(sizes):.0f}" if sizes else "-"


def main(points: int, engines: list[str], kept: Path | None) -> None:
    print(
        "| engine | points | s | MiB, second quarter | MiB, last | worker killed | status | bytes |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with nullcontext(str(kept)) if kept else TemporaryDirectory() as folder:
        for engine in (local, *(ENGINES[name] for name in engines)):
            out = Path(folder) / engine.__name__
            with engine() as (options, workers):
                cells, ended = run(points, out, options, workers)
            wanted = sorted((Path(folder) / "local").glob("part-*.parquet"))
            found = sorted(out.glob("part-*.parquet"))
            same = [a.name for a in wanted] == [b.name for b in found] and all(
                a.read_bytes() == b.read_bytes() for a, b in zip(wanted, found, strict=True)
            )
            said = "not compared" if not ended else "equal" if same else "DIFFER"
            print(f"| {engine.__name__} | {cells} {said} |", flush=True)


ENGINES = {"dask": dask, "ray": ray}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("engines", nargs="*", metavar="ENGINE", help="dask, ray")
    parser.add_argument("--points", type=int, default=POINTS)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    for name in asked.engines:
        if name not in ENGINES:
            parser.error(f'"{name}": must be one of {", ".join(ENGINES)}')
    main(asked.points, asked.engines or list(ENGINES), asked.folder)
