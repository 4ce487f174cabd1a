"""Keywords of a call in Python: the options and keys of the command line, with typed values.

A number is in SI units (seconds, bytes, bytes/s, FLOP/s), text is read as the command line reads
it, and a function stands for a method. Each becomes a key of a scenario file, so that nothing else
has to know where it was given.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any, cast

from sim import units
from sim.scenario.axes import Axis, Label, Point, axis_of, key_of, kind_of, label_of, over_axis
from sim.scenario.document import Change, Given, flattened
from sim.scenario.errors import Origin, problem
from sim.scenario.method import OfFunction, method_arguments, parameters_of, per_worker
from sim.scenario.options import OPTIONS, option_change, read_jitter, read_typed, split_key
from sim.scenario.schema import SECTIONS
from sim.units import Quantity, format_rate

_SECTIONS = [path[0] for path in SECTIONS if len(path) == 1]
_LISTS = ("sites", "model.layer_parameters", "network.order", "network.collective.order")
_AS_IT_IS = ("method", "data")  # sections whose numbers are not checked against a unit
_UNITS = (
    units.parse_rate,
    units.parse_duration,
    units.parse_flops,
    units.parse_bytes,
    units.parse_power,
)


def keyword_changes(keywords: Mapping[str, Any], method: object = None) -> list[Change]:
    """Turn keywords into the keys that they set.

    Parameters
    ----------
    keywords
        Name -> value. A name is an option's, with underscores (``sync_every``), a section's with a
        dict for its value (``network={"per": "pair"}``), an argument of the method's, or a key's
        own name where only one section has it. None leaves it out.
    method
        The one that is given already, if any: its own arguments are keywords, too.

    Raises
    ------
    ScenarioError
        One line: which keyword, what was given, and what to write instead.
    """
    own = _arguments_of(keywords.get("method") or method)
    changes: dict[tuple[str, ...], Change] = {}
    for name, value in keywords.items():
        if value is None:
            continue
        for change in _changes(name, value, own):
            if change.path in changes:
                first = changes[change.path].given.origin.label
                text = f"{'.'.join(change.path)} is given by {first} already; leave one of them out"
                raise problem(change.given.origin, "", text)
            changes[change.path] = change
    return list(changes.values())


def key_changes(settings: Mapping[str, Any]) -> list[Change]:
    """Turn full keys with their values into changes, as ``--set`` does for text."""
    found: dict[tuple[str, ...], Change] = {}
    for key, value in settings.items():
        if not isinstance(key, str):
            raise problem(Origin("settings"), "", "its keys are text, like network.rtt", key)
        origin = Origin(f'settings["{key}"]', names_key=True, typed=True)
        read = read_typed(value, origin) if isinstance(value, str) else value
        for path, item in flattened(split_key(key, origin.label), read):
            if path == ("site",):
                raise problem(origin, "", "name a key, like site.step_time")
            found[path] = Change(path, _given(path, item, origin))
    return list(found.values())


def keyword_axis(name: str, values: Any, method: object = None) -> Axis:
    """Return the axis that varies one key over some values.

    Parameters
    ----------
    name
        As for :func:`keyword_changes`, or a full key.
    values
        Several values, or text as after ``--over``: "0.1..100Gbit/s:25" or "10,100".
    method
        The method of the scenario, whose own arguments may be varied.
    """
    origin = Origin(name, names_key=True, typed=True)
    own = _arguments_of(method)
    if isinstance(values, str):
        key = f"method.{name}" if name in own else name
        return over_axis(f"{key}={values}", origin)
    if not _several(values):
        text = f"give several values, like {name}=[...]"
        raise problem(origin, "", text, values if isinstance(values, Real) else _kind_named(values))
    option, path = (None, ("method", name)) if name in own else key_of(name, origin)
    points: list[Point] = []
    for value in _listed(values):
        change = _one(path, option, value, origin)
        label = _label(path, value, change.given.value)
        if label in [point.label for point in points]:
            text = "is listed twice"
            if isinstance(change.given.value, OfFunction):
                text = "two functions have this name; give one of them another __qualname__"
            raise problem(origin, "", text, str(label) if callable(value) else value)
        points.append(Point(label, (change,)))
    if not points:
        raise problem(origin, "", f"give at least one value, like {name}=[...]")
    return axis_of(path, origin, points)


def rates_of(changes: Iterable[Change]) -> list[tuple[str, str]]:
    """Return the bandwidths that were given as numbers: key, and what they were taken for."""
    return [
        (".".join(change.path), f"{format_rate(change.given.value)} (a number is in bytes/s)")
        for change in changes
        if kind_of(change.path)[0] is units.parse_rate
        and isinstance(change.given.value, Quantity)
        and change.given.value > 0
    ]


def _changes(name: str, value: Any, own: Iterable[str]) -> list[Change]:
    origin = Origin(name, names_key=True, typed=True)
    if name in own:
        return [_one(("method", name), None, value, origin)]
    if isinstance(value, Mapping) and name in _SECTIONS:
        return [
            Change(path, _given(path, item, Origin(".".join(path), names_key=True, typed=True)))
            for path, item in flattened((name,), value)
            if path != (name,)
        ]
    if name in _SECTIONS and name not in ("model", "method"):
        raise problem(origin, "", f"is a section; give a dict, like {_EXAMPLES[name]}")
    if name == "name":
        return [Change(("name",), Given(value, origin))]
    option, path = key_of(name, origin)
    return [_one(path, option, value, origin)]


_EXAMPLES = {
    "run": 'run={"measured_rounds": 8}',
    "site": 'site={"speed": 0.5}, or of one site site={"osaka": {"speed": 0.5}}',
    "network": 'network={"per": "pair"}',
    "memory": 'memory={"activations": "none"}, or of an accelerator site={"memory": "80 GB"}',
    "train": 'train={"average_by": "tokens"}',
    "data": 'data={"kind": "text"}',
}


def _one(path: tuple[str, ...], option: str | None, value: Any, origin: Origin) -> Change:
    """Return the change that one value of one key is."""
    if option == "--hardware" and isinstance(value, PurePath):
        value = str(value)
    if isinstance(value, str):
        if option is not None:
            return option_change(option, value, origin)
        return Change(path, Given(read_typed(value, origin), origin, value.strip()))
    if _several(value) and not _takes_list(path) and not any(map(_several, value)):
        name = origin.label
        written = f"sim.sweep(scenario, {name}=[...])" if name.isidentifier() else "sim.sweep"
        text = f"one value makes a scenario; several are an axis: {written} varies it"
        raise problem(origin, "", text, _listed(value))
    if option == "--model" and isinstance(value, Real):
        path = ("model", "parameters")
    if option == "--jitter" and not isinstance(value, Mapping):
        return Change(path, Given(read_jitter(_scalar(value, origin), origin), origin))
    if option == "--sites":
        return Change(path, Given(_sites(value, origin), origin))
    return Change(path, _given(path, value, origin))


def _given(path: tuple[str, ...], value: Any, origin: Origin) -> Given:
    value = _plain(value, origin) if path != ("method", "name") else _method(value, origin)
    if path[-1] == "profile" and isinstance(value, list):  # begins in seconds, and factors
        value = [list(map(_quantity, each)) if isinstance(each, list) else each for each in value]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and path[0] not in _AS_IT_IS:
        if not isfinite(value):
            raise problem(origin, "", "must be a finite number", value)
        if abs(value) < 2**53:  # a larger one is a count, and exact
            value = Quantity(value)
    return Given(value, origin)


def _quantity(value: Any) -> Any:
    bare = isinstance(value, int | float) and not isinstance(value, bool)
    return Quantity(value) if bare and isfinite(value) else value


def _plain(value: Any, origin: Origin) -> Any:
    """Return a value of the kinds that a file can hold."""
    if isinstance(value, Mapping):
        return {_key(key, origin): _plain(item, origin) for key, item in value.items()}
    if _several(value):
        return [_plain(item, origin) for item in _listed(value)]
    return _scalar(value, origin)


def _method(value: Any, origin: Origin) -> Any:
    if isinstance(value, str):
        return value
    if inspect.isfunction(value) or inspect.ismethod(value):
        return OfFunction.of(value)
    text = f"{_kind_named(value)} is no method; give a name or a generator function"
    raise problem(origin, "", text)


def _key(key: object, origin: Origin) -> str:
    if not isinstance(key, str):
        raise problem(origin, "", "the keys of a dict are names, as in a file", key)
    return key


def _scalar(value: Any, origin: Origin) -> Any:
    if isinstance(value, bool | str):
        return value
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # of numpy
        value = value.item()
        if isinstance(value, bool | str):
            return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return value if isinstance(value, Quantity) else float(value)
    if isinstance(value, PurePath):
        return str(value)
    text = f"{_kind_named(value)} is nothing that a key can hold; give a number or text"
    raise problem(origin, "", text)


def _sites(value: Any, origin: Origin) -> int | list[str]:
    if isinstance(value, Integral) and not isinstance(value, bool):
        if value < 1:
            raise problem(origin, "", "must be at least 1", int(value))
        return int(value)
    names = _listed(value) if _several(value) else []
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        text = 'give a number, or names like ["paris", "dallas"]'
        raise problem(origin, "", text, names or str(value))
    return [name.strip() for name in names]


def _takes_list(path: tuple[str, ...]) -> bool:
    """Whether a list is one value of this key; of a user's method nothing is known."""
    from sim.methods import METHODS

    if path[0] != "method" or len(path) < 2:
        listed = ".".join(path) in _LISTS or path[-1] == "profile"  # of the network, of a site
        return listed or path[0] in ("train", "data")
    if path[1] == "name":
        return False
    known = [parameters_of(method).annotations for method in METHODS.values()]
    takes = [each[path[1]] for each in known if path[1] in each]
    return not takes or any(per_worker(annotation) for annotation in takes)


def _label(path: tuple[str, ...], value: Any, given: Any) -> Label:
    """Return what a value is called in its column, as for the same value of the command line."""
    if isinstance(given, OfFunction):
        return str(given)
    reader = kind_of(path)[0]
    if isinstance(value, str):
        return label_of(path, value if reader else read_typed(value, Origin("")))
    if isinstance(value, Real) and not isinstance(value, bool):
        number = int(value) if isinstance(value, Integral) else float(value)
        return label_of(path, Quantity(number) if reader in _UNITS else number)
    return label_of(path, given)


def _arguments_of(method: object) -> list[str]:
    """Return the arguments of a method: any of ours takes, and those of a user's function."""
    function = method.get("name") if isinstance(method, Mapping) else method
    function = function.function if isinstance(function, OfFunction) else function
    names = method_arguments()
    options = {option.key for option in OPTIONS.values()}
    own = [name for name in names if f"method.{name}" not in options]
    if not callable(function):
        return own
    try:
        return [*own, *parameters_of(cast("Callable[..., Any]", function)).annotations]
    except (TypeError, ValueError):  # which is said when it is looked at
        return own


def _several(value: Any) -> bool:
    """Whether a value is a list of some kind, also an array, a series or a range."""
    if getattr(value, "ndim", 1) == 0:  # one number of an array library's
        return False
    return isinstance(value, list | tuple | range) or hasattr(value, "tolist")


def _listed(values: Any) -> list[Any]:
    return list(values.tolist() if hasattr(values, "tolist") else values)


def _kind_named(value: object) -> str:
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    name = kind.__qualname__ if package == "builtins" else f"{package}.{kind.__qualname__}"
    return "None" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
