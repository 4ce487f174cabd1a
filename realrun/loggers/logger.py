"""What a logger is, and which there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

KINDS = ("tensorboard", "wandb")  # each is the name of its package, and of the extra that has it


class LogTo(NamedTuple):
    """What one ``--log`` asks for."""

    #: One of KINDS.
    kind: str
    #: A folder (tensorboard), or a project (wandb).
    where: str

    @property
    def name(self) -> str:
        """How the user has written it."""
        return f"--log {self.kind}:{self.where}"


class Logger(Protocol):
    """Curves somewhere; any method may raise anything."""

    #: What the checkpoints of a run hold, so that a resumed run continues its curves.
    note: str

    def add(self, micro_batches: int, tokens: float, values: Mapping[str, float]) -> None:
        """Add a point to each of these curves.

        Parameters
        ----------
        micro_batches
            That rank 0 has trained on; never fewer than before.
        tokens
            That all workers together have trained on.
        values
            By the name of the curve.
        """

    def flush(self) -> None:
        """Make what was added visible."""

    def close(self, *, failed: bool) -> None:
        """Finish; ``failed``: the run ends with an error."""
