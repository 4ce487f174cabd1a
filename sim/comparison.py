"""Methods side by side, on equal tokens, against one site alone and with a site left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import nan

from sim.figures import Figures, figures
from sim.runtime import TooLarge, simulate
from sim.scenario.resolved import Scenario
from sim.subsets import single_site, with_sites


@dataclass(frozen=True)
class Entry:
    """One method on one set of sites.

    ``seconds`` is the time for the comparison's token budget; ``speed_up`` is that of the
    best single site over it. ``update_size`` is the tokens per update over the median of the
    methods compared (the lower one of two).
    """

    method: str
    figures: Figures
    seconds: float
    speed_up: float
    left_out: str = ""
    update_size: float = 1.0

    @property
    def other_updates(self) -> bool:
        """Whether updates differ too much from the others' for equal tokens to be comparable."""
        return not 1 / OTHER_UPDATES <= self.update_size <= OTHER_UPDATES


@dataclass(frozen=True)
class Comparison:
    """All methods for ``tokens``; ``best_site`` alone (ddp inside it) takes ``best_site_s``."""

    tokens: float
    entries: list[Entry]
    without: list[Entry]
    best_site: str
    best_site_s: float


OTHER_UPDATES = 2.0  # times the median
DEFAULT_TOKENS = 100e9  # enough for many updates of any method


def budget(scenario: Scenario) -> float:
    """Tokens on which methods are compared: the horizon in tokens or steps, else 100e9.

    A horizon in rounds is another number of tokens for each method, so it is none here.
    """
    return scenario.horizon_tokens or DEFAULT_TOKENS


def compare(
    cases: Mapping[str, Scenario],
    tokens: float | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Simulate every case under common random numbers and relate them on equal tokens.

    Parameters
    ----------
    cases
        Method name -> scenario; they differ in the method alone.
    tokens
        Token budget; by default :func:`budget` of the first case. Times are taken at the
        evaluated rounds' rate, so that methods with long rounds are not favored or hurt by where
        the horizon cuts them.
    on_progress
        Called with runs done and runs in all.

    Returns
    -------
    Comparison
        ``without`` has an entry for each method and each site left out (three sites or more).
    """
    first = next(iter(cases.values()))
    wanted = tokens or budget(first)
    leave_out = _different_sites(first) if len(first.sites) > 2 else {}
    total = len(cases) * (1 + len(leave_out))
    alone = {
        name: _figures(single_site(first, index)).time_for(wanted)
        for index, name in _different_sites(first).items()
    }
    best_site = min(alone, key=alone.__getitem__)
    best_s = alone[best_site]

    def entry(method: str, scenario: Scenario, left_out: str = "") -> Entry:
        try:
            result = _figures(scenario)
        except TooLarge as error:
            raise TooLarge(f"{method}: {error}") from error
        seconds = result.time_for(wanted)
        return Entry(method, result, seconds, best_s / seconds, left_out)

    entries: list[Entry] = []
    without: list[Entry] = []
    on_progress(0, total)
    for method, scenario in cases.items():
        entries.append(entry(method, scenario))
        on_progress(len(entries), total)
    for index, name in leave_out.items():
        kept = [other for other in range(len(first.sites)) if other != index]
        for method, scenario in cases.items():
            without.append(entry(method, with_sites(scenario, kept), name))
            on_progress(len(entries) + len(without), total)
    middle = _lower_median([each.figures.tokens_per_update for each in entries])

    def sized(each: Entry) -> Entry:
        return replace(each, update_size=each.figures.tokens_per_update / middle)

    return Comparison(wanted, [*map(sized, entries)], [*map(sized, without)], best_site, best_s)


def _lower_median(values: list[float]) -> float:
    known = sorted(value for value in values if value == value)
    return known[(len(known) - 1) // 2] if known else nan


def _different_sites(scenario: Scenario) -> dict[int, str]:
    """Index and name of the sites that differ; all equal ones stand for any one of them.

    Equal are sites whose workers, own lines and links to all others are the same.
    """
    network = scenario.network
    count = len(scenario.sites)
    others = [
        (network.bandwidth[a][b], network.latency[a][b])
        for a in range(count)
        for b in range(count)
        if a != b
    ]
    machines = [
        [worker.machine for worker in scenario.workers if worker.site == index]
        for index in range(count)
    ]
    by_worker = any(isinstance(value, tuple) for value in scenario.method.arguments.values())
    nameless = {replace(site, name="") for site in scenario.sites}
    alike = len(nameless) == len(set(others)) == 1 and all(m == machines[0] for m in machines)
    if alike and not by_worker and count > 2:
        return {count - 1: f"any one of the {count} equal sites"}
    return {index: site.name for index, site in enumerate(scenario.sites)}


def _figures(scenario: Scenario) -> Figures:
    return figures(simulate(scenario), scenario)
