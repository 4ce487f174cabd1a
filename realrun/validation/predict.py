"""What the simulator says of a configuration, from a calibration and from less.

A configuration becomes the document that a user would write, and goes the way of
``bandwise simulate --hardware``: what differs here is what is written, not how it is read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import nan
from typing import Any

from realrun.islands import by_accelerator
from realrun.validation.archive import Archive, Measured
from realrun.validation.plan import Planned
from sim.figures.evaluation import Figures
from sim.questions.in_step import other_pace_s
from sim.questions.replications import Prediction, a_round_s, predicted
from sim.scenario import Scenario
from sim.scenario.document import Change, Document, Given
from sim.scenario.errors import Origin
from sim.scenario.hardware import Hardware
from sim.scenario.links import DEFAULT_BANDWIDTH, DEFAULT_RTT
from sim.scenario.resolution import resolve
from sim.trace.table import Trace

_LINKS = (("network", "bandwidth"), ("network", "rtt"), ("network", "latency"))
_ORIGIN = Origin("validation")


@dataclass(frozen=True)
class Predicted:
    """What the simulator says of a configuration, computed once for tables and pictures."""

    #: The configuration with what was measured of machine and network filled in.
    scenario: Scenario
    figures: Figures
    #: Seconds of a round by each of the simpler models that the study names.
    simpler_s: Mapping[str, float]
    #: Seconds of a round from the calibration of another launch; nan without one.
    by_other_s: float
    #: Seconds of a round where ranks do not begin at one instant, if that differs; else nan.
    out_of_step_s: float
    #: What happened in the simulation, where it is to be drawn.
    trace: Trace | None


def predict(
    measured: Sequence[Measured],
    baselines: Collection[str],
    other: Archive | None = None,
    drawn: Collection[int] = (),
) -> list[Predicted]:
    """Predict every configuration that was measured from its own launch's calibration.

    Parameters
    ----------
    measured
        What is to be predicted.
    baselines
        Names of the simpler models to predict it by as well, keys of ``BASELINES``.
    other
        A validation whose calibration predicts it as well, or None.
    drawn
        Numbers of the configurations whose predicted trace is wanted.

    Returns
    -------
    list of Predicted
        In the order of ``measured``.
    """
    return [_predicted(each, baselines, other, each.planned.number in drawn) for each in measured]


def _predicted(
    each: Measured, baselines: Collection[str], other: Archive | None, drawn: bool
) -> Predicted:
    hardware = each.launch.hardware
    scenario = as_calibrated(each.planned, hardware)
    found = simulated(scenario, keep=drawn)
    return Predicted(
        scenario,
        found.figures,
        {
            name: a_round_s(simulated(model(each.planned, hardware)).figures)
            for name, model in BASELINES.items()
            if name in baselines
        },
        _by_other_s(each.planned, other),
        nan if (apart := other_pace_s(scenario, found)) is None else apart,
        found.trace if drawn else None,
    )


def _by_other_s(each: Planned, other: Archive | None) -> float:
    there = other.launches(each.workers) if other is not None else []
    if not there:
        return nan
    return a_round_s(simulated(as_calibrated(each, there[-1].hardware)).figures)


def as_run(each: Planned, hardware: Hardware) -> Document:
    """Return what a user would write to predict the runs of a configuration.

    The rounds that are measured and no others: all but the first. Runs are warmed up. Where
    links were measured between these sites, what the study says of their rate and round trip is
    left out; else the network is emulated as the study says.
    """
    rounds = each.scenario.run.rounds
    assert rounds is not None
    document = each.document
    if _links_measured(each.scenario, hardware):
        document = document.without(*_LINKS, ("network", "goodput"))
        network = {}
    else:
        network = _left_to_defaults(document)
    return document.overlaid(
        _changes(
            {
                **network,
                "train.compute_mode": each.mode,
                "run.rounds": rounds,
                "run.measured_rounds": rounds - 1,  # the first is skipped
                "network.first_collective_time": "0 s",
            }
        )
    )


def as_calibrated(each: Planned, hardware: Hardware) -> Scenario:
    """Return a configuration with what was measured of machine and network filled in."""
    return by_accelerator(resolve(as_run(each, hardware), hardware))


def alpha_beta(each: Planned, hardware: Hardware) -> Scenario:
    """Return it with the textbook's ring: one-way latencies and bytes over bandwidth."""
    return _by_formula(each, hardware, {})


def bandwidth_only(each: Planned, hardware: Hardware) -> Scenario:
    """Return it with nothing but bytes over bandwidth between computations."""
    return _by_formula(each, hardware, {"network.latency": "0 s"})


BASELINES = {"bandwidth_only": bandwidth_only, "alpha_beta": alpha_beta}
"""Simpler models, by the names that a study has for them."""


def simulated(scenario: Scenario, *, keep: bool = False) -> Prediction:
    """Predict just the rounds that were measured; ``keep`` as for :func:`predicted`."""
    return predicted(scenario, keep=keep)


def _by_formula(each: Planned, hardware: Hardware, changes: Mapping[str, Any]) -> Scenario:
    """One collective after the other by formula; computation as it was measured, undisturbed."""
    undisturbed = dict.fromkeys(
        ("communication_s_per_byte", "transmission_slowdown", "cold_start", "quantize_s"), None
    )
    machines = {
        name: record.model_copy(update=undisturbed) for name, record in hardware.machines.items()
    }
    plain = {
        "network.collective.algorithm": "ring",
        "network.collective.order": "given",
        "network.collective.concurrent": 1,
    }
    document = as_run(each, hardware).overlaid(_changes({**plain, **changes}))
    return by_accelerator(resolve(document, replace(hardware, machines=machines)))


def _links_measured(scenario: Scenario, hardware: Hardware) -> bool:
    """Whether the file has the links between these sites, as a cluster's calibration does."""
    names = [site.name for site in scenario.sites]
    pairs = list(combinations(names, 2))
    return bool(pairs) and all({f"{a}-{b}", f"{b}-{a}"} & set(hardware.links) for a, b in pairs)


def _left_to_defaults(document: Document) -> dict[str, Any]:
    """Return keys for the links that were emulated without being given."""
    bandwidth, *delays = (document.has(*path) for path in _LINKS)
    found: dict[str, Any] = {}
    if not bandwidth:
        found["network.bandwidth"] = f"{8 * DEFAULT_BANDWIDTH} bit/s"
    if not any(delays):
        found["network.rtt"] = f"{DEFAULT_RTT} s"
    return found


def _changes(keys: Mapping[str, Any]) -> list[Change]:
    return [Change(tuple(key.split(".")), Given(value, _ORIGIN)) for key, value in keys.items()]
