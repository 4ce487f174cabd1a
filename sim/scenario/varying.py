"""From profile, profile_period and background to how the links of a scenario vary over time."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from sim.records.profiles import UNVARIED, Profile, mistake
from sim.records.varying import LINES, place_in, place_of, rate_of, varying
from sim.scenario.context import Context
from sim.scenario.csv_files import read_rows
from sim.scenario.errors import Origin, ScenarioError, did_you_mean, problem
from sim.scenario.fields import MOST_PIECES, read_factor
from sim.scenario.reading import there
from sim.units import format_seconds

if TYPE_CHECKING:
    from sim.records.scenario import Scenario

_COLUMNS = ["time_s", "factor"]
#: What a column may hold, for messages.
_EXAMPLE = {"time_s": "28800", "factor": "0.4"}
_FEW_SITES = 20  # of which all links are looked through for a name that is near
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


def link_profiles(context: Context, names: Sequence[str]) -> tuple[tuple[str, Profile], ...]:
    """Return how the links vary that have keys of their own; ``names`` are those of the sites."""
    network = context.sections.network
    numbers = {name: number for number, name in enumerate(names)}
    known = {**numbers, **dict.fromkeys(context.document.left_out, -1)}
    base = network_shape(context)
    shapes: dict[int | None, tuple[Profile, float]] = {}  # by the site's block; None: of pairs
    found = []
    for name, own in (network.link_profiles or {}).items():
        path = ("network", "link_profiles", name)
        place = place_of(name, known)
        if place is None:
            few = len(names) <= _FEW_SITES
            links = [f"{one}-{other}" for one in names for other in names if one != other] * few
            links += [f"{one}.{line}" for one in names for line in LINES]
            hint = did_you_mean(name, links, "; write it like paris-osaka, or osaka.uplink")
            raise context.refuse_key(*path[:2], text=f'there is no link "{name}"{hint}')
        line, site, other = place
        if site < 0 or other < 0:
            continue  # of a site that was left out
        block = None if line == "pair" else context.block_of[site]
        if block not in shapes:
            of_site, before = base, network.background or 0.0
            if block is not None:
                keys = context.sections.site[block]
                of_site = base if keys.profile is None else _shape(context, "site", block)
                before = before if keys.background is None else keys.background
            shapes[block] = of_site, before
        shape, background = shapes[block]
        if own.profile is not None or own.profile_period is not None:
            shape = _shape_of(context, own.profile, own.profile_period, *path)
        background = background if own.background is None else own.background
        found.append((name, shape.times(1 - background)))
    return tuple(sorted(found, key=lambda each: each[0]))


def check_varying(context: Context, scenario: Scenario) -> None:
    """Refuse profiles that change nothing, and those that no answer can be given for."""
    several = len(scenario.sites) > 1
    sections = context.sections
    for number, site in enumerate(scenario.sites):
        place = context.block_of[number]
        given = [key for key in _KEYS if getattr(sections.site[place], key) is not None]
        if given and several and min(site.uplink, site.downlink) == inf:
            text = "this site's uplink and downlink are unlimited, so nothing varies; give uplink"
            raise context.refuse("site", place, given[0], text=text)
    for name, _ in scenario.network.link_profiles:
        if several and rate_of(scenario, place_in(scenario, name)) == inf:
            text = f'the link "{name}" is unlimited, so nothing varies'
            if scenario.network.per == "site":
                text += "; sites have uplinks and downlinks here, links of pairs have no limit"
            raise context.refuse_key("network", "link_profiles", text=text)
    key: tuple[str | int, ...] = ("network", "profile")
    if sections.network.profile is None:
        own = [n for n, block in enumerate(sections.site) if block.profile is not None]
        key = ("site", own[0], "profile") if own else ("network", "link_profiles")
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


def _shape(context: Context, *path: str | int) -> Profile:
    """Return the profile that a section gives, without background."""
    sections = context.sections
    section = sections.network if path[0] == "network" else sections.site[int(path[1])]
    return _shape_of(context, section.profile, section.profile_period, *path)


def _shape_of(
    context: Context,
    given: str | tuple[tuple[float, float], ...] | None,
    period: float | None,
    *path: str | int,
) -> Profile:
    if given is None:
        if period is not None:
            raise _refuse(context, "goes with profile; give it as well", *path, "profile_period")
        return UNVARIED
    pieces = _from_file(context, given, *path) if isinstance(given, str) else given
    if period is None:
        if pieces[-1][1] == 0:
            text = "its last factor is 0: the link would stay down; give profile_period as well"
            raise _refuse(context, text, *path, "profile", shown=False)
        return Profile.of(pieces)
    if period <= pieces[-1][0]:
        begins = format_seconds(pieces[-1][0])
        text = f"must be longer than the profile, whose last piece begins at {begins}"
        raise _refuse(context, text, *path, "profile_period")
    return Profile.of(pieces, period)


def _refuse(context: Context, text: str, *path: str | int, shown: bool = True) -> ScenarioError:
    """Return the error about a key of the network, of a site or of a link."""
    if path[:2] == ("network", "link_profiles"):  # all links are one value, wherever it was written
        return context.refuse_key(*path[:2], text=f"{path[2]}.{path[3]}: {text}")
    return (context.refuse if shown else context.refuse_key)(*path, text=text)


def _from_file(context: Context, name: str, *path: str | int) -> tuple[tuple[float, float], ...]:
    file, label = context.file(name, *path, "profile")
    if not there(file):
        raise _refuse(context, f"there is no file {label}", *path, "profile")
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
    for column, cell in zip(_COLUMNS, row, strict=True):
        try:
            read.append(float(cell))
        except ValueError:
            text = f"must be a number in column {column}, like {_EXAMPLE[column]}"
            raise wrong(text, cell) from None
    if not isfinite(read[0]) or not 0 <= read[0] <= 1e12:
        raise wrong("must be a time in seconds, counted from the begin of the run", row[0])
    try:
        return read[0], read_factor(read[1])
    except ValueError as error:
        raise wrong(str(error), row[1]) from None
