"""How true a lab is: asked against measured rates and round trips, and gloo's all-reduce in it.

    sudo .venv-test/bin/python benchmarks/lab.py [--workers 2]

One row per rate and round trip: what the lab measured of itself, the share of a core that its
switch needed while every worker sent at full rate, and the median time of an all-reduce of 4 MB
of fp32 next to 2 (M - 1) / M S / W and next to that plus 2 (M - 1) round trips, which is what
gloo's ring waits for when nothing overlaps.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter

from ranks import said_by_ranks

from realrun.errors import RunError
from realrun.lab import Lab, built, topology
from realrun.lab.check import transferred
from sim.scenario import load

MBIT_PER_S = (20, 50, 200, 1000)
RTT_MS = (0, 20, 80)
BYTES = 4_000_000
REPEATS = 7
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def busy_share(lab: Lab) -> float:
    """Share of a core that the switch needs with every worker sending to the next."""
    workers = lab.topology.workers
    ring = [(rank, (rank + 1) % workers) for rank in range(workers)]
    before, begun = cpu_seconds(lab.switch), monotonic()
    transferred(lab.topology, lab.namespaces, ring)
    return (cpu_seconds(lab.switch) - before) / (monotonic() - begun)


def all_reduce_seconds(lab: Lab) -> float:
    return float(said_by_ranks(lab, [__file__, "--worker"])[0])


def worker() -> None:
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    values = torch.zeros(BYTES // 4)
    seconds = []
    for repeat in range(REPEATS + 2):
        dist.barrier()
        begun = perf_counter()
        dist.all_reduce(values)
        if repeat > 1:  # connections, and windows that open
            seconds.append(perf_counter() - begun)
    if dist.get_rank() == 0:
        print(json.dumps(median(seconds)))
    dist.destroy_process_group()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.worker:
        worker()
        return
    workers = given.workers
    print(
        f"{'asked':>17}  {'measured':>19}  {'ring':>6}  {'switch':>6}  "
        f"{'all-reduce':>10}  {'S/W':>8}  {'+ RTTs':>8}"
    )
    for rate in MBIT_PER_S:
        for rtt in RTT_MS:
            settings = [f"network.bandwidth={rate} Mbit/s", f"network.rtt={rtt} ms"]
            scenario = load("quick_start", {}, [*settings, f"site.count={workers}"])
            asked = f"{rate:4} Mbit/s, {rtt:2} ms"
            try:
                with built(topology(scenario)) as lab:
                    pair, ring = lab.checks[0], lab.checks[-1]
                    busy, seconds = busy_share(lab), all_reduce_seconds(lab)
            except RunError as error:
                print(f"{asked}  {error}", flush=True)
                continue
            assert pair.measured_rtt_s is not None
            wire = 2 * (workers - 1) / workers * BYTES / (rate * 1e6 / 8)
            trips = 2 * (workers - 1) * rtt * 1e-3
            print(
                f"{asked}  {pair.measured * 8e-6:6.1f}, {pair.measured_rtt_s * 1e3:6.2f} ms  "
                f"{ring.measured / ring.asked:6.3f}  {busy:6.2f}  {seconds:8.3f} s  "
                f"{seconds / wire:8.2f}  {seconds / (wire + trips):8.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
