"""The losses of one rank as they come, handed on by a thread so that no step waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from realrun.device import Host
    from realrun.model.replica import TorchModel

EVERY_S = 2.0
_POLL_S = 0.05


class Losses(NamedTuple):
    """Losses of consecutive micro-batches, counted from 0."""

    #: The first one's number.
    first: int
    #: Nats per token.
    values: Sequence[float]
    #: Tokens that all workers together have seen for each micro-batch of this one.
    tokens_per_micro_batch: float
    #: When they were taken: seconds of ``perf_counter``.
    at_s: float


class Sink(Protocol):
    """What losses are handed to: always by the same thread, in order."""

    def losses(self, came: Losses) -> None:
        """Take losses, those that follow the last ones."""

    def evaluated(self, tokens: float, loss: float, micro_batches: int) -> None:
        """Take the loss on held-out data after these tokens, and micro-batches of this worker."""

    def close(self, *, failed: bool) -> None:
        """Finish: nothing more comes; ``failed``: the run ends with an error."""


class LossStream:
    """Takes one rank's losses every two seconds, and hands them to a sink in a thread.

    Parameters
    ----------
    sink
        What takes them. What it raises ends the thread, so it has to answer for itself.
    model, device
        Whose losses they are, and what computes them.
    tokens_per_micro_batch
        Gives what :class:`Losses` has under that name, now.
    seen
        Losses that the sink has already, of a resumed run.
    """

    def __init__(
        self,
        sink: Sink,
        model: TorchModel,
        device: Host,
        tokens_per_micro_batch: Callable[[], float] = lambda: 0.0,
        *,
        seen: int = 0,
    ) -> None:
        self._sink, self._model, self._device = sink, model, device
        self._tokens = tokens_per_micro_batch
        self._seen, self._due = seen, perf_counter() + EVERY_S
        self._failed = False
        self._taken: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._hand_on, name="losses", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Take the losses that have come, if the last time is long ago; waits for nothing."""
        if perf_counter() >= self._due:
            self._take()

    def evaluated(self, tokens: float, loss: float) -> None:
        """Hand on an evaluation, behind the losses until here."""
        self._take()
        micro_batches = self._seen
        self._taken.put(lambda: self._sink.evaluated(tokens, loss, micro_batches))

    def _take(self) -> None:
        now = perf_counter()
        self._due = now + EVERY_S
        first, self._seen = self._seen, self._model.losses_so_far
        if first < self._seen:
            # On a GPU behind what it still computes; the mark tells when they are there.
            losses = self._model.losses_since(first).to("cpu", non_blocking=True)
            mark, tokens = self._device.mark(), self._tokens()
            self._taken.put(lambda: self._hand(first, losses, mark, tokens, now))

    def _hand(self, first: int, losses: Tensor, mark: Any, tokens: float, at_s: float) -> None:
        while not self._device.passed(mark):
            sleep(_POLL_S)
        self._sink.losses(Losses(first, losses.tolist(), tokens, at_s))

    def close(self, *, failed: bool = False, patience_s: float = EVERY_S) -> bool:
        """Hand on what is left; return whether the sink has finished in that time."""
        with suppress(RuntimeError):  # of a device that has failed
            self._take()
        self._failed = failed
        self._taken.put(None)
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def _hand_on(self) -> None:
        while (hand := self._taken.get()) is not None:
            hand()
        self._sink.close(failed=self._failed)
