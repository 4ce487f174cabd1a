"""All-reduces among four ranks, one with a slow link: which message is first is random.

    .venv-test/bin/python benchmarks/ties.py
    sudo .venv-test/bin/python benchmarks/ties.py --measure new.csv

A round trip of 80 ms, 80 Mbit/s between any two, 20 Mbit/s for all that one of them sends and
for all that it receives; 2.2 MB of bf16, one all-reduce after the other, each rank as soon as
it has its result and has paused. All-reduces differ by whole round trips, according to whether
a recv-ready notification or the data next to it is first on the slow link. Printed is how often
that was so, in benchmarks/gloo/ties.csv and in the model.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from time import monotonic, sleep

from sim.clock import Clock
from sim.network.gloo import part
from sim.network.links import Links
from sim.network.message_links import Connections
from sim.network.messages import ends
from sim.records.scenario import HostCosts
from sim.scenario import Scenario, load

MEASURED = Path(__file__).parent / "gloo" / "ties.csv"
SLOW = 1  # its rank
RTT_S = 0.08
BYTES = 2_198_272
PAUSE_S = 0.04
TIMES = 60
SKIPPED = 2  # until ranks have found their places
HOST = HostCosts(message_s=3e-4, byte_s=1e-10)
Times = list[list[float]]
"""By all-reduce and rank, seconds from the first rank's call to this one's result."""


@cache
def scenario() -> Scenario:
    settings = ["site.count=4", "network.bandwidth=80 Mbit/s", f"network.rtt={RTT_S} s"]
    slow = [f"site.site-{SLOW + 1}.{way}=20 Mbit/s" for way in ("uplink", "downlink")]
    found = load("quick_start", {}, [*settings, *slow])
    collectives = replace(found.network.collectives, algorithm="gloo", host=HOST)
    return replace(found, network=replace(found.network, collectives=collectives))


def predicted(replication: int = 0) -> Times:
    """What the model predicts for that many all-reduces."""
    clock = Clock()
    links = Links(replace(scenario(), replication=replication)).message_links(clock)
    connections, called = Connections(links, 4), [0.0] * 4
    found: Times = []
    for _ in range(TIMES + SKIPPED):
        ended = [0.0] * 4
        for end in ends(connections):

            def note(rank: int = end.rank, ended: list[float] = ended) -> None:
                ended[rank] = clock.now

            before_s = called[end.rank] - clock.now + links.waking_s() / 2
            end.run(part(end, "all_reduce", "bf16", BYTES, before_s=before_s), note)
        clock.run()
        found.append([at - min(called) for at in ended])
        # The next has its own clock: nothing of this one is under way any more.
        called = [clock.now + at - min(ended) for at in ended]
    return found[SKIPPED:]


def measured() -> Times:
    """Carry them out in a lab."""
    from ranks import said_by_ranks

    from realrun.lab import built, topology

    with built(topology(scenario())) as lab:
        said = said_by_ranks(lab, [__file__, "--worker"])
    found = []
    for calls in zip(*said, strict=True):
        first = min(begin for begin, _ in calls)
        found.append([end - first for _, end in calls])
    return found[SKIPPED:]


def worker() -> None:
    """Be one rank: print when every all-reduce began and ended; namespaces share one clock."""
    import torch
    import torch.distributed as dist

    from realrun.communication.connections import fresh_group

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    group = fresh_group(timedelta(minutes=1))
    values = torch.zeros(BYTES // 2, dtype=torch.bfloat16)
    found = []
    for _ in range(TIMES + SKIPPED):
        sleep(PAUSE_S)
        begin = monotonic()
        dist.all_reduce(values, group=group)
        found.append((begin, monotonic()))
    dist.barrier()
    print(json.dumps(found))
    dist.destroy_process_group()


def later(times: Times) -> Counter[int]:
    """How many all-reduces took how many round trips longer than the shortest."""
    shortest = min(min(each) for each in times)
    return Counter(round((min(each) - shortest) / RTT_S) for each in times)


def read(path: Path) -> Times:
    with path.open() as file:
        return [[float(row[f"rank_{rank}_s"]) for rank in range(4)] for row in csv.DictReader(file)]


def write(times: Times, path: Path) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow([f"rank_{rank}_s" for rank in range(4)])
        rows.writerows([f"{at:.4f}" for at in each] for each in times)


def told(name: str, times: Times) -> str:
    shortest = min(times, key=min)
    shares = ", ".join(
        f"{number} round trips later {count / len(times):.0%}"
        for number, count in sorted(later(times).items())
    )
    return f"{name}: shortest {[f'{1e3 * at:.0f}' for at in shortest]} ms by rank; {shares}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--measure", type=Path, metavar="FILE")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker()
        return
    if given.measure:
        write(measured(), given.measure)
    print(told("measured", read(given.measure or MEASURED)))
    print(told("model", [each for number in range(10) for each in predicted(number)]))


if __name__ == "__main__":
    main()
