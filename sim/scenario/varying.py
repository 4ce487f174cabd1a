"""From profile, profile_period and background to how the links of a scenario vary over time."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from sim.scenario.context import Context
from sim.scenario.csv_files import read_rows
from sim.scenario.errors import Origin, ScenarioError, problem
from sim.scenario.fields import MOST_PIECES, read_factor
from sim.scenario.profiles import UNVARIED, Profile, mistake
from sim.scenario.reading import there
from sim.units import format_seconds

if TYPE_CHECKING:
    from sim.scenario.records import Scenario

_COLUMNS = ["time_s", "factor"]
_KEYS = ("profile", "profile_period", "background")
_SAME = 1e-9  # relative, of periods


def network_shape(context: Context) -> Profile:
    """Return what network.profile says, without background."""
    return _shape(context, "network")


def network_profile(context: Context) -> Profile:
    """Return how links between sites vary where a site says nothing else."""
    return network_shape(context).times(1 - (context.sections.network.background or 0.0))


def site_profile(context: Context, index: int, shape: Profile) -> Profile:
    """Return how the uplink and downlink of a site vary; ``shape`` is that of the network."""
    site, network = context.sections.site[index], context.sections.network
    own = _shape(context, "site", index)
    shape = shape if site.profile is None else own
    background = network.background if site.background is None else site.background
    return shape.times(1 - (background or 0.0))


def check_varying(context: Context, scenario: Scenario, places: Iterable[int]) -> None:
    """Refuse profiles that change nothing, and those that no answer can be given for.

    Parameters
    ----------
    context, scenario
        What was written, and what it came to.
    places
        Of every site, the number of the block that describes it.
    """
    several = len(scenario.sites) > 1
    for place, site in zip(places, scenario.sites, strict=True):
        given = [key for key in _KEYS if getattr(context.sections.site[place], key) is not None]
        if given and several and min(site.uplink, site.downlink) == inf:
            text = "this site's uplink and downlink are unlimited, so nothing varies; give uplink"
            raise context.refuse("site", place, given[0], text=text)
    key: tuple[str | int, ...] = ("network", "profile")
    if context.sections.network.profile is None:
        own = [n for n, block in enumerate(context.sections.site) if block.profile is not None]
        key = ("site", own[0], "profile") if own else key
    periods = sorted({profile.period for profile in varying(scenario)})
    if not periods:
        return
    if periods[-1] == inf:
        run = scenario.run
        ends = run.tokens is not None or run.steps is not None or run.rounds is not None
        if not ends and run.skip_rounds is None and run.measured_rounds is None:
            text = (
                "has no period, so that a run without an end would be its last piece: give "
                "profile_period, or run.tokens, run.steps or run.rounds"
            )
            raise context.refuse_key(*key, text=text)
        return
    for period in periods:
        ratio = periods[-1] / period
        if abs(ratio - round(ratio)) > _SAME * ratio:
            text = (
                f"periods of {format_seconds(period)} and {format_seconds(periods[-1])} do not fit "
                "into each other; let the longest be a multiple of the others"
            )
            raise context.refuse_key(*key, text=text)


def varying(scenario: Scenario) -> list[Profile]:
    """Return the different profiles of limited links between sites that do vary."""
    network = scenario.network
    if len(scenario.sites) < 2:
        return []
    found = [site.profile for site in scenario.sites if min(site.uplink, site.downlink) < inf]
    if network.bandwidth.common != inf:
        found.append(network.profile)
    return [profile for profile in dict.fromkeys(found) if not profile.constant]


def key_of_links(scenario: Scenario) -> str:
    """Return a key because of which links are not always as given; empty where there is none.

    A factor that is always the same is called background, whichever key gave it.
    """
    if len(scenario.sites) < 2:
        return ""
    if scenario.network.profile != UNVARIED:
        return f"network.{_key(scenario.network.profile)}"
    own = [site for site in scenario.sites if site.profile != UNVARIED]
    return f"site.{own[0].name}.{_key(own[0].profile)}" if own else ""


def _key(profile: Profile) -> str:
    return "background" if profile.constant else "profile"


def period_of(scenario: Scenario) -> float | None:
    """Return the seconds after which all links are as before.

    Infinite where a profile ends; None where nothing varies.
    """
    return max((profile.period for profile in varying(scenario)), default=None)


def _shape(context: Context, *path: str | int) -> Profile:
    """Return the profile that a section gives, without background."""
    sections = context.sections
    section = sections.network if path[0] == "network" else sections.site[int(path[1])]
    given, period = section.profile, section.profile_period
    if given is None:
        if period is not None:
            raise context.refuse(*path, "profile_period", text="goes with profile; give it as well")
        return UNVARIED
    pieces = _from_file(context, given, *path) if isinstance(given, str) else given
    if period is None:
        if pieces[-1][1] == 0:
            text = "its last factor is 0: the link would stay down; give profile_period as well"
            raise context.refuse_key(*path, "profile", text=text)
        return Profile.of(pieces)
    if period <= pieces[-1][0]:
        begins = format_seconds(pieces[-1][0])
        text = f"must be longer than the profile, whose last piece begins at {begins}"
        raise context.refuse(*path, "profile_period", text=text)
    return Profile.of(pieces, period)


def _from_file(context: Context, name: str, *path: str | int) -> tuple[tuple[float, float], ...]:
    file, label = context.file(name, *path, "profile")
    if not there(file):
        raise context.refuse(*path, "profile", text=f"there is no file {label}")
    return read_profile(file, label)


def read_profile(path: Path, label: str) -> tuple[tuple[float, float], ...]:
    """Read a CSV file with the columns time_s and factor.

    Raises
    ------
    ScenarioError
        One line: which line of the file, what it holds and what it must be.
    """
    rows = read_rows(path, label, 'write a line "time_s,factor" and one piece per line')
    if rows[0][1] != _COLUMNS:
        text = 'must be the heading, "time_s,factor"'
        raise problem(Origin(label), "line 1", text, ",".join(rows[0][1]))
    if len(rows) == 1:
        raise problem(Origin(label), "", "has no piece; write one per line, like 28800,0.4")
    if len(rows) - 1 > MOST_PIECES:
        raise problem(Origin(label), "", f"must have at most {MOST_PIECES:,} pieces")
    pieces = [_piece(row, label, number) for number, row in rows[1:]]
    if (found := mistake(pieces)) is not None:
        number, row = rows[1 + found[0]]
        raise problem(Origin(label), f"line {number}", found[1], ",".join(row))
    return tuple(pieces)


def _piece(row: list[str], label: str, number: int) -> tuple[float, float]:
    def wrong(text: str, value: str) -> ScenarioError:
        return problem(Origin(label), f"line {number}", text, value)

    if len(row) != 2:
        raise wrong("must hold two numbers, time_s and factor", ",".join(row))
    read = []
    for cell in row:
        try:
            read.append(float(cell))
        except ValueError:
            raise wrong("is not a number", cell) from None
    if not isfinite(read[0]) or not 0 <= read[0] <= 1e12:
        raise wrong("must be a time in seconds, counted from the begin of the run", row[0])
    try:
        return read[0], read_factor(read[1])
    except ValueError as error:
        raise wrong(str(error), row[1]) from None
