"""Where the time goes: every second of every worker has one cause."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from sim.operations import COMPUTED
from sim.trace.table import LOOK, SPAWN, WAIT, Row, Trace

CAUSES = (
    *COMPUTED,
    "contention",
    "exposed_communication",
    "waiting",
    "setup",
    "other",
)
"""Where the time goes: fractions of workers x wall-clock that add up to one."""


def listed(spent: Mapping[str, float], *, measured: bool = False) -> dict[str, float]:
    """Return the causes that a run can have: a simulated one has no other ones."""
    return {c: part for c, part in spent.items() if measured or c != "other" or part > 0}


class Accounts:
    """The rows of a trace by rank and program, to be split by cause over any interval."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._causes: dict[str, str] = {}  # by operation
        self._programs: dict[int, dict[str, list[Row]]] = {
            rank: {"main": []} for rank in trace.context.standing_for
        }
        self._spawned: set[tuple[str, str]] = set()  # who spawned, and what
        self._ends = dict.fromkeys(trace.context.standing_for, 0.0)
        measured = trace.context.measured
        for row in trace.rows:
            program, operation = row.program, row.operation
            rows = self._programs[row.rank].setdefault(program, [])
            # A look takes no time; what it could part are waits, or what a real worker does.
            if measured or operation != LOOK or not rows or rows[-1].operation == WAIT:
                rows.append(row)
            if operation == SPAWN:
                self._spawned.add((program, row.group))
            if program == "main" and row.end_s > self._ends[row.rank]:
                self._ends[row.rank] = row.end_s
        # When each group sets up: the first collective's extra time, as it goes on the wire.
        extra = trace.context.first_collective_s
        self._setup: dict[str, tuple[float, float]] = {}
        if extra > 0:
            for row, start in trace.on_wire():
                if row.call == 0:
                    self._setup[row.group] = (start, min(start + extra, row.end_s))

    def between(self, begin: float, end: float) -> dict[int, dict[str, float]]:
        """Fractions of the time from ``begin`` to ``end`` (seconds), by simulated rank."""
        length = end - begin
        result = {}
        for rank, programs in self._programs.items():
            spent = dict.fromkeys(CAUSES, 0.0)
            if length <= 0:
                result[rank] = {**spent, "other": 1.0}
                continue
            self._split(rank, programs["main"], begin, end, spent)
            spent["waiting"] += max(0.0, end - max(begin, self._ends[rank]))
            rest = length - sum(spent.values())
            spent["other"] += rest if abs(rest) > 1e-9 * length else 0.0
            result[rank] = {cause: seconds / length for cause, seconds in spent.items()}
        return result

    def _split(
        self, rank: int, rows: list[Row], begin: float, end: float, spent: dict[str, float]
    ) -> None:
        """Add what one program did in the interval to ``spent``."""
        # Until when its queue is busy with what was called so far: blocked or not, that time
        # is the computation's.
        busy = 0.0
        # Collectives awaited one right after the other are awaited at once: the one that ends
        # last decides between waiting and exposed communication.
        start = stop = ready = 0.0
        group = ""
        issued = inf  # when a collective was called that a real worker is handing over
        measured = self._trace.context.measured
        causes = self._causes
        for row in rows:
            begin_s = row.begin_s
            if begin_s > issued:
                spent["exposed_communication"] += max(0.0, min(begin_s, end) - max(issued, begin))
            issued = inf
            waits = row.operation == WAIT
            if waits and (row.program, row.group) not in self._spawned:
                if group and row.begin_s <= stop:
                    if row.end_s > stop:
                        stop, ready, group = row.end_s, row.ready_s, row.group
                else:
                    if group:
                        self._blocked(max(start, busy), stop, ready, group, begin, end, spent)
                    start, stop, ready, group = row.begin_s, row.end_s, row.ready_s, row.group
                continue
            if group:
                self._blocked(max(start, busy), stop, ready, group, begin, end, spent)
                group = ""
            if waits:
                side = self._programs[rank].get(f"{row.group}#{row.call}", [])
                inside = max(begin, row.begin_s, busy), min(end, row.end_s)
                if inside[1] > inside[0]:
                    self._split(rank, side, *inside, spent)
                continue
            if row.call >= 0:
                # A collective takes no time of its own, waiting for it does; but a real worker
                # copies and hands over what it sends before it continues.
                if measured and row.operation != SPAWN:
                    issued = begin_s
                continue
            end_s = row.end_s
            if end_s > busy:
                busy = end_s
            # Looks and rounds take no time.
            if end_s > begin_s and end_s > begin and begin_s < end:
                taken = min(end_s, end) - max(begin_s, begin)
                whole, work = end_s - begin_s, row.work_s
                # What exceeds its undisturbed time is contention; nan: that is not calibrated.
                share = min(work / whole, 1.0) if work == work else 1.0
                operation = row.operation
                cause = causes.get(operation)
                if cause is None:
                    cause = causes[operation] = self._trace.context.cause_of(operation)
                spent[cause] += taken * share
                spent["contention"] += taken * (1 - share)
        if group:
            self._blocked(max(start, busy), stop, ready, group, begin, end, spent)

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
