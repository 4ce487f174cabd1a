"""Closed forms, each with its equation, its source and a number.

*Equal links* means: M workers on a switch, each with a port that sends and receives
``bandwidth`` bytes/s, every message ``latency`` seconds on its way. One site with
``within_bandwidth = bandwidth`` is such a network; so are M sites of one worker whose uplink
and downlink are ``bandwidth``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, log2

from sim.program import ArgumentError


def connection_rate(
    round_trip: float,
    *,
    window: float = inf,
    rate: float = inf,
    loss: float = 0.0,
    segment: float = 1460.0,
) -> float:
    """Bytes/s of one TCP connection: min(rate, window / RTT, (MSS / RTT) C / sqrt(p)).

    Parameters
    ----------
    round_trip
        RTT, seconds.
    window
        Bytes in flight.
    rate
        A cap, bytes/s.
    loss
        p, fraction of packets lost.
    segment
        MSS, bytes.

    Notes
    -----
    Mathis, Semke, Mahdavi and Ott 1997, "The macroscopic behavior of the TCP congestion avoidance
    algorithm", with C = sqrt(3/2): every segment is acknowledged.

    Examples
    --------
    >>> connection_rate(0.2, window=4e6)
    20000000.0
    >>> round(connection_rate(0.1, loss=1e-4))
    1788128
    """
    if round_trip == 0:
        return rate
    by_loss = segment * (1.5 / loss) ** 0.5 if loss > 0 else inf
    return min(rate, min(window, by_loss) / round_trip)


def windowed_ring_seconds(
    operation: str, workers: int, size: float, bandwidth: float, latency: float, in_flight: float
) -> float:
    """Seconds of a ring collective on equal links whose connections have a window.

    all_reduce: 2 (M-1) max(S 2 latency / (M W'), latency + S / (M W)), reduce_scatter and
    all_gather half of that: a sender that waits for acknowledgements has waited for the latency.

    Parameters
    ----------
    operation, workers, size, bandwidth, latency
        As for :func:`ring_seconds`.
    in_flight
        W', bytes that all connections of a pair have in flight.

    Examples
    --------
    4 GB between two sites 75 ms apart, 4 MB in flight: 1000 round trips of 150 ms.

    >>> round(windowed_ring_seconds("all_reduce", 2, 4e9, 1.25e9, 0.075, 4e6), 9)
    150.0
    """
    part = size / workers
    passes = _known({"all_reduce": 2, "reduce_scatter": 1, "all_gather": 1}, operation)
    one = max(part * 2 * latency / in_flight, latency + part / bandwidth)
    return passes * (workers - 1) * one


def ring_seconds(
    operation: str, workers: int, size: float, bandwidth: float, latency: float = 0.0
) -> float:
    """Seconds of a ring collective on equal links.

    all_reduce: 2 (M-1) (latency + S / (M W)); reduce_scatter and all_gather: half of that.

    Parameters
    ----------
    operation
        all_reduce, reduce_scatter or all_gather.
    workers
        M.
    size
        S, bytes of the whole buffer.
    bandwidth
        W, bytes/s.
    latency
        Seconds, one way.

    Notes
    -----
    Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms".

    Examples
    --------
    >>> round(ring_seconds("all_reduce", 4, 2e9, 1e9, latency=0.05), 9)
    3.3
    """
    passes = {"all_reduce": 2, "reduce_scatter": 1, "all_gather": 1}
    return _known(passes, operation) * (workers - 1) * (latency + size / (workers * bandwidth))


def direct_seconds(
    operation: str, workers: int, size: float, bandwidth: float, latency: float = 0.0
) -> float:
    """Seconds of a direct collective on equal links: everybody to everybody at once.

    reduce_scatter, all_gather, all_to_all: latency + (1 - 1/M) S / W; all_reduce twice that;
    broadcast (rank 0 to all): latency + (M-1) S / W. S (``size``) in bytes, W (``bandwidth``)
    in bytes/s, ``latency`` in seconds.

    Examples
    --------
    >>> direct_seconds("all_reduce", 4, 2e9, 1e9, latency=0.05)
    3.1
    """
    rounds = {
        "all_reduce": 2,
        "reduce_scatter": 1,
        "all_gather": 1,
        "all_to_all": 1,
        "broadcast": 1,
    }
    count = _known(rounds, operation)
    if workers == 1:
        return 0.0
    part = size if operation == "broadcast" else size / workers
    return count * (latency + (workers - 1) * part / bandwidth)


def halving_doubling_seconds(
    operation: str, workers: int, size: float, bandwidth: float, latency: float = 0.0
) -> float:
    """Seconds of recursive halving and doubling on equal links.

    With p the largest power of two <= M: reduce_scatter and all_gather take
    log2(p) latency + (1 - 1/p) S / W, all_reduce both. Where M > p, all_reduce sends the surplus
    workers' buffers before and returns the result after, each latency + S / W. S (``size``) in
    bytes, W (``bandwidth``) in bytes/s, ``latency`` in seconds.

    Raises
    ------
    ValueError
        For reduce_scatter and all_gather if M is not a power of two: workers without a surplus
        partner start early, and the longest path has no short form.

    Notes
    -----
    Thakur, Rabenseifner and Gropp 2005, "Optimization of collective communication operations
    in MPICH".

    Examples
    --------
    >>> halving_doubling_seconds("all_reduce", 4, 2e9, 1e9, latency=0.05)
    3.2
    >>> round(halving_doubling_seconds("all_reduce", 5, 2e9, 1e9, latency=0.05), 9)
    7.3
    """
    passes = {"all_reduce": 2, "reduce_scatter": 1, "all_gather": 1}
    power = 1 << (workers.bit_length() - 1)
    if workers > power and operation in ("reduce_scatter", "all_gather"):
        raise ValueError(f"workers = {workers}: {operation}'s closed form needs a power of two")
    one_pass = log2(power) * latency + (power - 1) * size / (power * bandwidth)
    surplus = 2 * (latency + size / bandwidth) if workers > power else 0.0
    return _known(passes, operation) * one_pass + surplus


def tree_seconds(
    operation: str, workers: int, size: float, bandwidth: float, latency: float = 0.0
) -> float:
    """Seconds of a binomial tree on equal links, M a power of two.

    broadcast: log2(M) (latency + S / W); all_reduce (reduce to rank 0, broadcast): twice that.
    S (``size``) in bytes, W (``bandwidth``) in bytes/s, ``latency`` in seconds.

    Raises
    ------
    ValueError
        If M is not a power of two: branches then have unequal depth, and the longest path
        through them has no short form.

    Notes
    -----
    Thakur, Rabenseifner and Gropp 2005, "Optimization of collective communication operations
    in MPICH".

    Examples
    --------
    >>> tree_seconds("all_reduce", 4, 2e9, 1e9, latency=0.05)
    8.2
    """
    if workers & (workers - 1):
        raise ValueError(f"workers = {workers}: the tree's closed form needs a power of two")
    passes = {"all_reduce": 2, "broadcast": 1}
    return _known(passes, operation) * log2(workers) * (latency + size / bandwidth)


def hierarchical_seconds(
    sites: int,
    per_site: int,
    size: float,
    uplink: float,
    latency: float,
    within_bandwidth: float,
    within_latency: float,
) -> float:
    """Seconds of a hierarchical all-reduce over equal sites.

    2 (n-1) (l + S / (n w)) + 2 (s-1) (latency + S / (s W)): a ring reduce-scatter and all-gather
    inside each of s sites of n workers, and n rings over the sites that share each uplink.

    Parameters
    ----------
    sites, per_site
        s and n.
    size
        S, bytes.
    uplink
        W, bytes/s that leave or enter one site.
    latency
        Seconds between sites.
    within_bandwidth, within_latency
        w in bytes/s and l in seconds inside a site.

    Notes
    -----
    The two-level scheme of Jia et al. 2018, arXiv:1807.11205, with the middle step sharded.

    Examples
    --------
    >>> round(hierarchical_seconds(2, 4, 2e9, 1e9, 0.05, 100e9, 0.0), 9)
    2.13
    """
    inside = 2 * (per_site - 1) * (within_latency + size / (per_site * within_bandwidth))
    between = 2 * (sites - 1) * (latency + size / (sites * uplink))
    return inside + between


def all_reduce_lower_bound(workers: int, size: float, bandwidth: float) -> float:
    """Seconds that no all-reduce on equal links can go below: 2 (1 - 1/M) S / W.

    ``size`` S in bytes, ``bandwidth`` W in bytes/s.

    Notes
    -----
    Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms", theorem 1.

    Examples
    --------
    >>> all_reduce_lower_bound(4, 2e9, 1e9)
    3.0
    """
    return 2 * (workers - 1) * size / (workers * bandwidth)


def step_seconds(
    active_parameters: float, tokens: float, chips: float, peak_flops: float, utilization: float
) -> float:
    """Seconds of one inner step: T = 6 N_active D / (chips peak MFU).

    Parameters
    ----------
    active_parameters
        N_active, parameters that one token computes with.
    tokens
        D, tokens of one worker's step.
    chips, peak_flops, utilization
        Accelerators of one worker, FLOP/s of each, and the fraction of it reached (MFU).

    Notes
    -----
    Kaplan et al. 2020, arXiv:2001.08361: 6 FLOP per parameter and token, forward 2, backward 4.

    Examples
    --------
    >>> round(step_seconds(1e9, 500_000, 16, 989e12, 0.4), 4)
    0.474
    """
    return 6 * active_parameters * tokens / (chips * peak_flops * utilization)


def blocking_utilization(compute_s: float, communication_s: float) -> float:
    """Compute utilization of a method that does one thing at a time: C / (C + X).

    ``compute_s`` C and ``communication_s`` X: seconds per round of equal workers. C = T for ddp
    without overlap, H T for DiLoCo and local SGD.

    Examples
    --------
    >>> blocking_utilization(10.0, ring_seconds("all_reduce", 2, 2e9, 0.2e9))
    0.5
    """
    return compute_s / (compute_s + communication_s)


def utilization_bounds(compute_s: float, communication_s: float) -> tuple[float, float]:
    """Least and greatest compute utilization of a round, whatever is overlapped.

    C / (C + X) where nothing overlaps, min(1, C / X) where all does: one worker's device
    computes C seconds and one network is in use X seconds per round.

    Examples
    --------
    >>> utilization_bounds(4.0, 5.0)
    (0.4444444444444444, 0.8)
    """
    overlapped = min(1.0, compute_s / communication_s) if communication_s else 1.0
    return blocking_utilization(compute_s, communication_s), overlapped


def straggler_utilization(step_s: Sequence[float]) -> float:
    """Compute utilization of workers that wait for the slowest: mean(T_m) / max(T_m).

    ``step_s``: seconds per step of each worker. Communication takes no time.

    Notes
    -----
    Nabli et al. 2024, arXiv:2406.02613: under DDP a worker 4x slower leaves each of its three
    peers idle three quarters of the time.

    Examples
    --------
    >>> straggler_utilization([1, 1, 1, 4])
    0.4375
    """
    return sum(step_s) / (len(step_s) * max(step_s))


def required_bandwidth(
    utilization: float,
    workers: int,
    size: float,
    step_s: float,
    sync_every: int = 1,
    latency: float = 0.0,
) -> float:
    """Bytes/s per link at which a blocking method reaches a compute utilization.

    W = 2 (1 - 1/M) S / (H T (1/CU - 1) - 2 (M-1) latency), from CU = H T / (H T + D) with the
    ring's D. ddp without overlap: H = 1; DiLoCo and local SGD: H = ``sync_every``.

    Parameters
    ----------
    utilization
        CU, 0 < CU < 1.
    workers
        M.
    size
        S, bytes reduced each round.
    step_s
        T, seconds of one inner step.
    sync_every
        H.
    latency
        Seconds, one way.

    Returns
    -------
    float
        W; infinite where latency alone takes longer than CU allows.

    Notes
    -----
    Douillard et al. 2025, arXiv:2501.18512, Table 4: 1B parameters, DiLoCo, 50 %: 1.4 Gbit/s
    (printed one point of a logarithmic grid below the first that is enough).

    Examples
    --------
    >>> required_bandwidth(0.5, 2, 2e9, 0.1, sync_every=100) * 8 / 1e9
    1.6
    """
    transmission = sync_every * step_s * (1 / utilization - 1) - 2 * (workers - 1) * latency
    if transmission <= 0:
        return float("inf")
    return 2 * (workers - 1) * size / (workers * transmission)


def memory_bytes(method: str, parameters: float, workers: int = 1, optimizer: float = 12) -> float:
    """Bytes of weights, gradients and optimizer state on one worker (bf16 weights, gradients).

    ddp (2 + 2 + K) Psi; zero1 (2 + 2 + K/M) Psi; diloco (2 + 2 + 2 x 2 + K) Psi; acco, dpu and wp
    (2 + 2 + 2 + K/M) Psi.

    Parameters
    ----------
    method
        ddp, zero1, diloco, acco, dpu or wp.
    parameters
        Psi.
    workers
        M, over whom the optimizer is sharded.
    optimizer
        K, bytes of optimizer state per parameter: fp32 master copy and two Adam moments.

    Notes
    -----
    Nabli et al. 2024, "ACCO", arXiv:2406.02613, Table 1.

    Examples
    --------
    >>> [round(memory_bytes(m, 7.5e9, 64) / 1e9) for m in ("ddp", "zero1", "diloco", "acco")]
    [120, 31, 150, 46]
    """
    sharded = optimizer / workers
    per_parameter = {"ddp": 4 + optimizer, "zero1": 4 + sharded, "diloco": 8 + optimizer}
    per_parameter |= dict.fromkeys(("acco", "dpu", "wp"), 6 + sharded)
    return _known(per_parameter, method) * parameters


def _known(table: dict[str, int] | dict[str, float], key: str) -> float:
    if key not in table:
        raise ArgumentError(f"{key!r} has no closed form here; there are {', '.join(table)}")
    return table[key]
