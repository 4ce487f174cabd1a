"""The measuring half: the programs of ``sim.methods``, run on torch.distributed.

``realrun`` imports ``sim``, never the reverse.
"""

from __future__ import annotations

import sys

__all__ = ["step"]


def step() -> None:
    """Mark that a training step begins here; does nothing in a program that is not recorded.

    For programs in which ``realrun record`` does not find the steps by what repeats. Call it at
    the beginning of every step, on every rank.
    """
    recorder = sys.modules.get("_bandwise_recorder")
    if recorder is not None:
        recorder.step()
