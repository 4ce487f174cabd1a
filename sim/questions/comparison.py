"""Methods side by side, on equal tokens, against one site alone and with a site left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import nan

from sim.figures.evaluation import Figures
from sim.questions.cost import Cost, cost
from sim.questions.replications import Interval, Prediction, predicted
from sim.questions.variations import single_site, with_sites
from sim.records.scenario import Machine, Scenario
from sim.runtime import TooLarge


@dataclass(frozen=True)
class Entry:
    """One method on one set of sites.

    ``seconds`` is the time for the comparison's token budget; ``speed_up`` is that of the
    best single site over it. ``interval`` is that of ``seconds``, ``replication`` the one that the
    figures are of; a site left out is simulated in that of its method alone. ``update_size`` is the
    tokens per update over the median of the methods compared (the lower one of two).
    """

    method: str
    figures: Figures
    seconds: float
    speed_up: float
    interval: Interval
    replication: int
    left_out: str = ""
    update_size: float = 1.0

    @property
    def other_updates(self) -> bool:
        """Whether updates differ too much from the others' for equal tokens to be comparable."""
        return self.update_size > OTHER_UPDATES or self.update_size < 1 / OTHER_UPDATES


@dataclass(frozen=True)
class Alone:
    """One site on its own with ddp: the time for the tokens, and what it costs."""

    site: str
    seconds: float
    cost: Cost


@dataclass(frozen=True)
class Comparison:
    """All methods for ``tokens``, and each site that differs alone."""

    tokens: float
    entries: list[Entry]
    without: list[Entry]
    alone: list[Alone]

    @property
    def best_site(self) -> str:
        """The site that is fastest alone."""
        return self._best.site

    @property
    def best_site_s(self) -> float:
        """The time that it takes."""
        return self._best.seconds

    @property
    def _best(self) -> Alone:
        return min(self.alone, key=lambda each: each.seconds)


OTHER_UPDATES = 2.0  # times the median
DEFAULT_TOKENS = 100e9  # enough for many updates of any method


def budget(scenario: Scenario) -> float:
    """Tokens on which methods are compared: the horizon in tokens or steps, else 100e9.

    A horizon in rounds is another number of tokens for each method, so it is none here.
    """
    return scenario.horizon_tokens or DEFAULT_TOKENS


def runs_of(scenario: Scenario) -> int:
    """Return how often a method is simulated at most: on all sites, and with each left out."""
    sites = len(scenario.sites)
    return 1 + (sites if sites > 2 else 0)


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
    alone = [
        _alone(name, single_site(first, index), wanted)
        for index, name in _different_sites(first).items()
    ]
    best_s = min(each.seconds for each in alone)

    def entry(method: str, scenario: Scenario, left_out: str = "") -> Entry:
        try:
            prediction = predicted(scenario)
        except TooLarge as error:
            raise TooLarge(f"{method}: {error}") from error
        seconds = prediction.figures.time_for(wanted)
        interval = _of_time(prediction, seconds)
        result, number = prediction.figures, prediction.replication
        return Entry(method, result, seconds, best_s / seconds, interval, number, left_out)

    entries: list[Entry] = []
    without: list[Entry] = []
    on_progress(0, total)
    for method, scenario in cases.items():
        entries.append(entry(method, scenario))
        on_progress(len(entries), total)
    for index, name in leave_out.items():
        kept = [other for other in range(len(first.sites)) if other != index]
        for (method, scenario), whole in zip(cases.items(), entries, strict=True):
            # The difference is what is asked, and shows best under the same random numbers.
            run = replace(scenario.run, replications=1)
            same = replace(scenario, run=run, replication=whole.replication)
            without.append(entry(method, with_sites(same, kept), name))
            on_progress(len(entries) + len(without), total)
    middle = _lower_median([each.figures.tokens_per_update for each in entries])

    def sized(each: Entry) -> Entry:
        return replace(each, update_size=each.figures.tokens_per_update / middle)

    return Comparison(wanted, [*map(sized, entries)], [*map(sized, without)], alone)


def _alone(name: str, scenario: Scenario, tokens: float) -> Alone:
    found = predicted(scenario).figures
    return Alone(name, found.time_for(tokens), cost(scenario, found, tokens))


def _lower_median(values: list[float]) -> float:
    known = sorted(value for value in values if value == value)
    return known[(len(known) - 1) // 2] if known else nan


def _different_sites(scenario: Scenario) -> dict[int, str]:
    """Index and name of the sites that differ; all equal ones stand for any one of them.

    Equal are sites whose workers, own lines and links to all others are the same.
    """
    network = scenario.network
    count = len(scenario.sites)
    same_links = network.bandwidth.common is not None and network.latency.common is not None
    machines: list[list[Machine]] = [[] for _ in scenario.sites]
    for worker in scenario.workers:
        machines[worker.site].append(worker.machine)
    by_worker = any(isinstance(value, tuple) for value in scenario.method.arguments.values())
    nameless = {replace(site, name="") for site in scenario.sites}
    alike = same_links and len(nameless) == 1 and all(m == machines[0] for m in machines)
    if alike and not by_worker and count > 2:
        return {count - 1: f"any one of the {count} equal sites"}
    return {index: site.name for index, site in enumerate(scenario.sites)}


def _of_time(prediction: Prediction, seconds: float) -> Interval:
    """Return the interval of the time for the tokens: that of the wall-clock, in proportion."""
    wall_clock_s = prediction.figures.wall_clock_s
    return prediction.interval.times(seconds / wall_clock_s if wall_clock_s > 0 else 0.0)
