"""What ``overlap = "layer"`` would give, where nobody said how to overlap."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

from sim.methods import METHODS
from sim.network.gloo import SEGMENT_BYTES
from sim.questions.alternative import Alternative, Unasked, alternative

if TYPE_CHECKING:
    from sim.questions.replications import Prediction
    from sim.records.scenario import Scenario
    from sim.trace.table import Trace

_KEY = "method.overlap"
_MOST_EVENTS = 100_000  # of a simulation: a second or two


def with_layer_overlap(scenario: Scenario, prediction: Prediction) -> Alternative | None:
    """Simulate the scenario once more with ``overlap = "layer"``.

    Parameters
    ----------
    scenario
        Whose ``method.overlap`` is a default.
    prediction
        Its own, which tells what another simulation costs and which replication is the median.

    Returns
    -------
    Alternative or None
        None where ``overlap`` was given, or the method does not overlap by layers with its other
        arguments.
    """
    method = scenario.method
    assumed = dict(scenario.assumed).get(_KEY)
    if assumed is None or assumed == "layer" or METHODS.get(method.name) is not method.program:
        return None
    unasked = Unasked(
        "layer_overlap",
        _KEY,
        assumed,
        '"layer"',
        f"--set {_KEY}=layer",
        needs="no clipping by the global norm",
    )
    layered = replace(method, arguments={**method.arguments, "overlap": "layer"})
    long = _events(scenario, prediction.trace) > _MOST_EVENTS
    return alternative(unasked, replace(scenario, method=layered), prediction, long=long)


def _events(scenario: Scenario, happened: Trace) -> int:
    """Return about how many events the layered run has: rows, or gloo's messages.

    A step that is taken layer by layer has up to six rows a layer.
    """
    ranks, rounds = len(happened.context.standing_for), len(happened.round_begins())
    rows = len(happened.rows) + 6 * ranks * rounds * scenario.model.layers
    if scenario.network.collectives.algorithm != "gloo":
        return rows
    workers = len(scenario.workers)
    messages = (
        2 * max(ceil(row.bytes / SEGMENT_BYTES), 2 * workers)
        for row in happened.rows
        if row.bytes > 0
    )
    return rows + sum(messages)
