"""What the simulator says of a configuration, from a calibration and from less.

A configuration becomes the document that a user would write, and goes the way of
``bandwise simulate --hardware``: what differs here is what is written, not how it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from realrun.validation.plan import Planned
from sim.replications import Prediction, predicted
from sim.scenario import Scenario
from sim.scenario.document import Change, Document, Given
from sim.scenario.errors import Origin
from sim.scenario.hardware import Hardware, read_hardware
from sim.scenario.links import DEFAULT_BANDWIDTH, DEFAULT_RTT
from sim.scenario.resolve import resolve

_LINKS = (("network", "bandwidth"), ("network", "rtt"), ("network", "latency"))
_ORIGIN = Origin("validation")


def calibration(path: Path) -> Hardware:
    """Read the hardware file of a launch."""
    return read_hardware(path.resolve(), path.name)


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
    return resolve(as_run(each, hardware), hardware)


def alpha_beta(each: Planned, hardware: Hardware) -> Scenario:
    """Return it with the textbook's ring: one-way latencies and bytes over bandwidth."""
    return _by_formula(each, hardware, {})


def bandwidth_only(each: Planned, hardware: Hardware) -> Scenario:
    """Return it with nothing but bytes over bandwidth between computations."""
    return _by_formula(each, hardware, {"network.latency": "0 s"})


def simulated(scenario: Scenario) -> Prediction:
    """Predict just the rounds that were measured."""
    return predicted(scenario)


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
    return resolve(document, replace(hardware, machines=machines))


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
