"""gloo's collectives as measured, compared with sim/network/gloo.py and with the textbook's ring.

    .venv-test/bin/python benchmarks/gloo.py
    sudo .venv-test/bin/python benchmarks/gloo.py --measure new.csv [--workers 4]

Without ``--measure`` it reads benchmarks/gloo/collectives.csv. With it, it builds a lab for
every rate and round trip, measures there into that file, and then reads it. Host costs are
no fit: a fifth of a millisecond for a message and a nanosecond for a byte are what a core of
this kind needs to wake up and to add.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

from sim.clock import Clock
from sim.network.gloo import part
from sim.network.message_links import Connections, MessageLinks
from sim.network.messages import End, ends
from sim.records.scenario import HostCosts
from sim.scenario import load
from sim.theory.closed_forms import ring_seconds

MEASURED = Path(__file__).parent / "gloo" / "collectives.csv"
HOST = HostCosts(message_s=2e-4, byte_s=1e-9)
THREADS = 2  # torch's, per process group
MBIT_PER_S = (20, 100, 500, 1000)
RTT_MS = (0, 40)
SIZES = (64, 16_384, 262_144, 1_048_576, 4_194_304)
SKEW_S = 0.03
SECONDS = 0.6  # of repeats, for each case


@dataclass(frozen=True)
class Case:
    """What was measured; see benchmarks/gloo/README.md."""

    workers: int
    bandwidth_mbit_per_s: float
    rtt_ms: float
    operation: str
    bytes: int
    at_once: int
    skew_s: float
    median_s: float = 0.0
    min_s: float = 0.0
    repeats: int = 0


def read(path: Path) -> list[Case]:
    kinds = {"str": str, "int": int, "float": float}
    with path.open() as file:
        return [
            Case(**{f.name: kinds[str(f.type)](row[f.name]) for f in fields(Case)})
            for row in csv.DictReader(file)
        ]


def predicted(case: Case) -> float:
    """Seconds until the last rank has all results, by gloo's messages."""
    clock, workers = Clock(), case.workers
    rates = [case.bandwidth_mbit_per_s * 1e6 / 8] * workers**2
    latency = case.rtt_ms * 1e-3 / 2
    links = MessageLinks(clock, rates, lambda a, b: ((a * workers + b,), latency), HOST)
    connections = Connections(links, workers)
    collectives = [ends(connections) for _ in range(case.at_once)]
    last = 0.0

    def begin(waiting: deque[End]) -> None:
        def ended() -> None:
            nonlocal last
            last = clock.now
            begin(waiting)

        if waiting:
            end = waiting.popleft()
            end.run(part(end, case.operation, "fp32", case.bytes), ended)

    for rank in range(workers):
        waiting = deque(every[rank] for every in collectives)
        for _ in range(THREADS):
            start = case.skew_s if rank == 1 else 0.0
            clock.after(start, lambda waiting=waiting: begin(waiting), first=True)
    clock.run()
    return last


def textbook(case: Case) -> float:
    """The same by a ring's closed form, one collective after the other, all as the last."""
    rate, latency = case.bandwidth_mbit_per_s * 1e6 / 8, case.rtt_ms * 1e-3 / 2
    operation = "all_gather" if case.operation == "all_to_all" else case.operation
    alone = ring_seconds(operation, case.workers, case.bytes, rate, latency)
    return case.skew_s + case.at_once * alone


def compare(cases: Iterable[Case]) -> None:
    print(
        f"{'Mbit/s':>6} {'RTT ms':>6} {'operation':10} {'bytes':>8} {'at once':>7} {'skew':>5}  "
        f"{'median ms':>10} {'fastest':>9} {'model':>9} {'error':>7} {'textbook':>9} {'error':>7}"
    )
    ours, theirs = [], []
    for case in cases:
        model, book = predicted(case), textbook(case)
        ours.append(model / case.min_s - 1)
        theirs.append(book / case.min_s - 1)
        print(
            f"{case.bandwidth_mbit_per_s:6g} {case.rtt_ms:6g} {case.operation:10} "
            f"{case.bytes:8} {case.at_once:7} {case.skew_s:5g}  {case.median_s * 1e3:10.2f} "
            f"{case.min_s * 1e3:9.2f} {model * 1e3:9.2f} {ours[-1]:+7.1%} {book * 1e3:9.2f} "
            f"{theirs[-1]:+7.1%}"
        )
    for name, errors in (("model", ours), ("textbook", theirs)):
        found = sorted(map(abs, errors))
        print(f"{name}: median absolute error {median(found):.1%}, largest {found[-1]:.0%}")


# -- measuring -----------------------------------------------------------------------------
def cases(workers: int, rate: float, rtt: float) -> list[Case]:
    """Every case of one network."""
    found = [
        Case(workers, rate, rtt, operation, size, 1, skew)
        for operation in ("all_reduce", "all_to_all", "all_gather")
        for size in SIZES
        for skew in (0.0, SKEW_S)
    ]
    return found + [
        Case(workers, rate, rtt, "all_reduce", size, at_once, 0.0)
        for at_once in (2, 4, 8)
        for size in SIZES[1:4]
    ]


def measure(workers: int) -> list[Case]:
    """Measure every case, each network in a lab of its own."""
    from realrun.errors import RunError
    from realrun.lab import built, topology

    found: list[Case] = []
    for rate in MBIT_PER_S:
        for rtt in RTT_MS:
            settings = [f"network.bandwidth={rate} Mbit/s", f"network.rtt={rtt} ms"]
            scenario = load("quick_start", {}, [*settings, f"site.count={workers}"])
            try:
                with built(topology(scenario)) as lab:
                    found += in_lab(lab, cases(workers, rate, rtt))
            except RunError as error:
                print(f"{rate} Mbit/s, {rtt} ms: {error}", file=sys.stderr)
    return found


def in_lab(lab: Any, asked: list[Case]) -> list[Case]:
    """Start a process for every rank; of their times the slowest rank's count."""
    from ranks import said_by_ranks

    said = said_by_ranks(lab, [__file__, "--worker", json.dumps([asdict(case) for case in asked])])
    return [
        Case(
            **{
                **asdict(case),
                "median_s": max(median(seconds) for seconds in by_rank),
                "min_s": max(min(seconds) for seconds in by_rank),
                "repeats": len(by_rank[0]),
            }
        )
        for case, by_rank in zip(asked, zip(*said, strict=True), strict=True)
    ]


def worker(asked: list[Case]) -> None:
    """Be one rank: print the seconds of every repeat of every case."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()

    def from_rank_0(value: float) -> float:
        told = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(told, 0)
        return float(told)

    def repeat(case: Case, starts: list[Callable[[], Any]]) -> float:
        # Namespaces share one clock; the instant reaches all before it comes.
        agreed = from_rank_0(perf_counter() + 0.004 + 1.5e-3 * case.rtt_ms)
        own = agreed + (case.skew_s if rank == 1 else 0.0)
        sleep(max(0.0, own - perf_counter() - 1e-3))
        while perf_counter() < own:
            pass
        for work in [start() for start in starts]:
            work.wait()
        return perf_counter() - agreed

    found = []
    for case in asked:
        starts, seconds, begun = [starter(case) for _ in range(case.at_once)], [], perf_counter()
        more = 1.0
        while more:
            seconds.append(repeat(case, starts))
            more = from_rank_0(len(seconds) < 5 or perf_counter() - begun < SECONDS)
        found.append(seconds[1:])
    print(json.dumps(found))
    dist.destroy_process_group()


def starter(case: Case) -> Callable[[], Any]:
    """What starts one collective on tensors of its own."""
    import torch
    import torch.distributed as dist

    from realrun.communication.quantize import all_gather_single

    whole = torch.zeros(case.bytes // 4)
    other = torch.empty_like(whole)
    own = torch.zeros(len(whole) // case.workers)
    starts: dict[str, Callable[[], Any]] = {
        "all_reduce": lambda: dist.all_reduce(whole, async_op=True),
        "all_to_all": lambda: dist.all_to_all_single(other, whole, async_op=True),
        "all_gather": lambda: all_gather_single(whole, own, async_op=True),
    }
    return starts[case.operation]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--measure", type=Path, metavar="FILE")
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--worker", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.worker:
        worker([Case(**case) for case in json.loads(given.worker)])
        return
    if given.measure:
        with given.measure.open("w", newline="") as file:
            rows = csv.DictWriter(file, [f.name for f in fields(Case)], lineterminator="\n")
            rows.writeheader()
            rows.writerows(asdict(case) for case in measure(given.workers))
    compare(read(given.measure or MEASURED))


if __name__ == "__main__":
    main()
