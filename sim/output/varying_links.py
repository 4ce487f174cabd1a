"""What is said of links that vary: of what they carry, and how much of that was evaluated."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from sim.figures.whole_periods import evaluated_periods
from sim.output.tables import quantity
from sim.records.profiles import UNVARIED, Profile
from sim.records.varying import of_links, period_of
from sim.scenario.errors import listed

if TYPE_CHECKING:
    from sim.figures.evaluation import Figures
    from sim.records.scenario import Scenario

_NAMED = 4  # profiles, and sites of one profile
_WHOLE = 0.02  # of a period, what may be missing or be too much


def said(scenario: Scenario, *results: Figures) -> list[str]:
    """Say how links vary, and which part of that the evaluated rounds cover; nothing if they don't.

    ``results`` are of this scenario, or of several with the same links.
    """
    profiles = _profiles(scenario)
    if not profiles:
        return []
    parts = [f"{where}: {_of(profile)}" for where, profile in list(profiles.items())[:_NAMED]]
    if len(profiles) > _NAMED:
        parts.append(f"{len(profiles) - _NAMED} more profiles")
    lines = [f"Links are not always as given. {'; '.join(parts)[0].upper()}{'; '.join(parts)[1:]}."]
    period = period_of(scenario)
    if period is not None and results:
        lines.append(_covered(scenario, period, results))
    return lines


def record(scenario: Scenario, result: Figures) -> dict[str, Any] | None:
    """Return the same as JSON has it; None where links are as given."""
    profiles = _profiles(scenario)
    if not profiles:
        return None
    period = period_of(scenario)
    return {
        "period_s": None if period in (None, inf) else period,
        "evaluated_periods": evaluated_periods(scenario, result),
        "pieces_simulated_shorter_by": result.shortened,
        "factors": [
            {
                "links": where,
                "least": profile.least,
                "most": profile.most,
                "mean": profile.mean,
                "pieces": len(profile.factors),
            }
            for where, profile in profiles.items()
        ],
    }


def _profiles(scenario: Scenario) -> dict[str, Profile]:
    """Return what differs from the bandwidth as given, by the links that have it."""
    links, pairs = of_links(scenario)
    names = [site.name for site in scenario.sites]
    own: dict[Profile, list[str]] = {}  # links of pairs first
    lines: dict[Profile, list[str]] = {}
    for (line, site, other), profile in links.items():
        if line == "pair":
            own.setdefault(profile, []).append(f"{names[site]}-{names[other]}")
        elif links.get(("uplink", site, site)) != links.get(("downlink", site, site)):
            own.setdefault(profile, []).append(f"{names[site]}.{line}")
        elif line == "uplink":
            lines.setdefault(profile, []).append(names[site])
    unlimited = scenario.network.bandwidth.common == inf
    everywhere = "all other links between sites" if own else "all links between sites"
    found: dict[str, Profile] = {}
    for profile, sites in lines.items():
        if len(lines) == 1 and (unlimited or pairs == profile):
            found[everywhere], unlimited = profile, True
        else:
            found[f"uplink and downlink of {_few(sites, 'sites')}"] = profile
    if not unlimited:
        found["links between pairs of sites" if lines else everywhere] = pairs
    found = {_few(links_, "links"): profile for profile, links_ in own.items()} | found
    return {where: profile for where, profile in found.items() if profile != UNVARIED}


def _few(names: list[str], what: str) -> str:
    return listed(names, "and") if len(names) <= _NAMED else f"{len(names)} {what}"


def _of(profile: Profile) -> str:
    if profile.constant:
        return f"{profile.most:.3g} times the bandwidth"
    text = f"{profile.least:.3g} to {profile.most:.3g} times the bandwidth"
    if profile.period == inf:
        return f"{text}, {profile.mean:.3g} from {quantity(profile.begins[-1], 'seconds')} on"
    return f"{text}, {profile.mean:.3g} on average over {quantity(profile.period, 'seconds')}"


def _covered(scenario: Scenario, period: float, results: tuple[Figures, ...]) -> str:
    if period == inf:
        return "The profile does not repeat; figures are of the run from its begin."
    covered = [evaluated_periods(scenario, result) or 0.0 for result in results]
    some = f"{min(covered):.3g}"
    if f"{max(covered):.3g}" != some:
        some += f" to {max(covered):.3g}"
    periods = "period" if some == "1" else "periods"
    text = f"The evaluated rounds take {some} {periods} of {quantity(period, 'seconds')}"
    if any(abs(each - max(1, round(each))) > _WHOLE for each in covered):
        text += ", not a whole number: figures are of that part"
    shortened = max(result.shortened for result in results)
    if shortened > 1:
        text += (
            f"; rounds are short, so pieces of the profile were simulated up to {shortened:.3g} "
            "times shorter, with fewer rounds"
        )
    return f"{text}."
