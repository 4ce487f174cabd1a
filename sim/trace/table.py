"""The table of what happened: one row per operation, collective, wait and observation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappush, heapreplace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim.members import named
from sim.operations import OPERATIONS, Operation
from sim.trace.packed import TEXTS, PackedRows
from sim.trace.row import COLUMNS, MEANINGS, Row

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COLUMNS",
    "CONTROL",
    "LOOK",
    "MEANINGS",
    "ROUND",
    "SPAWN",
    "WAIT",
    "Context",
    "Row",
    "Step",
    "Trace",
    "Window",
    "note_cause",
    "share_key",
]

ROUND, WAIT, LOOK, SPAWN, CONTROL = "round", "wait", "look", "spawn", "control"

Step = tuple[str, str, str, float, int, bool]
"""What a row says without its times: operation, detail, group, bytes, times, commits."""


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
    #: Part of each rank's computation in which accelerators inside it wait for each other.
    exposed_inside: tuple[float, ...] = ()

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

    def __init__(self, rows: Sequence[Row], context: Context, total_s: float) -> None:
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
    def packed(self) -> PackedRows | None:
        """The rows, where they are kept as columns: those of a large simulated run."""
        return self.rows if isinstance(self.rows, PackedRows) else None

    def rows_of(self, rank: int) -> list[Row]:
        """Return the rows of one rank, or of the rank that was simulated for it."""
        for simulated, ranks in self.context.standing_for.items():
            if rank in ranks:
                rank = simulated
                break
        packed = self.packed
        if packed is not None:
            return packed.of_rank(rank)
        return [row for row in self.rows if row.rank == rank]

    def counted_rows(self) -> Iterable[Row]:
        """Return rows among which every collective is at least once; all of them in a small run.

        Those of the first rank, and of the first member of each group.
        """
        packed = self.packed
        if packed is None:
            return self.rows
        ranks = {next(iter(self.context.standing_for))}
        for group in packed.occurring("group"):
            if "[" in group:
                ranks.add(named(group, self.workers).ranks[0])
        return [row for rank in sorted(ranks) for row in packed.of_rank(rank)]

    @property
    def operations(self) -> frozenset[str]:
        """All operations that occur in it."""
        if self._operations is None:
            packed = self.packed
            self._operations = (
                frozenset([row.operation for row in self.rows])
                if packed is None
                else frozenset(packed.occurring("operation"))
            )
        return self._operations

    def round_begins(self) -> NDArray[np.float64]:
        """Times at which each rank entered each round; shape [rounds + 1, M], seconds.

        The last entry is the moment at which the horizon was found to be reached.
        """
        if self._begins is not None:
            return self._begins
        by_rank: dict[int, Sequence[float] | NDArray[np.float64]] = {}
        packed = self.packed
        if packed is None:
            lists: dict[int, list[float]] = {}
            for row in self.rows:
                if row.operation == ROUND:
                    lists.setdefault(row.rank, []).append(row.begin_s)
            by_rank.update(lists)
        else:
            begun = packed.columns["operation"] == packed.number(ROUND)
            for rank in self.context.standing_for:
                own = packed.bounds(rank)
                by_rank[rank] = packed.columns["begin_s"][own][begun[own]]
        marks = min((len(by_rank.get(rank, ())) for rank in self.context.standing_for), default=0)
        begins = np.zeros((marks, self.workers))
        for rank, ranks in self.context.standing_for.items() if marks else ():
            begins[:, list(ranks)] = np.array(by_rank[rank])[:marks, None]
        begins.flags.writeable = False
        self._begins = begins
        return begins

    def on_wire(self) -> Iterator[tuple[Row, float]]:
        """Collectives that ended, each with the second at which it can have gone on the wire.

        That is when its last member had arrived, the one before it in its group was on the
        wire, and a place among the group's concurrent ones was free. Of a large run those of
        :meth:`counted_rows`: it is the same for all members.
        """
        places: dict[tuple[int, str], list[float]] = {}  # the latest ends, as many as places
        before: dict[tuple[int, str], float] = {}
        concurrent = self.context.concurrent
        for row in self.counted_rows():
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
        packed = self.packed
        if packed is not None:
            values: list[Any] = packed.columns[name].tolist()
            return [packed.texts[number] for number in values] if name in TEXTS else values
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
