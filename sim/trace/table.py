"""The table of what happened: one row per operation, collective, wait and observation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from heapq import heappush, heapreplace
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim.operations import OPERATIONS, Operation

if TYPE_CHECKING:
    import pandas as pd

MEANINGS = {
    "rank": "Number of the worker, from 0.",
    "program": 'Which program of the worker: "main", or a spawned one with its running number.',
    "operation": "An operation of the model, a collective, or one of: round, wait, spawn, look.",
    "detail": "Layers or fragment, and of a collective the type that travels.",
    "group": "Members of a collective; of a wait, the group that was waited for.",
    "call": "Number of the call in its group, from 0.",
    "bytes": "Size of the collective's buffer on one worker; 0 for everything else.",
    "times": "How many operations the row stands for; of a round, its inner steps.",
    "begin_s": "When it began; of a collective, when this worker called it. Seconds.",
    "end_s": "When it ended; of a collective, when the result was there. Seconds.",
    "ready_s": "When the last member had called the collective. Seconds.",
    "work_s": "Seconds that it takes undisturbed; empty where nothing was calibrated.",
    "observed": "Answer of a look: the time, or 1 and 0 for done and not done.",
    "commits": "Whether the program declared that the operation commits an update of its layers.",
}
"""What each column of a trace holds, in their order."""

COLUMNS = tuple(MEANINGS)
ROUND, WAIT, LOOK, SPAWN, CONTROL = "round", "wait", "look", "spawn", "control"

Step = tuple[str, str, str, float, int, bool]
"""What a row says without its times: operation, detail, group, bytes, times, commits."""


class Row:
    """What one program of one rank did, from ``begin_s`` to ``end_s``.

    ``operation`` is a verb of the model, a collective, or one of: "round" (a round began;
    ``times`` its inner steps), "wait" (blocked on the collective or spawned program ``call``
    of ``group``), "spawn", "look" (an observation; its answer in ``observed``). For collectives
    ``begin_s`` is the call, ``ready_s`` the last member's arrival, ``end_s`` the result.
    ``work_s`` is the undisturbed time; nan where nothing was calibrated. ``commits``: whether the
    program declared that the operation commits an update of its layers.
    """

    __slots__ = COLUMNS

    def __init__(
        self,
        rank: int,
        program: str,
        operation: str,
        detail: str,
        group: str,
        call: int,
        bytes_: float,
        times: int,
        begin_s: float,
        end_s: float = nan,
        ready_s: float = nan,
        work_s: float = nan,
        observed: float = nan,
        commits: bool = False,
    ) -> None:
        self.rank = rank
        self.program = program
        self.operation = operation
        self.detail = detail
        self.group = group
        self.call = call
        self.bytes = bytes_
        self.times = times
        self.begin_s = begin_s
        self.end_s = end_s
        self.ready_s = ready_s
        self.work_s = work_s
        self.observed = observed
        self.commits = commits


@dataclass(frozen=True)
class Window:
    """Rounds first .. last - 1, over which figures are taken; whether they repeat."""

    first: int
    last: int
    steady: bool
    #: Seconds of a round in the long run where these do not repeat; 0: as long as these take.
    round_s: float = 0.0
    #: Whether ``round_s`` is only known to be the least.
    lower_bound: bool = False
    #: How many times shorter than they are the pieces of links that vary were simulated.
    shortened: float = 1.0


@dataclass(frozen=True)
class Context:
    """What the figures must know in addition to the rows; the same in both runtimes.

    ``sites`` and ``site_of``: names and each rank's index. ``layers``: L. ``step_s``: undisturbed
    seconds of one inner step by rank. ``micro_batch_tokens`` by rank. ``sent_share``: for
    each "operation dtype" and members (:func:`share_key`) the bytes sent by each member per byte
    of the buffer. ``standing_for``:
    for each simulated rank all the ranks whose rows are the same. ``measured``: whether a
    real run wrote the rows. ``window``: None leaves out the first round. ``causes``: on what the
    operations that the program declared spend their time.
    """

    sites: tuple[str, ...]
    site_of: tuple[int, ...]
    layers: int
    n_grad_accumulation: tuple[int, ...]
    step_s: tuple[float, ...]
    micro_batch_tokens: tuple[float, ...]
    concurrent: int
    first_collective_s: float
    standing_for: dict[int, tuple[int, ...]]
    sent_share: dict[str, tuple[float, ...]] = field(default_factory=dict)
    method: str = ""
    measured: bool = False
    window: Window | None = None
    causes: dict[str, str] = field(default_factory=dict)
    #: The horizon, in rounds or in tokens of all workers; None: it ends with what was simulated.
    horizon_rounds: int | None = None
    horizon_tokens: float | None = None
    #: Floating-point operations of the model per token; 0: not known.
    flops_per_token: float = 0.0
    #: How many accelerators each rank has, and the FLOP/s that one could do at most; 0: not known.
    accelerators: tuple[int, ...] = ()
    peak_flops: tuple[float, ...] = ()

    def cause_of(self, operation: str) -> str:
        """Return on what a computation's time is spent; "other" where nobody has declared it."""
        row = OPERATIONS.get(operation)
        return self.causes.get(operation, "other") if row is None else row.cause


def note_cause(causes: dict[str, str], declared: Operation) -> None:
    """Add an operation that a program has declared to ``causes``, by its name.

    Raises
    ------
    ValueError
        If it is what traces call something else, or was declared with another cause before.
    """
    name, cause = declared.name, declared.cause
    if name in (ROUND, WAIT, LOOK, SPAWN, CONTROL):
        raise ValueError(f"{name} means something else in a trace; give the operation another name")
    if causes.setdefault(name, cause) != cause:
        raise ValueError(f"{name} was declared as {causes[name]} before, and now as {cause}")


def share_key(row: Row) -> str:
    """Return where ``Context.sent_share`` has a collective: at "all_reduce bf16[0,3]"."""
    _, bracket, ranks = row.group.partition("[")
    return f"{row.operation} {row.detail.rpartition(' ')[2]}{bracket}{ranks}"


class Trace:
    """Rows and context of one run."""

    def __init__(self, rows: list[Row], context: Context, total_s: float) -> None:
        self.rows = rows
        self.context = context
        self.total_s = total_s
        self._begins: NDArray[np.float64] | None = None
        self._operations: frozenset[str] | None = None

    def evaluated(self, **changes: Any) -> Trace:
        """The same trace with some fields of its window changed."""
        window = self.context.window
        assert window is not None
        return self.over(replace(window, **changes))

    def over(self, window: Window) -> Trace:
        """The same trace with figures over these rounds."""
        trace = Trace(self.rows, replace(self.context, window=window), self.total_s)
        trace._begins, trace._operations = self._begins, self._operations
        return trace

    @property
    def workers(self) -> int:
        """M."""
        return len(self.context.site_of)

    @property
    def operations(self) -> frozenset[str]:
        """All operations that occur in it."""
        if self._operations is None:
            self._operations = frozenset([row.operation for row in self.rows])
        return self._operations

    def round_begins(self) -> NDArray[np.float64]:
        """Times at which each rank entered each round; shape [rounds + 1, M], seconds.

        The last entry is the moment at which the horizon was found to be reached.
        """
        if self._begins is not None:
            return self._begins
        by_rank: dict[int, list[float]] = {}
        for row in self.rows:
            if row.operation == ROUND:
                by_rank.setdefault(row.rank, []).append(row.begin_s)
        marks = min((len(by_rank.get(rank, ())) for rank in self.context.standing_for), default=0)
        begins = np.empty((marks, self.workers))
        for rank, ranks in self.context.standing_for.items() if marks else ():
            begins[:, list(ranks)] = np.array(by_rank[rank])[:marks, None]
        begins.flags.writeable = False
        self._begins = begins
        return begins

    def on_wire(self) -> Iterator[tuple[Row, float]]:
        """Collectives that ended, each with the second at which it can have gone on the wire.

        That is when its last member had arrived, the one before it in its group was on the
        wire, and a place among the group's concurrent ones was free.
        """
        places: dict[tuple[int, str], list[float]] = {}  # the latest ends, as many as places
        before: dict[tuple[int, str], float] = {}
        concurrent = self.context.concurrent
        for row in self.rows:
            if row.bytes > 0 and row.end_s == row.end_s:
                group = (row.rank, row.group)
                ends = places.setdefault(group, [])
                free = ends[0] if len(ends) == concurrent else 0.0
                start = before[group] = max(row.ready_s, before.get(group, 0.0), free)
                if len(ends) < concurrent:
                    heappush(ends, row.end_s)
                elif row.end_s > ends[0]:
                    heapreplace(ends, row.end_s)
                yield row, start

    def column(self, name: str) -> list[Any]:
        """One column as a list, for the simulated ranks."""
        return [getattr(row, name) for row in self.rows]

    def frame(self) -> pd.DataFrame:
        """All rows of all ranks as a table, ordered by rank; columns are ``COLUMNS``."""
        import pandas as pd

        frame = pd.DataFrame({name: self.column(name) for name in COLUMNS})
        parts = []
        for rank, ranks in self.context.standing_for.items():
            rows = frame[frame["rank"] == rank]
            parts += [rows.assign(rank=other) for other in ranks]
        return pd.concat(parts).sort_values("rank", kind="stable").reset_index(drop=True)

    def observations(self) -> dict[tuple[int, str], list[float]]:
        """Logged answers of ``.done`` and ``now``, in order, by rank and program."""
        logged: dict[tuple[int, str], list[float]] = {}
        for row in self.rows:
            if row.operation == LOOK:
                for rank in self.context.standing_for.get(row.rank, (row.rank,)):
                    logged.setdefault((rank, row.program), []).append(row.observed)
        return logged

    def sequence(self) -> dict[tuple[int, str], list[Step]]:
        """What makes two traces *the same*: what each program did, without the times."""
        done: dict[tuple[int, str], list[Step]] = {}
        for row in self.rows:
            for rank in self.context.standing_for.get(row.rank, (row.rank,)):
                done.setdefault((rank, row.program), []).append(
                    (row.operation, row.detail, row.group, row.bytes, row.times, row.commits)
                )
        return done
