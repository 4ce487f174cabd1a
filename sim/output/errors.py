"""What the user did wrong, in one line."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sim.text.told import one_line

if TYPE_CHECKING:
    from sim.records.scenario import Scenario


class UserError(Exception):
    """A mistake of the user's; the text says where, what, and what to write instead."""


class Interrupted(Exception):  # noqa: N818 - not an error
    """Ctrl-C, where there is more to say than that."""


# By name, so that recognising an error imports nothing: what was raised is loaded already.
_MISTAKES = frozenset(
    {
        "ScenarioError",
        "ArgumentError",
        "SimulationError",
        "StudyError",
        "RunError",
        "DamagedError",
        "LockedError",
    }
)


_FULL = (errno.ENOSPC, errno.EIO, errno.EFBIG)


def as_line(error: Exception) -> str | None:
    """Say in one line what the user did wrong; None if the error is a bug of ours."""
    if isinstance(error, UserError):
        text = str(error)
    elif hasattr(error, "format_message"):  # click's, wherever this version of Typer keeps it
        text = _usage(error)
    elif any(kind.__name__ in _MISTAKES for kind in type(error).__mro__):
        text = str(error)
    elif isinstance(error, OSError):
        # Files of ours are named: what has no name is where results are printed.
        place = error.filename or ("standard output" if error.errno in _FULL else None)
        text = f"{place}: {error.strerror}" if place else str(error)
    elif isinstance(error, MemoryError):
        text = "out of memory; ask for fewer workers or rounds, or give --jobs a smaller number"
    else:
        return None
    return one_line(text)


def _usage(error: Any) -> str:
    """Reword click's messages: the option first, then what is wrong with it."""
    kind = type(error).__name__
    if kind == "NoSuchOption":
        known = [
            name
            for parameter in (error.ctx.command.params if error.ctx else [])
            for name in parameter.opts
            if name.startswith("-")
        ]
        hint = _as_setting(error) if "--set" in known else ""
        return f"{error.option_name}: no such option" + (
            hint or _near_option(error.option_name, known)
        )
    if kind == "BadOptionUsage":
        if "not take a value" in error.message:
            return f"{error.option_name}: takes no value"
        hint = _hint(error)
        return f"{error.option_name}: needs a value" + (f", like {hint}" if hint else "")
    name = error.param.opts[0] if getattr(error, "param", None) is not None else ""
    if kind == "MissingParameter":
        if name.startswith("-"):
            return f"{name}: is missing{_like(error.param)}"
        shown = error.param.metavar or name.upper()
        return f"{shown} is missing; see {error.ctx.command_path} -h"
    if kind == "BadParameter":
        text = str(error.message).replace("Input should be", "must be").partition(",")[0]
        value = _given_value(error, name)
        text = text if value is None else f'"{value}": {text}'
        return f"{name}: {text}" if name else text
    message = error.format_message().rstrip(".")
    extra = re.search(r"unexpected extra argument(?:s|\(s\))? \((.*)\)$", message)
    if extra is not None:
        return f'unexpected "{extra[1]}"; see {error.ctx.command_path} -h'
    return str(message)


_OF_LEVERS = ("--sensitivity", "--no-sensitivity", "--tornado")
_MEANT = {"--find": "--of"}  # words that people try for an option


def _near_option(option: str, known: list[str]) -> str:
    """Return the option that was meant; dashes make no two options alike."""
    if option in _OF_LEVERS:
        return "; leave it out: simulate, compare and plan compute levers, this command does not"
    if _MEANT.get(option) in known:
        return f'; did you mean "{_MEANT[option]}"?'
    names = {name.lstrip("-"): name for name in known}
    near = difflib.get_close_matches(option.lstrip("-").lower(), list(names), n=1, cutoff=0.6)
    return f'; did you mean "{names[near[0]]}"?' if near else ""


def _given_value(error: Any, name: str) -> str | None:
    """Return what was typed for an option; None where the message says it, or it is not found."""
    given = list(getattr(error, "given", ()))
    names = getattr(error.param, "opts", [name]) if getattr(error, "param", None) else [name]
    typed = None  # the last one counts
    for word, following in zip(given, [*given[1:], None], strict=True):
        option, equals, value = word.partition("=")
        if option in names:
            typed = value if equals else following
    return None if typed is None or f"'{typed}'" in str(error.message) else str(typed)


def _as_setting(error: Any) -> str:
    """Say how to set the key of a scenario that an unknown option names, if it names one."""
    from sim.scenario.advice import also, synonym
    from sim.scenario.method import method_arguments
    from sim.scenario.options import OPTIONS
    from sim.scenario.schema import known_keys
    from sim.scenario.words import NOT_LIMITED

    name = error.option_name.lstrip("-").replace("-", "_")
    if name in NOT_LIMITED:
        return f"; {NOT_LIMITED[name]}"
    keys = [key for key in known_keys() if key.endswith(f".{name}")]
    if name in method_arguments():
        keys.append(f"method.{name}")
    called = synonym(error.option_name.lstrip("-"))
    if not keys and called is not None:
        key = {"site": "sites"}.get(called, called)
        option = next((name for name, each in OPTIONS.items() if each.key == key), None)
        if option is not None:
            return f"; here it is called {option} {OPTIONS[option].hint}"
        keys = [called]
    if not keys:
        return ""
    given = iter(getattr(error, "given", ()))
    value = next((word for word in given if word.startswith(error.option_name)), "")
    value = value.partition("=")[2] or next(given, "")
    if not value or value.startswith("-"):
        value = "..."
    ways = [f"--set {key}={_in_shell(_written(value, key, called))}" for key in keys[:3]]
    return f"; use {' or '.join(ways)}{also(name)}"


def _written(value: str, key: str, called: str | None) -> str:
    """Return a value as the key takes it: an example for another project's word, or of a unit."""
    from sim.scenario.words import WRITTEN

    lacks_unit = re.fullmatch(r"[-+]?[\d.]+", value) is not None
    if key in WRITTEN and (called == key or lacks_unit):
        return WRITTEN[key].strip('"')
    return value


def _in_shell(value: str) -> str:
    return f'"{value}"' if " " in value else value


def _hint(error: Any) -> str:
    """Return what an option's value looks like, if it says so."""
    parameters = error.ctx.command.params if error.ctx else []
    return next((p.metavar or "" for p in parameters if error.option_name in p.opts), "")


def _like(parameter: Any) -> str:
    return f"; write {parameter.opts[0]} {parameter.metavar}" if parameter.metavar else ""


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return '; did you mean "ring"?' where a known word is near, else ``otherwise``.

    Examples
    --------
    >>> did_you_mean("simulat", ["simulate", "sweep"])
    '; did you mean "simulate"?'
    """
    near = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else otherwise


def chosen(option: str, word: str, known: Iterable[str]) -> str:
    """Return ``word`` if it is one of the known, else explain.

    Raises
    ------
    UserError
        With the nearest of the known words.
    """
    names = list(known)
    if word in names:
        return word
    raise UserError(
        f'{option}: unknown "{word}"{did_you_mean(word, names)} (one of {", ".join(names)})'
    )


@contextmanager
def naming(method: str) -> Iterator[None]:
    """Say which method's arguments do not fit."""
    from sim.program import ArgumentError

    try:
        yield
    except ArgumentError as error:
        raise UserError(f"method.{method}: {error}") from error


@contextmanager
def naming_one_of(cases: Mapping[str, Scenario]) -> Iterator[None]:
    """Say which of several methods' arguments do not fit: by its name in ``cases``."""
    from sim.program import ArgumentError
    from sim.runtime import simulate

    try:
        yield
    except ArgumentError:
        for name, scenario in cases.items():  # which of them was it?
            with naming(name):
                simulate(scenario, rounds=1)
        raise
