"""A loss that is not finite ends a run, or is told (``train.not_finite``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from realrun.errors import RunError

if TYPE_CHECKING:
    from realrun.device import Host
    from realrun.model.replica import TorchModel


class NotFiniteError(RunError):
    """A loss, or a parameter, is not a finite number. ``order`` is larger where it came later."""

    def __init__(self, message: str, order: int) -> None:
        super().__init__(message)
        self.order = order


@dataclass
class LossWatch:
    """Looks at the losses of one worker when a round begins, without stopping a GPU.

    The losses are copied to the host behind what the device still computes, and are read once
    they are there: on a GPU a round later or so.

    Parameters
    ----------
    rank
        This worker.
    policy
        "stop" or "warn".
    model
        Whose losses they are.
    device
        What computes.
    warn
        Called once with a line, under "warn".
    """

    rank: int
    policy: str
    model: TorchModel
    device: Host
    warn: Callable[[str], None]
    _seen: int = 0
    _warned: bool = False

    def look(self, round_: int, *, by_steps: bool) -> None:
        """Look at the losses of the round that ends.

        Parameters
        ----------
        round_
            The one that begins.
        by_steps
            Whether a round is a number of inner steps.

        Raises
        ------
        NotFiniteError
            Under "stop", on the worker whose loss it is; on a GPU from the device's ``settle``,
            ``drain`` or ``close``.
        """
        first, self._seen = self._seen, self.model.losses_so_far
        if first < self._seen:
            losses = self.model.losses_since(first).to("cpu", non_blocking=True)
            use = partial(self._use, losses, first, max(0, round_ - 1), by_steps)
            self.device.later([self.device.mark()], use)

    def _use(
        self, losses: Tensor, first: int, round_: int, by_steps: bool, at: list[float]
    ) -> None:
        if isfinite(float(losses.sum())):
            return  # nearly always, so this is what has to be quick
        wrong = torch.isfinite(losses).logical_not().nonzero()
        if not len(wrong):
            return
        number = first + int(wrong[0])
        of = f"micro-batch {number}"
        if by_steps:
            of = f"inner step {number // self.model.n_grad_accumulation} ({of})"
        what = f"the loss of {of} in round {round_} is {float(losses[int(wrong[0])])}"
        self._tell(f"{what}, all counted from 0", number)

    def check_parameters(self, round_: int) -> None:
        """Refuse to keep parameters that are not finite; what was called must have ended.

        Raises
        ------
        NotFiniteError
            Under "stop".
        """
        if self.policy == "stop" and not bool(torch.isfinite(self.model.theta).all()):
            self._tell(
                f"parameters are not finite at the start of round {round_}, so no checkpoint is "
                "written",
                self._seen,
            )

    def _tell(self, what: str, order: int) -> None:
        line = f"rank {self.rank}: {what}"
        if self.policy == "stop":
            raise NotFiniteError(
                f'{line}; train.not_finite = "warn" would let the training continue', order
            )
        if not self._warned:
            self._warned = True
            self.warn(f'{line}; the training continues (train.not_finite = "warn")')


def told(losses: list[list[float]]) -> str:
    """Return a sentence about the losses of all ranks that are not finite; "" without any."""
    wrong = [
        (number, rank)
        for rank, own in enumerate(losses)
        for number, loss in enumerate(own)
        if not isfinite(loss)
    ]
    if not wrong:
        return ""
    number, rank = min(wrong)
    total = sum(map(len, losses))
    return (
        f"{len(wrong)} of {total} losses are not finite; the first is of rank {rank}, "
        f"micro-batch {number} (counted from 0)"
    )
