"""Where the time goes and what was trained, of large runs whose rows are kept as columns.

The same sums as in :mod:`sim.figures.breakdown` and :mod:`sim.figures.evaluation`, in the same
order, for all workers at once. They hold for programs of one kind: one program per worker, which
neither spawns another nor looks at the clock, and waits for one thing at a time. Of others a row
is made of every place in the columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from sim.figures.causes import CAUSES
from sim.recording.vocabulary import COMPUTATION
from sim.trace.layers import read_layers
from sim.trace.packed import PackedRows
from sim.trace.table import LOOK, ROUND, SPAWN, WAIT, Trace

_MOST_LAYERS = 2.0**52  # counted exactly as floating-point numbers


def plain(trace: Trace) -> PackedRows | None:
    """Return the packed rows of a trace for which the sums of this module hold."""
    packed = trace.packed
    if packed is None or not len(packed) or trace.context.measured:
        return None
    if packed.occurring("program") != {"main"} or trace.operations & {SPAWN, LOOK, "hand_over"}:
        return None
    waits = packed.columns["operation"] == packed.number(WAIT)
    ranks = packed.columns["rank"]
    several = waits[1:] & waits[:-1] & (ranks[1:] == ranks[:-1])
    return None if several.any() else packed


class Split:
    """The rows of a plain trace, to be split by cause over any interval.

    Parameters
    ----------
    trace
        What :func:`plain` has not refused.
    setup
        From when to when each group sets up, in seconds.
    """

    def __init__(self, trace: Trace, setup: Mapping[str, tuple[float, float]]) -> None:
        packed = trace.packed
        assert packed is not None
        columns = packed.columns
        self._ranks = list(trace.context.standing_for)
        workers = len(self._ranks)
        operation, ended = columns["operation"], columns["end_s"]
        waits = operation == packed.number(WAIT)
        computed = ~waits & (columns["call"] < 0)
        #: Of each rank, when the last of its rows ended.
        self._ends = np.zeros(workers)
        busy = np.where(computed, ended, 0.0)
        place = np.zeros(len(ended), dtype=np.int32)
        for number, rank in enumerate(self._ranks):
            own = packed.bounds(rank)
            place[own] = number
            self._ends[number] = np.fmax.reduce(ended[own], initial=0.0)
            # Blocked or not, the time in which its queue is busy is the computation's.
            np.maximum.accumulate(busy[own], out=busy[own])
        self._wait_of = place[waits]
        self._wait_from = np.maximum(columns["begin_s"][waits], busy[waits])
        self._wait_to = ended[waits]
        self._wait_ready = columns["ready_s"][waits]
        groups = columns["group"][waits]
        del busy
        begins, lasts = np.full(len(packed.texts), np.inf), np.full(len(packed.texts), np.inf)
        for group, (begin, end) in setup.items():
            begins[packed.number(group)], lasts[packed.number(group)] = begin, end
        self._setup_from, self._setup_to = begins[groups], lasts[groups]
        takes = computed & (ended > columns["begin_s"])
        self._from, self._to = columns["begin_s"][takes], ended[takes]
        whole, work = self._to - self._from, columns["work_s"][takes]
        self._share = np.where(work == work, np.minimum(work / whole, 1.0), 1.0)
        cause_of = np.zeros(len(packed.texts), dtype=np.int64)
        for text in packed.occurring("operation"):
            cause_of[packed.number(text)] = CAUSES.index(trace.context.cause_of(text))
        self._place = place[takes].astype(np.int64)
        self._bin = self._place * len(CAUSES) + cause_of[operation[takes]]

    def between(self, begin: float, end: float) -> dict[int, dict[str, float]]:
        """Fractions of the time from ``begin`` to ``end`` (seconds), by simulated rank."""
        workers, length = len(self._ranks), end - begin
        inside = (self._to > begin) & (self._from < end)
        taken = np.minimum(self._to[inside], end) - np.maximum(self._from[inside], begin)
        share = self._share[inside]
        # Sums go row by row in each bin, as a loop over the rows of one worker does.
        spent: NDArray[np.float64] = np.zeros((workers, len(CAUSES)))
        spent += np.bincount(self._bin[inside], taken * share, spent.size).reshape(spent.shape)
        by_cause: dict[str, NDArray[np.float64]] = dict(zip(CAUSES, spent.T, strict=True))
        slowed = share < 1
        by_cause["contention"] = by_cause["contention"] + np.bincount(
            self._place[inside][slowed], taken[slowed] * (1 - share[slowed]), workers
        )
        self._blocked(begin, end, by_cause)
        by_cause["waiting"] = by_cause["waiting"] + np.maximum(
            0.0, end - np.maximum(begin, self._ends)
        )
        total = np.zeros(workers)
        for cause in CAUSES:
            total = total + by_cause[cause]
        rest = length - total
        by_cause["other"] = by_cause["other"] + np.where(np.abs(rest) > 1e-9 * length, rest, 0.0)
        fractions = np.stack([by_cause[cause] / length for cause in CAUSES], axis=1).tolist()
        return {
            rank: dict(zip(CAUSES, own, strict=True))
            for rank, own in zip(self._ranks, fractions, strict=True)
        }

    def _blocked(self, begin: float, end: float, spent: dict[str, NDArray[np.float64]]) -> None:
        """Split the waits: until the last member arrived, setting up, and the rest."""
        start, stop = np.maximum(self._wait_from, begin), np.minimum(self._wait_to, end)
        inside = (self._wait_to > begin) & (self._wait_from < end) & (stop > start)
        start, stop, of = start[inside], stop[inside], self._wait_of[inside]
        arrived = np.minimum(np.maximum(self._wait_ready[inside], start), stop)
        setup = np.maximum(
            0.0,
            np.minimum(stop, self._setup_to[inside])
            - np.maximum(arrived, self._setup_from[inside]),
        )
        for cause, seconds in (
            ("waiting", arrived - start),
            ("setup", setup),
            ("exposed_communication", stop - arrived - setup),
        ):
            spent[cause] = spent[cause] + np.bincount(of, seconds, len(self._ranks))


def trained(
    trace: Trace, first: int, last: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float, float] | None:
    """Count layers trained by rank, and layers committed by all: in rounds first .. last - 1, all.

    Returns
    -------
    window, total
        Micro-batches times layers of each simulated rank, in the order of ``standing_for``.
    committed, all_committed
        Layers times workers; nan where the program declares none.

        None where the rows are to be counted one by one.
    """
    packed = plain(trace)
    if packed is None or COMPUTATION in trace.operations:
        return None
    columns, context = packed.columns, trace.context
    operation, times = columns["operation"], columns["times"]
    if times.dtype == object:
        return None
    layers = np.full(len(packed.texts), float(context.layers))
    for number in np.unique(columns["detail"][columns["call"] < 0]).tolist():
        with suppress(ValueError):  # a detail that names no layers
            layers[number] = len(read_layers(packed.texts[number]))
    of_detail = layers[columns["detail"]]
    per_time = np.zeros(len(packed.texts))
    for text in {"accumulate", "inner_step"} & trace.operations:
        per_time[packed.number(text)] = context.layers
    counts = times * per_time[operation]
    backward = operation == packed.number("backward")
    counts[backward] = (times * of_detail)[backward]
    steps = operation == packed.number("inner_step")
    commits = columns["commits"] & (columns["call"] < 0)
    committed = np.where(commits, times * of_detail, 0.0)
    rounds = (operation == packed.number(ROUND)).astype(np.int64)
    workers = len(context.standing_for)
    window, total = np.zeros(workers), np.zeros(workers)
    inside_all, all_committed = 0.0, 0.0
    for place, (rank, ranks) in enumerate(context.standing_for.items()):
        own = packed.bounds(rank)
        at = np.cumsum(rounds[own]) - 1
        inside = (first <= at) & (at < last)
        mine = np.where(steps[own], counts[own] * context.n_grad_accumulation[rank], counts[own])
        window[place], total[place] = mine[inside].sum(), mine.sum()
        inside_all += float(committed[own][inside].sum()) * len(ranks)
        all_committed += float(committed[own].sum()) * len(ranks)
    if max(float(total.max(initial=0.0)), all_committed) > _MOST_LAYERS:
        return None
    if not commits.any():
        return window, total, np.nan, np.nan
    return window, total, inside_all, all_committed
