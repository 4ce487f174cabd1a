"""What the prices of a scenario say before anything is simulated."""

from __future__ import annotations

from sim.records.scenario import Scenario


def priced(scenario: Scenario) -> bool:
    """Whether some site has a price."""
    tariffs = [site.tariff for site in scenario.sites]
    return any(each.per_hour is not None or each.per_tb is not None for each in tariffs)


def price_per_second(scenario: Scenario) -> float:
    """Return what all accelerators cost per second, where they are known and priced."""
    per_hour = 0.0
    for worker in scenario.workers:
        price = scenario.sites[worker.site].tariff.per_hour or 0.0
        per_hour += (worker.machine.accelerators or 0) * price
    return per_hour / 3600
