"""Bytes that leave each site: of collectives, what a member sends to members at other sites."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from sim.figures.evaluation import Figures
from sim.members import named
from sim.network.links import Links
from sim.records.scenario import Scenario
from sim.trace.table import Trace, share_key


def with_egress(found: Figures, trace: Trace, scenario: Scenario) -> Figures:
    """Return figures that hold the bytes leaving each site, in the evaluated rounds and in all.

    A collective is spread evenly over its time on the wire, as ``sent_bytes_per_worker`` has it.
    Every worker counts for itself: one whose rows are another's sends what its own place sends.
    """
    begins = trace.round_begins().max(axis=1, initial=0.0)
    begin, end = 0.0, trace.total_s
    if not found.whole_run:
        begin = float(begins[found.skipped_rounds])
        end = float(begins[found.skipped_rounds + found.window_rounds])
    links, workers = Links(scenario), len(scenario.workers)
    share: dict[tuple[int, str], NDArray[np.float64]] = {}
    window, simulated = np.zeros(len(scenario.sites)), np.zeros(len(scenario.sites))
    for row, start in trace.on_wire():
        key = (row.rank, share_key(row))
        if key not in share:
            members = named(row.group, workers)
            dtype = row.detail.rpartition(" ")[2]
            leaving = links.leaving_share(row.operation, dtype, members)
            place = {rank: at for at, rank in enumerate(members.ranks)}
            share[key] = np.zeros(len(scenario.sites))
            for rank in trace.context.standing_for[row.rank]:
                part = leaving[place.get(rank, place[row.rank])]
                share[key][scenario.workers[rank].site] += part
        sent = share[key] * row.bytes
        simulated += sent
        taken = row.end_s - start
        if taken > 0:
            window += sent * max(0.0, min(end, row.end_s) - max(begin, start)) / taken
        elif begin < start <= end or (begin == 0 and start == 0):
            window += sent
    # Where the links need longer than the simulated rounds took, all sent in them counts.
    if 0 < end - begin < found.wall_clock_s:
        window *= found.wall_clock_s / (end - begin)
    whole = simulated.copy()
    if found.extrapolated and found.window_rounds and isfinite(found.rounds):
        whole += window * (found.rounds - max(0, len(begins) - 1)) / found.window_rounds
    return replace(
        found,
        egress_bytes_by_site=tuple(window.tolist()),
        total_egress_bytes_by_site=tuple(whole.tolist()),
    )
