"""Methods side by side, on equal tokens, against one site alone and with a site left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sim.figures import Figures, figures
from sim.runtime import simulate
from sim.scenario.resolved import Scenario
from sim.subsets import single_site, with_sites


@dataclass(frozen=True)
class Entry:
    """One method on one set of sites.

    ``seconds`` is the time for the comparison's token budget; ``speed_up`` is that of the
    best single site over it.
    """

    method: str
    figures: Figures
    seconds: float
    speed_up: float
    left_out: str = ""


@dataclass(frozen=True)
class Comparison:
    """All methods for ``tokens``; ``best_site`` alone (ddp inside it) takes ``best_site_s``."""

    tokens: float
    entries: list[Entry]
    without: list[Entry]
    best_site: str
    best_site_s: float


def compare(cases: Mapping[str, Scenario], tokens: float | None = None) -> Comparison:
    """Simulate every case under common random numbers and relate them on equal tokens.

    Parameters
    ----------
    cases
        Method name -> scenario; they differ in the method alone.
    tokens
        Token budget; by default the scenario's own horizon in tokens, else 1e9. Times are
        taken at the window's rate, so that methods with long rounds are not favoured or
        hurt by where the horizon cuts them.

    Returns
    -------
    Comparison
        ``without`` has an entry for each method and each site left out (three sites or more).
    """
    first = next(iter(cases.values()))
    budget = tokens or first.run.tokens or 1e9
    alone = {
        site.name: _figures(single_site(first, index)).time_for(budget)
        for index, site in enumerate(first.sites)
    }
    best_site = min(alone, key=alone.__getitem__)
    best_s = alone[best_site]

    def entry(method: str, scenario: Scenario, left_out: str = "") -> Entry:
        result = _figures(scenario)
        seconds = result.time_for(budget)
        return Entry(method, result, seconds, best_s / seconds, left_out)

    entries = [entry(method, scenario) for method, scenario in cases.items()]
    without = []
    if len(first.sites) > 2:
        for index, site in enumerate(first.sites):
            kept = [other for other in range(len(first.sites)) if other != index]
            without += [
                entry(method, with_sites(scenario, kept), site.name)
                for method, scenario in cases.items()
            ]
    return Comparison(budget, entries, without, best_site, best_s)


def _figures(scenario: Scenario) -> Figures:
    return figures(simulate(scenario), scenario)
