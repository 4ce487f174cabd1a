"""Whether workers that are not in step stay so, and what a run then takes.

Of two workers that exchange gloo's messages, the later one finds the other's notification there.
Its data go first and its own notification after them, so the other's data leave only then: the
two directions of a link are used one after the other, and the later worker stays the later one.
Workers exactly in step, which only a simulation has, never get there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sim.figures.evaluation import figures
from sim.questions.replications import a_round_s
from sim.runtime import SimulationError, simulate

if TYPE_CHECKING:
    from sim.questions.replications import Prediction
    from sim.scenario.records import Scenario

_DIFFERENT = 0.02  # of the time per round
_APART = 1.5  # one-way latencies: enough for a notification to arrive first


def runs(scenario: Scenario) -> list[Scenario]:
    """Return what is simulated: the scenario, and the one out of step where :func:`warned` asks."""
    return [scenario, *filter(None, [_out_of_step(scenario)])]


def warned(scenario: Scenario, prediction: Prediction) -> Scenario:
    """Return the scenario, with a warning where a start that is not simultaneous changes its pace.

    Only of gloo's messages and of workers of constant times, which cost one simulation more.

    Parameters
    ----------
    scenario
        Of which nobody has said ``run.start_skew``.
    prediction
        Its own.
    """
    other = _out_of_step(scenario)
    if other is None:
        return scenario
    try:
        found = figures(simulate(other))
    except SimulationError:
        return scenario
    ours, theirs = a_round_s(prediction.figures), a_round_s(found)
    if not ours or abs(theirs / ours - 1) < _DIFFERENT:
        return scenario
    text = (
        f"Workers exactly in step: ranks that begin {other.run.start_skew_s * 1e3:.3g} ms apart "
        f"take {theirs:.3g} s per round instead of {ours:.3g} s, and stay so (run.start_skew), "
        "as was measured over gloo."
    )
    return replace(scenario, warnings=(*scenario.warnings, text))


def _out_of_step(scenario: Scenario) -> Scenario | None:
    run = scenario.run
    gloo = scenario.network.collectives.algorithm == "gloo"
    if not gloo or scenario.random or run.start_skew_s:
        return None
    latency = max(map(max, scenario.network.latency), default=0.0)
    if not latency:
        return None
    return replace(scenario, run=replace(run, start_skew_s=_APART * latency))
