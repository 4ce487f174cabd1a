"""Cost tables that NCCL printed, and the same cells by its model: a part of ``benchmarks.nccl``.

Reads validation/nccl/sources.csv (what each table was printed on) and tables.csv (its cells).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sim.network.nccl.constants import NCCL_2_10, NCCL_2_18, NCCL_2_20, NCCL_2_29
from sim.network.nccl.costs import bandwidth_gbps, latency_us
from sim.network.nccl.fabric import Fabric

FOLDER = Path(__file__).parents[1] / "validation" / "nccl"
RELEASES = {"2.10": NCCL_2_10, "2.18": NCCL_2_18, "2.20": NCCL_2_20, "2.29": NCCL_2_29}


class Number(NamedTuple):
    """One number of a table."""

    printed: str
    computed: float

    @property
    def equal(self) -> bool:
        """Return whether the computed number rounds to the printed one."""
        decimals = len(self.printed.partition(".")[2])
        return abs(self.computed - float(self.printed)) <= 0.5 * 10**-decimals + 1e-9


class Cell(NamedTuple):
    """One cell of a table."""

    source: str
    operation: str
    algorithm: str
    protocol: str
    latency_us: Number
    #: None where the protocol or algorithm was not in use (printed as 0.0), or nothing is legible.
    bandwidth_gbps: Number | None


def read(name: str) -> list[dict[str, str]]:
    """Return the rows of a file of validation/nccl."""
    with (FOLDER / name).open(newline="") as file:
        return list(csv.DictReader(file))


def fabric(source: dict[str, str]) -> Fabric:
    """Return what a row of sources.csv describes."""
    return Fabric(
        nodes=int(source["nodes"]),
        per_node=int(source["per_node"]),
        bandwidth_gbps=float(source["bandwidth_gbps"]),
        tree_bandwidth_gbps=float(source["tree_bandwidth_gbps"]),
        channels=int(source["channels"]),
        balanced_trees=source["balanced_trees"] == "yes",
        inside=source["inside"],
        generation=source["generation"],
    )


def cells() -> Iterator[Cell]:
    """Compute every cell of every table."""
    sources = {row["source"]: row for row in read("sources.csv")}
    for row in read("tables.csv"):
        source = sources[row["source"]]
        where = (fabric(source), RELEASES[source["release"]])
        cell = (row["operation"], row["algorithm"], row["protocol"])
        bandwidth = row["algorithm_bandwidth_gbps"]
        yield Cell(
            row["source"],
            *cell,
            Number(row["latency_us"], latency_us(*cell, *where)),
            Number(bandwidth, bandwidth_gbps(*cell, *where)) if bandwidth else None,
        )


def section() -> list[str]:
    """Return the tables' part of the report, as lines of Markdown."""
    lines = [
        "## Cost tables that NCCL printed",
        "",
        "NCCL prints its costs when a program starts, with NCCL_DEBUG_SUBSYS=TUNING: latency in"
        " microseconds and bandwidth in GB/s, by operation, algorithm and protocol. Rings and"
        " trees are computed here by the constants of the table's release; no constant comes from"
        " a table. Equal means equal to the last digit printed. Where a bandwidth of the channels"
        " comes from a cell of the table (Simple of broadcasts, or of trees), that cell is an input"
        " and no check. Cells that NCCL printed with 0.0 GB/s (not in use) have their latency"
        " checked alone. Columns of CollNet and NVLS, and rows of reduces, are not in the model.",
        "",
        "| source | NCCL | ranks | latencies equal | bandwidths equal | inputs | missing |",
        "|---|---|---|---:|---:|---|---|",
    ]
    found = list(cells())
    for source in read("sources.csv"):
        own = [cell for cell in found if cell.source == source["source"]]
        carried = [cell.bandwidth_gbps for cell in own if cell.bandwidth_gbps]
        columns = (
            source["source"],
            source["release"],
            f"{source['nodes']} x {source['per_node']}: {source['hardware']}",
            f"{sum(cell.latency_us.equal for cell in own)} of {len(own)}",
            f"{sum(number.equal for number in carried)} of {len(carried)}",
            source["inputs"],
            source["missing"],
        )
        lines.append("| " + " | ".join(columns) + " |")
    return lines
