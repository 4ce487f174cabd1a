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
    from sim.records.scenario import Scenario

_DIFFERENT = 0.02  # of the time per round
_APART = 1.5  # one-way latencies: enough for a notification to arrive first
_WAKES_S = 1e-4  # usual; where messages come a latency apart it decides which of them is first


def runs(scenario: Scenario) -> list[Scenario]:
    """Return what is simulated: the scenario, and those out of step where :func:`warned` asks."""
    return [scenario, *(other for _, other in _out_of_step(scenario))]


def warned(scenario: Scenario, prediction: Prediction) -> Scenario:
    """Return the scenario, with a warning where a start that is not simultaneous changes its pace.

    Only of gloo's messages and of workers of constant times, which cost two simulations more.

    Parameters
    ----------
    scenario
        Of which nobody has said ``run.start_skew``.
    prediction
        Its own.
    """
    other = _other_pace(scenario, prediction)
    if other is None:
        return scenario
    who, theirs = other
    text = (
        f"Workers exactly in step: {who} take {theirs:.3g} s per round instead of "
        f"{a_round_s(prediction.figures):.3g} s. Runs over gloo take either, and change between "
        "them."
    )
    return replace(scenario, warnings=(*scenario.warnings, text))


def other_pace_s(scenario: Scenario, prediction: Prediction) -> float | None:
    """Return the seconds of a round of workers not exactly in step, if that differs.

    Parameters
    ----------
    scenario, prediction
        As for :func:`warned`.
    """
    other = _other_pace(scenario, prediction)
    return None if other is None else other[1]


def _other_pace(scenario: Scenario, prediction: Prediction) -> tuple[str, float] | None:
    """Return who takes another time per round, the one that differs most, and that time."""
    ours = a_round_s(prediction.figures)
    found = []
    for who, other in _out_of_step(scenario):
        try:
            found.append((who, a_round_s(figures(simulate(other)))))
        except SimulationError:
            continue
    if not ours or not found:
        return None
    most = max(found, key=lambda each: abs(each[1] / ours - 1))
    return most if abs(most[1] / ours - 1) >= _DIFFERENT else None


def _out_of_step(scenario: Scenario) -> list[tuple[str, Scenario]]:
    """Return who is not exactly in step, and the scenario of that."""
    run, network = scenario.run, scenario.network
    gloo = network.collectives.algorithm == "gloo"
    if not gloo or scenario.random or run.start_skew_s:
        return []
    latency = max(map(max, network.latency), default=0.0)
    if not latency:
        return []
    skew_s = _APART * latency
    wakes_s = min(_WAKES_S, latency / 10)
    host = replace(network.collectives.host, message_s=wakes_s)
    collectives = replace(network.collectives, host=host)
    return [
        (
            f"ranks that begin {skew_s * 1e3:.3g} ms apart (run.start_skew)",
            replace(scenario, run=replace(run, start_skew_s=skew_s)),
        ),
        (
            f"ranks that wake up after {wakes_s * 1e3:.3g} ms in the mean "
            "(network.collective.message_time)",
            replace(scenario, network=replace(network, collectives=collectives)),
        ),
    ]
