"""What the accelerators of one worker do within a step, in the vocabulary of the methods.

fsdp: parameters, gradients and optimizer sharded, gathered layer by layer. (Data parallelism with
whole parameters, and with a sharded optimizer, is :func:`sim.methods.ddp.ddp`.)
"""

from __future__ import annotations

from collections.abc import Callable

from sim.methods.inside.fsdp import fsdp
from sim.program import Program

INSIDE: dict[str, Callable[..., Program]] = {"fsdp": fsdp}

__all__ = ["INSIDE", "fsdp"]
