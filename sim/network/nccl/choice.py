"""The fastest pair of algorithm and protocol, and its time: how NCCL chooses.

Source: ``ncclTopoGetAlgoTime`` in ``src/graph/tuning.cc`` of github.com/NVIDIA/nccl.
"""

from __future__ import annotations

from dataclasses import replace
from math import floor, log2
from typing import NamedTuple

from sim.network.nccl.constants import NCCL_2_29, Constants
from sim.network.nccl.costs import algorithms, bandwidth_gbps, latency_us, path_us
from sim.network.nccl.fabric import Fabric


class Choice(NamedTuple):
    """What carries a collective, and for how long."""

    #: "tree", "ring", or "none" for one rank.
    algorithm: str
    #: "LL", "LL128" or "Simple", or "none" for one rank.
    protocol: str
    #: Its time, of a collective that has the links alone.
    seconds: float


def seconds(
    operation: str,
    algorithm: str,
    protocol: str,
    size: float,
    fabric: Fabric,
    constants: Constants = NCCL_2_29,
) -> float:
    """Return the time of a collective by one algorithm and protocol.

    Parameters
    ----------
    operation, algorithm, protocol
        See :func:`sim.network.nccl.costs.latency_us`.
    size
        Bytes of the whole buffer: of an all-gather the output, of a reduce-scatter the input.
    fabric, constants
        Where it runs, and by which release.

    Examples
    --------
    256 bytes over three nodes of eight H100: NCCL printed 25.229528 microseconds.

    >>> fabric = Fabric(nodes=3, per_node=8, bandwidth_gbps=192.0)
    >>> round(1e6 * seconds("all_reduce", "tree", "LL", 256, fabric), 3)
    25.23
    """
    latency = latency_us(operation, algorithm, protocol, fabric, constants)
    bandwidth = bandwidth_gbps(operation, algorithm, protocol, fabric, constants)
    if algorithm == "tree":
        factors = constants.tree_correction[protocol]
        power = max(0, floor(log2(size / 64))) if size >= 64 else 0
        bandwidth *= factors[power] if power < len(factors) else 1.0
    crosses = algorithm == "ring" and operation == "all_reduce" and fabric.nodes > 1
    if crosses and protocol == "Simple" and size >= 64 * fabric.channels * fabric.ranks:
        latency *= constants.plateau[fabric.generation == "volta"]
    latency += path_us(operation, algorithm, fabric)
    return latency / 1e6 + size / (1e9 * bandwidth)


def choose(operation: str, size: float, fabric: Fabric, constants: Constants = NCCL_2_29) -> Choice:
    """Return what NCCL takes for the fastest, for a buffer of ``size`` bytes, and its time.

    Parameters are those of :func:`seconds`. One rank has nothing to send and takes no time.

    Examples
    --------
    >>> fabric = Fabric(nodes=4, per_node=8, bandwidth_gbps=380.0)
    >>> choose("all_reduce", 1024, fabric)[:2], choose("all_reduce", 2**33, fabric)[:2]
    (('tree', 'LL'), ('ring', 'Simple'))
    """
    names = algorithms(operation)
    if fabric.ranks == 1:
        return Choice("none", "none", 0.0)
    # NCCL chooses before it has sent anything: it does not know the latency of a path.
    known = replace(fabric, inside_path_us=0.0, between_path_us=0.0)
    algorithm, protocol = min(
        ((a, p) for a in names for p in fabric.protocols),
        key=lambda pair: seconds(operation, pair[0], pair[1], size, known, constants),
    )
    taken = seconds(operation, algorithm, protocol, size, fabric, constants)
    return Choice(algorithm, protocol, taken)
