"""What settings cost: of those that were simulated, and at least of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.questions.cost import cost
from sim.scenario.records import Scenario

if TYPE_CHECKING:
    from sim.planning.search import Candidate, Point


def priced(scenario: Scenario) -> bool:
    """Whether some site has a price."""
    tariffs = [site.tariff for site in scenario.sites]
    return any(each.per_hour is not None or each.per_tb is not None for each in tariffs)


def money(point: Point) -> float | None:
    """Return what a simulated setting costs for its tokens; None where nothing is priced."""
    return cost(point.scenario, point.figures, point.tokens).money


def least_money(candidate: Candidate) -> float:
    """Return what a setting costs per token, at least: its least time and its egress."""
    per_hour = 0.0
    for worker in candidate.scenario.workers:
        price = candidate.scenario.sites[worker.site].tariff.per_hour or 0.0
        per_hour += (worker.machine.accelerators or 0) * price
    return per_hour * candidate.token_s / 3600 + candidate.kind.egress_money_per_token
