"""The fabric that the links of a scenario are to NCCL: a site is a node."""

from __future__ import annotations

from sim.members import is_send
from sim.network.nccl.choice import choose
from sim.network.nccl.fabric import Fabric
from sim.program import QUANTIZED

NVLINK_FROM = 100e9
"""Bytes/s inside a site from which hops are NVLink's; 16 lanes of PCIe 5 carry 63e9."""


def carries(operation: str, dtype: str) -> bool:
    """Whether NCCL's cost model knows a collective: no all-to-all, and no sum of int8 or fp4.

    What one worker sends to another is no collective: it takes that link alone.

    Examples
    --------
    >>> carries("all_reduce", "bf16"), carries("all_reduce", "fp4"), carries("all_gather", "fp4")
    (True, False, True)
    """
    if operation == "all_to_all" or is_send(operation):
        return False
    return dtype not in QUANTIZED or operation not in ("all_reduce", "reduce_scatter")


def fabric_of(
    workers_by_site: list[int],
    ring_s_per_byte: float,
    within_bandwidth: float,
    within_latency_s: float,
    between_latency_s: float,
) -> Fabric:
    """Return the fabric of some workers.

    Parameters
    ----------
    workers_by_site
        How many take part, for each site that has any.
    ring_s_per_byte
        Seconds per byte of the buffer of a ring's all-reduce over the scenario's links, without
        latencies: it has the slowest link, connections and what workers of a site share.
    within_bandwidth, within_latency_s
        Of the slowest of these sites that has several of them.
    between_latency_s
        Of the longest path in the ring of sites, one way.
    """
    ranks, nodes = sum(workers_by_site), len(workers_by_site)
    bus = 2 * (ranks - 1) / ranks / ring_s_per_byte if ring_s_per_byte > 0 else 1e30
    return Fabric(
        nodes,
        ranks // nodes,
        bus / 1e9,
        inside="nvlink" if within_bandwidth >= NVLINK_FROM else "pcie",
        inside_path_us=within_latency_s * 1e6,
        between_path_us=between_latency_s * 1e6,
        all_ranks=ranks,
    )


def seconds_of(operation: str, size: float, fabric: Fabric) -> float:
    """Return the time of a collective, a broadcast from any member included."""
    return choose(operation, size, fabric).seconds if size > 0 else 0.0
