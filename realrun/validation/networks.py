"""The networks that a validation needs: those of its configurations, and the calibration's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import inf

from realrun.lab.topology import Topology, topology
from realrun.validation.plan import Planned
from sim.scenario import Scenario, Study


@dataclass(frozen=True)
class Network:
    """A network that a lab is asked to be, and a scenario that describes it."""

    scenario: Scenario
    topology: Topology


def calibrated_on(study: Study, plan: Sequence[Planned], workers: int) -> list[Scenario]:
    """Return the networks that the calibration may see: equal links of the study's choice."""
    assert study.validation is not None
    asked = study.validation.calibrate
    base = next(each.scenario for each in plan if each.workers == workers)
    if asked.bandwidth is None or asked.rtt is None:
        return [base]
    return [_equal_links(base, rate, rtt) for rate, rtt in product(asked.bandwidth, asked.rtt)]


def _equal_links(scenario: Scenario, rate: float, rtt_s: float) -> Scenario:
    sites = tuple(replace(site, uplink=inf, downlink=inf) for site in scenario.sites)
    network = scenario.network.with_links(lambda a, b: (rate, rtt_s / 2))
    return replace(scenario, sites=sites, network=network)


def networks(study: Study, plan: Sequence[Planned], workers: int) -> list[Network]:
    """Return every network that workers of this number will ask for, each once."""
    scenarios = calibrated_on(study, plan, workers)
    scenarios += [each.scenario for each in plan if each.workers == workers]
    found: list[Network] = []
    for scenario in scenarios:
        made = topology(scenario)
        if made not in [other.topology for other in found]:
            found.append(Network(scenario, made))
    return found
