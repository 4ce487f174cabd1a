"""What a study or a sweep varies: axes, their points, and what each point is called."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from sim import units
from sim.operations import OPERATIONS
from sim.scenario.advice import hinted, synonym
from sim.scenario.advice import shown as shown_key
from sim.scenario.balance import BALANCED
from sim.scenario.document import Change, Given, flattened
from sim.scenario.errors import Origin, listed, nearest, problem, shown
from sim.scenario.method import method_arguments
from sim.scenario.options import OPTIONS, option_change, read_value, split_key
from sim.scenario.schema import known_keys
from sim.text.visible import controls
from sim.units import Quantity, UnitError

DEFAULT_POINTS = 20

Label = str | float


@dataclass(frozen=True)
class Point:
    """One point of an axis: what it is called, and the keys that it sets."""

    label: Label
    changes: tuple[Change, ...]


def _check_name(name: str, origin: Origin, what: str) -> None:
    if found := controls(name, "\n\t"):
        text = f"{what} must not hold control characters ({found[0]})"
        raise problem(origin, "", text, name)


@dataclass(frozen=True)
class Axis:
    """Something varied. ``name`` heads its column: a key with its unit, or a table's name."""

    name: str
    origin: Origin
    points: tuple[Point, ...]


_RATES = ("bandwidth", "uplink", "downlink", "stream_rate")
_SIZES = ("window", "mss")
_DURATIONS = (
    "rtt",
    "latency",
    "first_collective_time",
    "profile_period",
    *(row.key for row in OPERATIONS.values() if row.key),
)
_FRACTIONS = ("mfu", "compute_efficiency", "goodput", "first_layer_backward", "loss", "background")
_COUNTS = ("tokens", "parameters", "frozen_parameters", "active_parameters", "batch_tokens")

_WITH_UNITS = (
    units.parse_rate,
    units.parse_duration,
    units.parse_flops,
    units.parse_bytes,
    units.parse_power,
)

Reader = Callable[[object], float]


def kind_of(path: Sequence[str]) -> tuple[Reader | None, str]:
    """Return how the values of a key are read, and the unit in its column's name."""
    key = path[-1]
    if path[0] in ("method", "train", "data"):
        return None, ""
    for keys, reader, unit in (
        (_RATES, units.parse_rate, "_bytes_per_s"),
        (_SIZES, units.parse_bytes, "_bytes"),
        (_DURATIONS, units.parse_duration, "_s"),
        (("peak",), units.parse_flops, "_flop_per_s"),
        (("power", "idle_power"), units.parse_power, "_w"),
        (_FRACTIONS, units.parse_fraction, "_fraction"),
        (_COUNTS, units.parse_count, ""),
    ):
        if key in keys:
            return reader, unit
    return None, ""


def column(path: Sequence[str]) -> str:
    """Return the name of the column that holds a key's values."""
    return ".".join(path) + kind_of(path)[1]


def label_of(path: Sequence[str], value: Any) -> Label:
    """Return a value as it stands in its column: in SI units where it is a quantity."""
    reader, _ = kind_of(path)
    if reader is not None and not isinstance(value, dict):
        try:
            return reader(value)
        except UnitError:
            if value == BALANCED:
                return BALANCED
            return shown(value)  # an error with more to say follows when the case is checked
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str | int | float) else shown(value)


def spaced(low: float, high: float, points: int, spacing: str = "log") -> list[float]:
    """Return points from low to high, both included exactly.

    Examples
    --------
    >>> spaced(1.0, 100.0, 3), spaced(0.0, 1.0, 3, "linear")
    ([1.0, 10.0, 100.0], [0.0, 0.5, 1.0])
    """
    steps = max(points - 1, 1)
    if spacing == "log":
        inner = [low * (high / low) ** (i / steps) for i in range(1, points - 1)]
    else:
        inner = [low + (high - low) * (i / steps) for i in range(1, points - 1)]
    return [low, *inner, high]


def read_range(text: str, reader: Reader, spacing: str = "log") -> tuple[float, float]:
    """Read "0.1 .. 1000 Gbit/s"; an end without a unit has the other one's."""
    low_text, dots, high_text = (part.strip() for part in text.partition(".."))
    if not dots or not low_text or not high_text:
        raise UnitError('is not a range; write it like "0.1 .. 1000 Gbit/s"')
    low, high = (reader(part) for part in _same_unit([low_text, high_text]))
    if not low < high:
        raise UnitError("must ascend: the first end must be less than the second")
    if spacing == "log" and low <= 0:
        raise UnitError("must begin above zero, since its points are spaced by a factor")
    return low, high


def _same_unit(texts: Sequence[str]) -> list[str]:
    """Give bare numbers the unit that ends the last one: 10,20,50ms."""
    # Of "1e3" the e3 is no unit.
    unit = r"[-+]?[0-9._]+(?:[eE][-+]?[0-9]+)?\s*((?![eE][-+]?[0-9])[^0-9\s].*)"
    match = re.fullmatch(unit, texts[-1].strip())
    if match is None:
        return list(texts)
    bare = re.compile(r"\s*[-+]?[0-9._]+(?:[eE][-+]?[0-9]+)?\s*")
    return [f"{text} {match[1]}" if bare.fullmatch(text) else text for text in texts]


def study_axis(name: str, content: Any, label: str) -> Axis:
    """Read one entry of [study.axis]: a list of a key's values, or named partial scenarios."""
    quoted = name if re.fullmatch(r"[\w-]+", name) else f'"{name}"'
    key = f"study.axis.{quoted}"
    where = Origin(f"{label}: {key}", names_key=True)
    _check_name(name, where, "an axis's name")
    if not isinstance(content, list | dict):
        raise problem(where, "", "must be a list of values, or a table of named cases", content)
    if not content:
        raise problem(where, "", "must not be empty", content)
    if isinstance(content, list):
        return _list_axis(name, content, where)
    points = []
    for case, partial in content.items():
        _check_name(case, where, "a case's name")
        if isinstance(partial, list):
            hint = f'write the key in quotes: "{name}.{case}" = [...]'
            raise problem(where, "", f"holds a list; {hint}")
        if not isinstance(partial, dict):
            raise problem(
                where, "", f'case "{case}" must be a table, like {{ method = {{ ... }} }}'
            )
        prefix = f'{key}."{case}"'
        for section in ("study", "site"):
            if section == "study" and section in partial:
                raise problem(Origin(label, prefix=prefix), "study", "a case cannot hold a study")
            if isinstance(partial.get(section), list):
                raise problem(
                    Origin(label, prefix=prefix), "site", "write one table; it applies to all sites"
                )
        origin = Origin(label, prefix=prefix)
        changes = tuple(
            Change(path, Given(value, origin)) for path, value in flattened((), partial) if path
        )
        points.append(Point(case, changes))
    return Axis(name, where, tuple(points))


def _list_axis(name: str, values: list[Any], origin: Origin) -> Axis:
    path = split_key(name, origin.label)
    if len(path) < 2 and path[0] not in ("hardware",):
        hint = hinted(path[0], ())
        text = f"a list needs a full key, like network.bandwidth{hint and '; ' + hint}"
        raise problem(origin, "", text)
    points: list[Point] = []
    for value in values:
        label = label_of(path, value)
        if label in [point.label for point in points]:
            raise problem(origin, "", "is listed twice", value)
        points.append(Point(label, (Change(path, Given(value, origin)),)))
    return Axis(column(path), origin, _of_one_kind(points))


def over_axis(text: str, origin: Origin | None = None) -> Axis:
    """Read one ``--over``: key=a,b,c or key=low..high:points, spaced by a factor.

    ``origin`` is what messages call it; by default the option.
    """
    key, equals, values = (part.strip() for part in text.partition("="))
    if not equals or not key or not values:
        raise problem(
            Origin(f"--over {text}"),
            "",
            "write it like --over bandwidth=0.1..1000Gbit/s:50 or --over sync_every=10,100",
        )
    origin = origin or Origin(f"--over {key}", names_key=True, typed=True)
    option, path = key_of(key, origin)
    reads = kind_of(path)[0] is not None
    try:
        points = [
            (value, value if reads else _plain(value)) for value in _over_values(values, path)
        ]
    except UnitError as error:
        raise problem(origin, "", str(error), values) from None
    found: list[Point] = []
    for value, read in points:
        label = label_of(path, read)
        if label in [point.label for point in found]:
            raise problem(origin, "", "is listed twice", value)
        if option is not None and isinstance(value, str):
            change = option_change(option, value, origin)
        else:
            change = Change(path, Given(read, origin, shown_value(value)))
        found.append(Point(label, (change,)))
    return axis_of(path, origin, found)


def axis_of(path: Sequence[str], origin: Origin, points: Sequence[Point]) -> Axis:
    """Return the axis that varies one key; its name is the column of that key's values."""
    name = "site.count" if path == ("sites",) else column(path)
    return Axis(name, origin, _of_one_kind(points))


def _of_one_kind(points: Sequence[Point]) -> tuple[Point, ...]:
    """Label all points by text where some are: a table's column holds one kind of value."""
    if any(isinstance(point.label, str) for point in points):
        return tuple(replace(point, label=str(point.label)) for point in points)
    return tuple(points)


def _plain(value: Any) -> Any:
    return read_value(value) if isinstance(value, str) else value


def shown_value(value: Any) -> str | None:
    """Return what a message shows for a point that was computed, not typed."""
    return None if isinstance(value, str) else f"{value:g}"


def key_of(key: str, origin: Origin) -> tuple[str | None, tuple[str, ...]]:
    """Find the key that a short or full name means, and the option that sets it, if one does."""
    option = f"--{key.replace('_', '-')}"
    if option in OPTIONS:
        return option, tuple(OPTIONS[option].key.split("."))
    if "." in key:
        return None, split_key(key, origin.label)
    known = [path for path in known_keys() if not path.startswith("site.inside.")]
    matches = [path for path in known if path.rpartition(".")[2] == key]
    if len(matches) == 1:
        return None, tuple(matches[0].split("."))
    if matches:
        raise problem(origin, "", f"may mean {listed(matches)}; write the full key")
    arguments = method_arguments()
    if key in arguments:
        return None, ("method", key)
    names = [name.removeprefix("--").replace("-", "_") for name in OPTIONS]
    called = synonym(key)
    if called is not None:
        called = "sites" if called == "site" else shown_key(called)
        raise problem(origin, "", f"unknown key; here it is called {called}")
    match = nearest(key, [*names, *arguments])
    hint = f"did you mean {match}?" if match else "name a key, like bandwidth or network.rtt"
    raise problem(origin, "", f"unknown key; {hint}")


def _over_values(text: str, path: tuple[str, ...]) -> Iterator[Any]:
    reader, _ = kind_of(path)
    if ".." not in text:
        for item in _same_unit(text.split(",")) if reader else text.split(","):
            if not item.strip():
                raise UnitError("has an empty value; write values joined by commas")
            yield item.strip()
        return
    ends, colon, points_text = text.partition(":")
    points = DEFAULT_POINTS
    if colon:
        number = read_value(points_text)
        if isinstance(number, bool) or not isinstance(number, int) or not 2 <= number <= 10_000:
            raise UnitError(
                "must say how many points, from 2 to 10000, after the colon, like 1..100:20"
            )
        points = number
    low, high = read_range(ends, reader or _number)
    values = spaced(low, high, points)
    if reader in _WITH_UNITS:
        yield from map(Quantity, values)
    elif reader is units.parse_count or (low == int(low) and high == int(high)):
        # Whole numbers at both ends: whole numbers between, each once.
        yield from dict.fromkeys(round(value) for value in values)
    else:
        yield from values


def _number(value: object) -> float:
    number = read_value(str(value))
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise UnitError("must be a range of numbers, like 10..1000:3")
    if not isfinite(number):
        raise UnitError("must end at finite numbers, like 10..1000:3")
    return number
