"""What programs start and wait for, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.runtime.driver import Driver


class Activity:
    """Something started; see :class:`sim.program.Activity`."""

    __slots__ = ("call", "driver", "ended", "group", "ready_s", "text", "waiters")

    def __init__(self, driver: Driver, group: str = "", call: int = -1, text: str = "") -> None:
        self.driver = driver
        driver.runtime.unfinished += 1
        self.ended = False
        self.waiters: list[Driver] = []
        self.group = group  # "" for a computation
        self.call = call
        self.ready_s = 0.0
        self.text = text

    @property
    def done(self) -> bool:
        """Whether it has ended; a look that is logged."""
        return bool(self.driver.look(f"done {self.group} {self.call}", float(self.ended)))

    def end(self) -> None:
        """Let those who wait for it go on."""
        self.ended = True
        self.driver.runtime.unfinished -= 1
        waiters, self.waiters = self.waiters, []
        for driver in waiters:
            driver.advance()


class After:
    """Stands among an activity's waiters to run something when it ends."""

    __slots__ = ("advance",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.advance = action
