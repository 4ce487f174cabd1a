"""How much one run may come to: what a program that never ends runs into, in both runtimes."""

from __future__ import annotations

from collections.abc import Callable

from sim.trace import Row

MOST_ROWS = 3_000_000  # about a gigabyte and twenty seconds
MOST_MESSAGES = 20_000_000  # some minutes
#: Started and not ended; also what a program may wait for that has ended, while no time passes.
MOST_UNFINISHED = 300_000
#: Begun by one worker in one round of a real run; the longest rounds have some ten thousand.
MOST_IN_A_ROUND = 1_000_000


class Rows(list[Row]):
    """The rows of a simulated run, whose number is looked at wherever one is made.

    Parameters
    ----------
    beyond
        Makes the error of a row too many.
    """

    def __init__(self, beyond: Callable[[Row], Exception]) -> None:
        self._beyond = beyond

    def append(self, row: Row) -> None:
        """Add a row."""
        if len(self) >= MOST_ROWS:
            raise self._beyond(row)
        super().append(row)
