"""Latency and bandwidth of each algorithm and protocol of NCCL.

    time = latency + bytes / bandwidth

Source: ``ncclTopoTuneModel`` in ``src/graph/tuning.cc`` of github.com/NVIDIA/nccl. Trees are
double binary trees over nodes and chains inside them; rings are flat and pass every node once.
"""

from __future__ import annotations

from sim.network.nccl.constants import (
    LL_MOST,
    LL_MOST_BY_VENDOR,
    NETWORK_OVERHEAD_US,
    PROTOCOLS,
    RING_LL128_MOST,
    TREE_LL128_MOST,
    TREE_MOST,
    Constants,
)
from sim.network.nccl.fabric import Fabric

OPERATIONS = ("all_reduce", "reduce_scatter", "all_gather", "broadcast")


def algorithms(operation: str) -> tuple[str, ...]:
    """Return the algorithms that NCCL has for an operation: trees are for all-reduces alone.

    Examples
    --------
    >>> algorithms("all_reduce"), algorithms("all_gather")
    (('tree', 'ring'), ('ring',))
    """
    if operation not in OPERATIONS:
        raise ValueError(f"operation = {operation!r}: one of {', '.join(OPERATIONS)}")
    return ("tree", "ring") if operation == "all_reduce" else ("ring",)


def steps(operation: str, ranks: int) -> int:
    """Return the hops of a ring one after another: 2(n - 1), n - 1, or n for a broadcast."""
    if operation == "broadcast":
        return ranks
    return (2 if operation == "all_reduce" else 1) * (ranks - 1)


def path_us(operation: str, algorithm: str, fabric: Fabric) -> float:
    """Return the latency of the paths that lie behind each other, in microseconds.

    It is that of the first byte: a broadcast passes all ranks, an all-reduce passes them twice.
    """
    if algorithm == "tree":
        inside = 2 * (fabric.per_node - 1)
        between = 2 * (fabric.nodes.bit_length() - 1)
    else:
        passes = 2 if operation == "all_reduce" else 1
        between = passes * (fabric.nodes - 1)
        inside = passes * (fabric.ranks - 1) - between
    return inside * fabric.inside_path_us + between * fabric.between_path_us


def latency_us(
    operation: str, algorithm: str, protocol: str, fabric: Fabric, constants: Constants
) -> float:
    """Return the published latency: the time of a collective without bytes, but for its paths.

    Parameters
    ----------
    operation, algorithm, protocol
        One of ``OPERATIONS``, of :func:`algorithms` and of ``PROTOCOLS``.
    fabric, constants
        Where it runs, and by which release.

    Returns
    -------
    float
        Microseconds.
    """
    which = PROTOCOLS.index(protocol)
    base = constants.base_us[algorithm][which]
    inside = constants.hop_us[fabric.inside][algorithm][which]
    alone = fabric.per_node == 1 and constants.tree_hops_if_one_per_node
    if algorithm == "ring" and alone and operation != "broadcast":
        between = constants.hop_us["network"]["tree"][which]
    else:
        between = constants.hop_us["network"][algorithm][which]
    between += fabric.card_us * (2 if protocol == "Simple" else 1)
    if fabric.nodes > 1 and protocol == "LL":
        inside *= constants.ll_inside_factor
    if algorithm == "tree":
        depth = fabric.nodes.bit_length() - 1
        hops = 2 * ((fabric.per_node - 1) * inside + depth * between)
        return fabric.latency_factor * (base + hops)
    if operation == "broadcast":
        # All ranks are on one chain and chunks follow each other: one hop is what is waited for.
        return fabric.latency_factor * (base + (between if fabric.nodes > 1 else inside))
    if fabric.nodes > 1 and constants.network_overhead:
        overhead = NETWORK_OVERHEAD_US[fabric.vendor] * (3 if protocol == "Simple" else 1)
        inside = max(inside, overhead)
    crossing = steps(operation, fabric.nodes)
    if operation == "all_reduce" and fabric.nodes > 1 and constants.all_reduce_crosses_twice_n:
        crossing = 2 * fabric.nodes
    hops = (steps(operation, fabric.ranks) - crossing) * inside + crossing * between
    return fabric.latency_factor * (base + hops)


def bandwidth_gbps(
    operation: str, algorithm: str, protocol: str, fabric: Fabric, constants: Constants
) -> float:
    """Return the algorithm bandwidth: bytes of the buffer per second, in GB/s.

    Parameters are those of :func:`latency_us`. The correction of trees at middle sizes is not in
    it: :func:`sim.network.nccl.choice.seconds` has it.
    """
    size = min(fabric.nodes, 3) - 1
    generation, channels = fabric.generation, fabric.channels
    ll_most = LL_MOST[generation] if fabric.nodes == 1 else LL_MOST_BY_VENDOR[fabric.vendor]
    if algorithm == "ring":
        bus = fabric.bandwidth_gbps
        if protocol == "LL":
            share = constants.ring_ll_share
            if fabric.nodes == 1 and operation != "all_reduce":
                share = constants.ring_ll_share_on_one_node
            bus = min(ll_most[size], bus * share)
        elif protocol == "LL128":
            share = 0.92  # 120 of 128 bytes, rounded down
            if fabric.per_node < 2:
                share = constants.ring_ll128_share_if_one_per_node
            bus = min(bus * share, channels * RING_LL128_MOST[generation][size])
        return bus * fabric.ranks / steps(operation, fabric.ranks)
    bus = fabric.tree_bandwidth_gbps or fabric.bandwidth_gbps
    bus = min(bus * constants.tree_share, channels * TREE_MOST[generation][size])
    if protocol == "LL":
        bus = min(bus / 3.8, ll_most[size])
    elif protocol == "LL128":
        share = 7 / 9 if fabric.nodes == 1 else 120 / 128
        bus = min(bus * share, channels * TREE_LL128_MOST[generation][size])
    return bus * (1.0 if fabric.balanced_trees else constants.tree_pattern_share) / 2
