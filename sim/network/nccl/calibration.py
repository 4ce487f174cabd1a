"""A fabric whose bandwidth, or bandwidth and latency, come from measured all-reduces.

What is fitted is the model with its own choice: the algorithm and protocol of a measured row are
not assumed, but those that :func:`sim.network.nccl.choice.choose` takes on the fitted fabric.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import sqrt

from sim.network.nccl.choice import choose
from sim.network.nccl.constants import NCCL_2_29, Constants
from sim.network.nccl.fabric import Fabric

Row = tuple[float, float]
"""Bytes of a buffer, and the measured seconds of an all-reduce of it."""


def _seconds(size: float, fabric: Fabric, constants: Constants) -> float:
    return choose("all_reduce", size, fabric, constants).seconds


def _halved(too_low: Callable[[float], bool], low: float, high: float) -> float:
    """Bisect on a logarithmic scale, to the precision of a float."""
    for _ in range(100):
        middle = sqrt(low * high)
        low, high = (middle, high) if too_low(middle) else (low, middle)
    return sqrt(low * high)


def with_bandwidth(fabric: Fabric, row: Row, constants: Constants = NCCL_2_29) -> Fabric:
    """Return the fabric on which an all-reduce takes the measured time of one row.

    Latencies stay the published ones, times ``fabric.latency_factor``. Trees have the bandwidth
    of rings.

    Raises
    ------
    ValueError
        No bandwidth from 1 kB/s to 1 PB/s gives that time: mostly, the latencies alone are longer.
    """
    size, measured = row
    lowest, highest = 1e-6, 1e6

    def at(bandwidth: float) -> Fabric:
        return replace(fabric, bandwidth_gbps=bandwidth, tree_bandwidth_gbps=None)

    slowest = _seconds(size, at(lowest), constants)
    fastest = _seconds(size, at(highest), constants)
    if not fastest < measured < slowest:
        raise ValueError(
            f"{size:g} bytes in {measured:g} s: the model takes {fastest:g} s to {slowest:g} s"
        )
    return at(_halved(lambda b: _seconds(size, at(b), constants) > measured, lowest, highest))


def with_bandwidth_and_latency(
    fabric: Fabric, small: Row, large: Row, constants: Constants = NCCL_2_29
) -> Fabric:
    """Return the fabric on which all-reduces take the measured times of two rows.

    All latencies are multiplied by the same factor.

    Raises
    ------
    ValueError
        The rows are not in order of size, or no factor from 0.01 to 100 gives both times.
    """
    if not (small[0] < large[0] and small[1] < large[1]):
        raise ValueError("the second row must have more bytes and take longer than the first")

    def at(factor: float) -> Fabric:
        return with_bandwidth(replace(fabric, latency_factor=factor), large, constants)

    def too_short(factor: float) -> bool:
        try:
            return _seconds(small[0], at(factor), constants) < small[1]
        except ValueError:  # the latencies alone are longer than the large row
            return False

    lowest, highest = 0.01, 100.0
    if not too_short(lowest) or too_short(highest):
        raise ValueError(
            f"{small[0]:g} bytes in {small[1]:g} s: no factor on the latencies from {lowest:g} to "
            f"{highest:g} gives that and {large[1]:g} s for {large[0]:g} bytes"
        )
    return at(_halved(too_short, lowest, highest))
