"""The collective model in words: which algorithm, how many workers, bytes on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from sim.members import is_send
from sim.network.links import Links
from sim.network.nccl.scenario_links import carries
from sim.network.schedules import GLOO, NCCL, REQUANTIZED, form_of
from sim.program import DTYPE_BITS
from sim.records.connections import limits
from sim.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from sim.figures.traffic import Exchange
    from sim.records.scenario import Network, Scenario


# What measured all-reduces (validation/nccl) took, on its published latencies.
_NCCL_HOLDS_FROM = 512 * 2**20
_NCCL_OFF = ", up to a third off below 512 MiB and up to 80 % off below 64 MiB"
_NEAR_S = 1e-3  # of a path; from there on it is more than what cards add


def records(exchanges: Sequence[Exchange], scenario: Scenario) -> list[dict[str, Any]]:
    """Describe each kind of collective as JSON has it; bytes."""
    return [
        {
            "operation": kind.operation,
            "dtype": kind.dtype,
            "algorithm": _algorithm(kind, scenario),
            "workers": len(kind.members),
            "largest_buffer_bytes": kind.largest_bytes,
            "sent_bytes_per_worker": sum(kind.sent_bytes) / len(kind.sent_bytes),
            "most_sent_bytes_by_a_worker": max(kind.sent_bytes),
            "per_inner_step": kind.per_step,
            "time": _priced_by(scenario.network, kind),
        }
        for kind in exchanges
    ]


def in_words(exchanges: Sequence[Exchange], scenario: Scenario) -> str:
    """Describe each kind of collective in a sentence, one per line."""
    if not any(max(kind.sent_bytes) > 0 for kind in exchanges):
        return "One worker, or nothing to exchange: no collective goes on the wire."
    return "\n".join(_sentence(kind, scenario) for kind in exchanges)


def _sentence(kind: Exchange, scenario: Scenario) -> str:
    least, most = min(kind.sent_bytes), max(kind.sent_bytes)
    sent = format_bytes(most)
    if least < most * (1 - 1e-6):
        sent = f"{format_bytes(least)} to {sent}"
    more = ""
    if kind.per_step > 1.5:
        cost = Links(scenario).cost(kind.operation, kind.dtype, kind.smallest_bytes, kind.members)
        alone = cost.latency_s
        at_once = scenario.network.collectives.concurrent
        latency = kind.per_step * alone / at_once
        more = f"; {_number(kind.per_step)}"
        if latency > 0:
            together = f", {at_once} at a time" if at_once > 1 else ""
            more += (
                f", each with {format_seconds(alone)} of latency{together}: "
                f"{format_seconds(latency)} per inner step"
            )
    sites = len({scenario.workers[rank].site for rank in kind.members.ranks})
    unlimited = any(site.uplink == inf for site in scenario.sites)
    if "direct" in _algorithm(kind, scenario) and sites > 2 and unlimited:
        more += (
            f"; a site sends to {sites - 1} others at once, each at its pair's bandwidth: give "
            'uplink, or network.per = "site", where the site\'s own link is narrower'
        )
    if kind.dtype not in DTYPE_BITS:
        more += "; assumes that sums of compressed values keep their size"
    at_most = "" if kind.smallest_bytes == kind.largest_bytes else "at most "
    return (
        f"{kind.operation} ({kind.dtype}): {_algorithm(kind, scenario)} over "
        f"{_over(kind, scenario)} workers; buffers of {at_most}{format_bytes(kind.largest_bytes)}, "
        f"for which a worker puts {sent} on the wire; "
        f"{_priced_by(scenario.network, kind)}{more}."
    )


def _number(per_step: float) -> str:
    """Say how many there are in an inner step: a mean where they do not leave in every one."""
    if abs(per_step - round(per_step)) < 1e-6 * per_step:
        return f"{per_step:.0f} in an inner step"
    digits = 1 if per_step < 100 else 0
    return f"{per_step:.{digits}f} in an inner step on average"


def _over(kind: Exchange, scenario: Scenario) -> str:
    members, workers = len(kind.members), len(scenario.workers)
    return f"{members}" if members == workers else f"{members} of {workers}"


def _near(network: Network) -> bool:
    return max(map(max, network.latency), default=0.0) < _NEAR_S


def _algorithm(kind: Exchange, scenario: Scenario) -> str:
    if is_send(kind.operation):
        return "one transfer"
    asked = scenario.network.collectives.algorithm
    used = form_of(kind.operation, asked, kind.dtype)
    if asked == GLOO:
        return "gloo's direct exchange" if used == "direct" else f"gloo's {used}"
    if asked == NCCL and carries(kind.operation, kind.dtype):
        trees = " or double binary tree" if kind.operation == "all_reduce" else ""
        return f"NCCL's {used}{trees}"
    return used if asked in used or asked == REQUANTIZED else f"{used} ({asked} has no form for it)"


def _priced_by(network: Network, kind: Exchange) -> str:
    for table in network.collectives.tables:
        if (table.operation, table.dtype) == (kind.operation, kind.dtype):
            least, most = table.bytes[0], table.bytes[-1]
            if kind.smallest_bytes < least or kind.largest_bytes > most:
                measured = f"{format_bytes(least)} to {format_bytes(most)}"
                return f"time EXTRAPOLATED beyond the measured {measured}"
            if kind.members.name:
                return "time in proportion to measurements over all workers"
            return "time interpolated between measurements"
    over = "the links and connections between them" if limits(network) else "the links"
    if network.collectives.algorithm == GLOO:
        return f"time found by sending its messages over {over}"
    if network.collectives.algorithm == NCCL and carries(kind.operation, kind.dtype):
        off = _NCCL_OFF if _near(network) and kind.smallest_bytes < _NCCL_HOLDS_FROM else ""
        return f"time by NCCL's cost model over {over}{off}"
    return f"time computed from {over}"
