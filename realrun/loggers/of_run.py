"""The loggers of one run: opened together, fed each by a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from realrun.errors import RunError
from realrun.loggers.logged import Logged, why
from realrun.loggers.logger import LogTo
from realrun.loggers.opening import Resumed, opened
from realrun.state.loss_stream import LossStream

if TYPE_CHECKING:
    from realrun.device import Host
    from realrun.model.replica import TorchModel

_FINISH_S = 60.0  # for what is still to be sent when the training has ended


class Loggers:
    """What ``--log`` has asked for, on rank 0.

    Parameters
    ----------
    asked
        Which, and where.
    """

    def __init__(self, asked: Sequence[LogTo]) -> None:
        self._asked = asked
        self._logged: list[Logged] = []
        self._streams: list[LossStream] = []

    def open(
        self, config: Mapping[str, Any], tokens: float | None, notes: Mapping[str, str]
    ) -> None:
        """Open all.

        Parameters
        ----------
        config
            What is known of the run, as JSON can hold it.
        tokens
            Where the run resumes; None: it begins.
        notes
            What the checkpoint holds of :meth:`notes`.

        Raises
        ------
        RunError
            In a line, about the first that its library could not open.
        """
        for to in self._asked:
            resumed = None if tokens is None else Resumed(tokens, notes.get(to.kind, ""))
            try:
                logger = opened(to, config, resumed)
            except Exception as error:  # of a library that is not ours
                raise RunError(f"rank 0: {to.name}: cannot be opened: {why(error)}") from error
            self._logged.append(Logged(logger, to))

    def follow(
        self, model: TorchModel, device: Host, tokens_per_micro_batch: Callable[[], float]
    ) -> list[LossStream]:
        """Begin with the losses that come from now on; return what has to look for them."""
        self._streams = [
            LossStream(sink, model, device, tokens_per_micro_batch, seen=model.losses_so_far)
            for sink in self._logged
        ]
        return self._streams

    def notes(self) -> dict[str, str]:
        """Return what a checkpoint holds, so that a resumed run continues the curves."""
        return {each.to.kind: each.note for each in self._logged}

    def evaluated(self, tokens: float, loss: float) -> None:
        """Hand on the loss on held-out data after these tokens of all workers."""
        for stream in self._streams:
            stream.evaluated(tokens, loss)

    def close(self, *, failed: bool = False) -> list[str]:
        """Finish all; return in lines what was not logged. Not for long after a failure."""
        patience = {} if failed else {"patience_s": _FINISH_S}
        lines = []
        for logged, stream in zip(self._logged, self._streams, strict=True):
            if not stream.close(failed=failed, **patience):
                lines.append(f"rank 0: {logged.to.name}: did not finish within {_FINISH_S:.0f} s")
            elif logged.failed:
                lines.append(logged.failed)
        return lines
