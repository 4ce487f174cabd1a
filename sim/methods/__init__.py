"""Training methods, one short file each. To add one, see docs/how-to/write_a_method.md."""

from __future__ import annotations

from collections.abc import Callable

from sim.methods.acco import acco
from sim.methods.ddp import ddp
from sim.methods.delayed_diloco import delayed_diloco
from sim.methods.diloco import diloco
from sim.methods.dpu import dpu
from sim.methods.eager_diloco import eager_diloco
from sim.methods.local_sgd import local_sgd
from sim.methods.streaming_diloco import streaming_diloco
from sim.methods.wp import wp
from sim.program import Program

METHODS: dict[str, Callable[..., Program]] = {
    "ddp": ddp,
    "local_sgd": local_sgd,
    "diloco": diloco,
    "streaming_diloco": streaming_diloco,
    "delayed_diloco": delayed_diloco,
    "eager_diloco": eager_diloco,
    "acco": acco,
    "dpu": dpu,
    "wp": wp,
}

BY_COUNTS = ("acco", "dpu", "wp")
"""Methods that divide summed gradients by summed counts: they have no mean to weigh."""

__all__ = ["BY_COUNTS", "METHODS"]
