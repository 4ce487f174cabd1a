"""One row of a trace, and what its columns hold."""

from __future__ import annotations

from math import nan

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
