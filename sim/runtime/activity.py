"""What programs start and wait for, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sim.program import PeerLost
from sim.trace.table import SPAWN, Row


class Starter(Protocol):
    """What an activity asks of the worker that started it."""

    def look(self, what: str, answer: float) -> float:
        """Log an observation; in a replay, answer what was logged."""
        ...

    def over(self, activity: Activity) -> None:
        """Note that an activity has ended or failed."""
        ...


class Activity:
    """Something started; see :class:`sim.program.Activity`.

    It ends or fails once. Programs that wait for it then resume: ``waiters`` are called in the
    order in which they came.
    """

    __slots__ = (
        "_looked",
        "_starter",
        "call",
        "ended",
        "error",
        "group",
        "ready_s",
        "row",
        "waiters",
    )

    def __init__(self, starter: Starter, row: Row) -> None:
        self._starter = starter
        self._looked = ""
        self.row = row
        self.group = row.group  # "" for a computation
        self.call = row.call
        self.ended = False
        self.error: PeerLost | None = None
        self.ready_s = 0.0
        self.waiters: list[Callable[[], None]] = []

    @property
    def text(self) -> str:
        """What it is, in words."""
        row = self.row
        if row.operation == SPAWN:
            return f"spawned {row.detail}"
        if row.call >= 0:
            return f"{row.operation} of {row.bytes:.0f} bytes"
        return f"{row.operation} {row.detail}".strip()

    @property
    def done(self) -> bool:
        """Whether it has ended or failed; a look that is logged."""
        what = self._looked
        if not what:  # thousands of looks at one activity share their text
            what = self._looked = f"done {self.group} {self.call}"
        return self._starter.look(what, 1.0 if self.ended else 0.0) != 0.0

    def end(self) -> None:
        """Let those who wait for it resume; nothing if it has failed before."""
        if self.ended:
            return
        self.ended = True
        self._starter.over(self)
        waiters = self.waiters
        if waiters:
            self.waiters = []
            for resume in waiters:
                resume()

    def fail(self, error: PeerLost) -> None:
        """Have the error thrown into those who wait for it, now or later."""
        if not self.ended:
            self.error = error
            self.end()
