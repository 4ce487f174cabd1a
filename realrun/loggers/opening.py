"""From a name and a place to a logger; what each needs to be installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from realrun.loggers.logger import Logger, LogTo


class Resumed(NamedTuple):
    """Where a run resumes, for loggers."""

    #: That all workers together have trained on.
    tokens: float
    #: Of the logger, when the checkpoint was written; "" if there was none.
    note: str


def missing(to: LogTo) -> str:
    """Return in a line what has to be installed; "" if nothing has."""
    found = find_spec(to.kind)
    if found is not None and found.origin is not None:  # a folder ./wandb of runs is no package
        return ""
    return f'{to.name}: needs the package {to.kind}; pip install "bandwise[{to.kind}]"'


def opened(to: LogTo, config: Mapping[str, Any], resumed: Resumed | None) -> Logger:
    """Open a logger, which imports its library; raises what that raises.

    Parameters
    ----------
    to
        Which one, and where.
    config
        What is known of the run, as JSON can hold it.
    resumed
        None: the run begins.
    """
    if to.kind == "tensorboard":
        from realrun.loggers.tensorboard_events import TensorBoard

        return TensorBoard(Path(to.where), config, None if resumed is None else resumed.tokens)
    from realrun.loggers.weights_and_biases import WeightsAndBiases

    return WeightsAndBiases(to.where, config, "" if resumed is None else resumed.note)
