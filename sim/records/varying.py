"""How the links of a scenario vary over time: which do, how, and when all repeats."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from sim.records.profiles import UNVARIED, Profile
from sim.records.scenario import Scenario

Place = tuple[str, int, int]
"""A link: "pair" and the numbers of two sites, or "uplink" or "downlink" and one, twice."""

LINES = ("uplink", "downlink")


def place_of(name: str, sites: Mapping[str, int]) -> Place | None:
    """Return where the link of a name is: "paris-osaka", "osaka.uplink"; None if nowhere.

    Parameters
    ----------
    name
        As people write it.
    sites
        Numbers of sites, by name.
    """
    site, dot, line = name.rpartition(".")
    if dot and line in LINES and site in sites:
        return line, sites[site], sites[site]
    for at in (at for at, letter in enumerate(name) if letter == "-"):
        one, other = name[:at], name[at + 1 :]
        if one in sites and other in sites and one != other:
            return "pair", sites[one], sites[other]
    return None


def of_links(scenario: Scenario) -> tuple[dict[Place, Profile], Profile]:
    """Return how links between sites vary that are limited.

    Returns
    -------
    dict
        Of every uplink and downlink, and of links of pairs that have their own profile.
    Profile
        Of all other links of pairs.
    """
    network, sites = scenario.network, scenario.sites
    found: dict[Place, Profile] = {}
    if len(sites) < 2:
        return found, UNVARIED
    for number, site in enumerate(sites):
        for line, rate in zip(LINES, (site.uplink, site.downlink), strict=True):
            if rate < inf:
                found[line, number, number] = site.profile
    own = {place_in(scenario, name): profile for name, profile in network.link_profiles}
    found |= {place: each for place, each in own.items() if rate_of(scenario, place) < inf}
    return found, UNVARIED if network.bandwidth.common == inf else network.profile


def place_in(scenario: Scenario, name: str) -> Place:
    """Return where the link of a name is, which is known to be there."""
    place = place_of(name, {site.name: number for number, site in enumerate(scenario.sites)})
    assert place is not None
    return place


def rate_of(scenario: Scenario, place: Place) -> float:
    """Return the bytes/s of a link."""
    line, site, other = place
    if line == "pair":
        return scenario.network.bandwidth.between(site, other)
    return float(getattr(scenario.sites[site], line))


def varying(scenario: Scenario) -> list[Profile]:
    """Return the different profiles of limited links between sites that do vary."""
    found, pairs = of_links(scenario)
    return [each for each in dict.fromkeys([*found.values(), pairs]) if not each.constant]


def key_of_links(scenario: Scenario) -> str:
    """Return a key because of which links are not always as given; empty where there is none.

    A factor that is always the same is called background, whichever key gave it.
    """
    if len(scenario.sites) < 2:
        return ""
    if scenario.network.profile != UNVARIED:
        return f"network.{_key(scenario.network.profile)}"
    own = [site for site in scenario.sites if site.profile != UNVARIED]
    if own:
        return f"site.{own[0].name}.{_key(own[0].profile)}"
    links = [name for name, profile in scenario.network.link_profiles if profile != UNVARIED]
    return f'network.link_profiles."{links[0]}"' if links else ""


def _key(profile: Profile) -> str:
    return "background" if profile.constant else "profile"


def period_of(scenario: Scenario) -> float | None:
    """Return the seconds after which all links are as before.

    Infinite where a profile ends; None where nothing varies.
    """
    return max((profile.period for profile in varying(scenario)), default=None)
