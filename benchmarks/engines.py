"""A sweep on a local Dask and a local Ray cluster of two workers, one of which is killed half-way.

    python benchmarks/engines.py [POINTS]

Runs `bandwise sweep --backend` on processes of this machine, on Dask and on Ray, 10,000 points of
diloco each by default. Prints seconds, the client's memory in the second and in the last quarter of
the run, whether a worker was killed, and whether every part has the bytes of the local run's. Needs
the extras dask and ray. Figures are in HISTORY.md.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


def run(points: int, out: Path, engine: list[str], workers: Workers) -> str:
    """Run the sweep, kill a worker half-way; return the cells of its row."""
    begin, memory, killed = perf_counter(), [], 0
    process = subprocess.Popen(
        command(points, out, *engine),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    client = psutil.Process(process.pid)
    while process.poll() is None:
        sleep(_EVERY_S)
        done = len(list(out.glob("part-*.parquet")))
        try:
            memory.append((done, client.memory_info().rss / 2**20))
        except psutil.Error:  # it has just ended
            break
        if not killed and 2000 * done >= points and (pids := workers()):
            killed = pids[0]
            os.kill(killed, signal.SIGKILL)
    seconds, parts = perf_counter() - begin, points / 1000
    second = median(size for done, size in memory if parts / 4 <= done < parts / 2)
    last = median(size for done, size in memory if 3 * parts / 4 <= done)
    status = process.wait()
    return (
        f"{points:,} | {seconds:.0f} | {second:.0f} | {last:.0f} | "
        f"{'yes' if killed else 'no'} | {status} |"
    )


def main(points: int) -> None:
    print(
        "| engine | points | s | MiB, second quarter | MiB, last | worker killed | status | bytes |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with TemporaryDirectory() as folder:
        for engine in (local, dask, ray):
            out = Path(folder) / engine.__name__
            with engine() as (options, workers):
                cells = run(points, out, options, workers)
            wanted = sorted((Path(folder) / "local").glob("part-*.parquet"))
            found = sorted(out.glob("part-*.parquet"))
            same = [a.name for a in wanted] == [b.name for b in found] and all(
                a.read_bytes() == b.read_bytes() for a, b in zip(wanted, found, strict=True)
            )
            print(f"| {engine.__name__} | {cells} {'equal' if same else 'DIFFER'} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else POINTS)
