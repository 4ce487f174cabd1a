"""Where the time goes: every second of every worker has one cause."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from sim.figures.causes import CAUSES, INSIDE
from sim.figures.packed_runs import Split, plain
from sim.trace.table import LOOK, SPAWN, WAIT, Row, Trace

_Piece = tuple[float, float, str, float, str]
"""Begin and end; the cause, or "wait" for a collective, or "spawn" for the wait for a program.

Then, of a computation, which share of it its undisturbed time is; of a wait, when the last member
was ready. Last the group or program that was waited for.
"""


def listed(spent: Mapping[str, float], *, measured: bool = False) -> dict[str, float]:
    """Return the causes that a run can have: a simulated one has no other ones."""
    return {c: part for c, part in spent.items() if measured or c != "other" or part > 0}


class Accounts:
    """The rows of a trace by rank and program, to be split by cause over any interval."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._causes: dict[str, str] = {}  # by operation
        self._pieces: dict[tuple[int, str], list[_Piece]] = {}  # by rank and program
        self._programs: dict[int, dict[str, list[Row]]] = {
            rank: {"main": []} for rank in trace.context.standing_for
        }
        self._spawned: set[tuple[str, str]] = set()  # who spawned, and what
        ends = self._ends = dict.fromkeys(trace.context.standing_for, 0.0)
        measured = trace.context.measured
        # Of a large run the columns are split as they are.
        split = plain(trace) is not None
        for row in () if split else trace.rows:
            rank, program, operation = row.rank, row.program, row.operation
            rows = self._programs[rank].get(program)
            if rows is None:
                rows = self._programs[rank][program] = []
            # A look takes no time; what it could part are waits, or what a real worker does.
            if measured or operation != LOOK or not rows or rows[-1].operation == WAIT:
                rows.append(row)
            if operation == SPAWN:
                self._spawned.add((program, row.group))
            if program == "main" and row.end_s > ends[rank]:
                ends[rank] = row.end_s
        # When each group sets up: the first collective's extra time, as it goes on the wire.
        extra = trace.context.first_collective_s
        self._setup: dict[str, tuple[float, float]] = {}
        if extra > 0:
            for row, start in trace.on_wire():
                if row.call == 0:
                    self._setup[row.group] = (start, min(start + extra, row.end_s))
        self._split = Split(trace, self._setup) if split else None

    def between(self, begin: float, end: float) -> dict[int, dict[str, float]]:
        """Fractions of the time from ``begin`` to ``end`` (seconds), by simulated rank."""
        found = self._between(begin, end)
        shares = self._trace.context.exposed_inside
        for rank, spent in found.items():
            if not shares:
                del spent[INSIDE]
                continue
            # An island's step holds what its accelerators wait for each other.
            spent[INSIDE] = shares[rank] * spent["compute"]
            spent["compute"] *= 1 - shares[rank]
        return found

    def _between(self, begin: float, end: float) -> dict[int, dict[str, float]]:
        length = end - begin
        if self._split is not None and length > 0:
            return self._split.between(begin, end)
        result = {}
        for rank in self._programs:
            spent = dict.fromkeys(CAUSES, 0.0)
            if length <= 0:
                result[rank] = {**spent, "other": 1.0}
                continue
            self._spend(rank, "main", begin, end, spent)
            spent["waiting"] += max(0.0, end - max(begin, self._ends[rank]))
            rest = length - sum(spent.values())
            spent["other"] += rest if abs(rest) > 1e-9 * length else 0.0
            result[rank] = {cause: seconds / length for cause, seconds in spent.items()}
        return result

    def _pieces_of(self, rank: int, program: str) -> list[_Piece]:
        """Return what one program's time went into, whole: found once for all intervals."""
        found = self._pieces.get((rank, program))
        if found is None:
            rows = self._programs[rank].get(program, [])
            found = self._pieces[rank, program] = self._cut(rows)
        return found

    def _cut(self, rows: list[Row]) -> list[_Piece]:
        pieces: list[_Piece] = []
        # Until when its queue is busy with what was called so far: blocked or not, that time
        # is the computation's.
        busy = 0.0
        # Collectives awaited one right after the other are awaited at once: the one that ends
        # last decides between waiting and exposed communication.
        start = stop = ready = 0.0
        group = ""
        issued = inf  # when a collective was called that a real worker is handing over
        measured = self._trace.context.measured
        causes, spawned = self._causes, self._spawned
        for row in rows:
            begin_s, operation = row.begin_s, row.operation
            if begin_s > issued:
                pieces.append((issued, begin_s, "exposed_communication", 1.0, ""))
            issued = inf
            waits = operation == WAIT
            if waits and (not spawned or (row.program, row.group) not in spawned):
                if group and begin_s <= stop:
                    if row.end_s > stop:
                        stop, ready, group = row.end_s, row.ready_s, row.group
                else:
                    if group:
                        pieces.append((max(start, busy), stop, WAIT, ready, group))
                    start, stop, ready, group = begin_s, row.end_s, row.ready_s, row.group
                continue
            if group:
                pieces.append((max(start, busy), stop, WAIT, ready, group))
                group = ""
            if waits:
                awaited = f"{row.group}#{row.call}"
                pieces.append((max(begin_s, busy), row.end_s, SPAWN, 0.0, awaited))
                continue
            if row.call >= 0:
                # A collective takes no time of its own, waiting for it does; but a real worker
                # copies and hands over what it sends before it continues.
                if measured and operation != SPAWN:
                    issued = begin_s
                continue
            end_s = row.end_s
            if end_s > busy:
                busy = end_s
            if end_s > begin_s:  # looks and rounds take no time
                whole, work = end_s - begin_s, row.work_s
                # What exceeds its undisturbed time is contention; nan: that is not calibrated.
                share = min(work / whole, 1.0) if work == work else 1.0
                cause = causes.get(operation)
                if cause is None:
                    cause = causes[operation] = self._trace.context.cause_of(operation)
                pieces.append((begin_s, end_s, cause, share, ""))
        if group:
            pieces.append((max(start, busy), stop, WAIT, ready, group))
        return pieces

    def _spend(
        self, rank: int, program: str, begin: float, end: float, spent: dict[str, float]
    ) -> None:
        """Add what one program did in the interval to ``spent``."""
        for start, stop, cause, value, whose in self._pieces_of(rank, program):
            if stop <= begin or start >= end:
                continue
            if cause == WAIT:
                self._blocked(start, stop, value, whose, begin, end, spent)
            elif cause == SPAWN:
                inside = max(begin, start), min(end, stop)
                if inside[1] > inside[0]:
                    self._spend(rank, whose, *inside, spent)
            else:
                taken = (stop if stop < end else end) - (start if start > begin else begin)
                spent[cause] += taken * value
                if value < 1:
                    spent["contention"] += taken * (1 - value)

    def _blocked(
        self,
        start: float,
        stop: float,
        ready: float,
        group: str,
        begin: float,
        end: float,
        spent: dict[str, float],
    ) -> None:
        """Split a wait: until the last member arrived, setting up, and the rest."""
        start, stop = max(start, begin), min(stop, end)
        if stop <= start:
            return
        arrived = min(max(ready, start), stop)
        spent["waiting"] += arrived - start
        exposed = stop - arrived
        setup_from, setup_to = self._setup.get(group, (inf, inf))
        setup = max(0.0, min(stop, setup_to) - max(arrived, setup_from))
        spent["setup"] += setup
        spent["exposed_communication"] += exposed - setup
