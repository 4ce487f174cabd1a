"""What a logger is given of a run; its failures are told and end nothing.

A training of days must not end because of its curves: what a library raises is told once when it
happens and once more at the end, and nothing more is logged there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from realrun.loggers.logger import Logger, LogTo
from realrun.state.loss_stream import Losses
from sim.text.told import first_line, one_line
from sim.units import format_count

LOSS, HELD_OUT, RATE = "loss/train", "loss/held_out", "tokens_per_s"


class Logged:
    """Hands losses, evaluations and the rate to a logger.

    Parameters
    ----------
    logger
        Where they go.
    to
        What the user has asked for.
    """

    def __init__(self, logger: Logger, to: LogTo) -> None:
        self._logger, self.to = logger, to
        self._before: tuple[float, float] | None = None  # tokens, and when
        self._last = 0.0  # tokens of the last point
        #: Why nothing more is logged, in a line; "" as long as all is well.
        self.failed = ""

    @property
    def note(self) -> str:
        """What a checkpoint holds of the logger."""
        return self._logger.note

    def losses(self, came: Losses) -> None:
        """Add the loss of every micro-batch, and tokens/s since the last time."""
        each = came.tokens_per_micro_batch
        done = came.first + len(came.values)

        def add() -> None:
            for number, loss in enumerate(came.values, came.first + 1):
                values = {LOSS: loss}
                if number == done and self._before is not None and came.at_s > self._before[1]:
                    tokens, at_s = self._before
                    values[RATE] = (done * each - tokens) / (came.at_s - at_s)
                self._add(number, number * each, values)
            self._before = done * each, came.at_s
            self._logger.flush()

        self._guarded(add)

    def evaluated(self, tokens: float, loss: float, micro_batches: int) -> None:
        """Add the loss on held-out data."""

        def add() -> None:
            self._add(micro_batches, tokens, {HELD_OUT: loss})
            self._logger.flush()

        self._guarded(add)

    def close(self, *, failed: bool) -> None:
        """Finish the logger, also one that has raised: it may have a thread or a process."""
        try:
            self._logger.close(failed=failed)
        except Exception as error:
            self._fail(error)

    def _add(self, number: int, tokens: float, values: Mapping[str, float]) -> None:
        self._logger.add(number, tokens, values)
        self._last = tokens

    def _guarded(self, add: Callable[[], None]) -> None:
        if self.failed:
            return
        try:
            add()
        except Exception as error:  # of a library that is not ours
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self.failed:
            return
        self.failed = (
            f"rank 0: {self.to.name}: {why(error)}; nothing is logged there after "
            f"{format_count(self._last, 3)} tokens"
        )
        sys.stderr.write(f"realrun: warning: {self.failed}, and the training continues\n")
        sys.stderr.flush()


def why(error: Exception) -> str:
    """Return in a clause what a library has raised."""
    return one_line(f"{type(error).__name__}: {first_line(error)}")
