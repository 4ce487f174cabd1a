"""Calls that cannot be meant, each answered in one line that says what to write."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

from sim.output.errors import UserError

F = TypeVar("F", bound=Callable[..., Any])
Progress = Callable[[int, int], None]
"""Is called with runs done and runs in all."""


def silent(done: int, total: int) -> None:
    """Tell nobody how far it is."""


class CallError(UserError, TypeError):
    """A call with an argument of the wrong kind; the text is one line that says what to write."""


class ValueRefusedError(UserError, ValueError):
    """An argument of the right kind with a value that cannot be."""


def called(function: F) -> F:
    """Let a call that does not fit a function's signature say what to write."""
    own = inspect.signature(function)

    @wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        try:
            own.bind(*args, **keywords)
        except TypeError as error:
            raise CallError(_misfit(function.__name__, own, args, keywords, error)) from None
        return function(*args, **keywords)

    return cast("F", call)


def _misfit(
    name: str,
    own: inspect.Signature,
    args: tuple[Any, ...],
    keywords: dict[str, Any],
    error: TypeError,
) -> str:
    kinds, parameters = inspect.Parameter, list(own.parameters.values())
    positional = [p.name for p in parameters if p.kind == kinds.POSITIONAL_OR_KEYWORD]
    if args and not positional:
        known = isinstance(args[0], str) and args[0][:1].isdigit()
        example = f'model="{args[0]}"' if known else 'model="10B", bandwidth="1 Gbit/s"'
        return f"{name}: takes keywords alone; write sim.{name}({example})"
    unknown = [key for key in keywords if key not in own.parameters]
    if unknown and positional[:1] == ["scenario"]:
        written = f"sim.{name}(scenario.replace({unknown[0]}=...))"
        return f"{name}: has no keyword {unknown[0]}; the scenario holds it: {written}"
    named = [f"{p.name}=..." for p in parameters if p.kind == kinds.KEYWORD_ONLY]
    more = ["**keywords"] if any(p.kind == kinds.VAR_KEYWORD for p in parameters) else []
    return f"{name}: {error}; write sim.{name}({', '.join([*positional, *named, *more])})"


def a_text(function: str, name: str, value: object) -> str:
    """Return ``value`` as text if it is text or a path.

    Raises
    ------
    CallError
        With its kind.
    """
    if isinstance(value, str | Path):
        return str(value)
    raise CallError(f"{function}: {name} is text or a path, not {named(value)}")


def named(value: object) -> str:
    """Say of what kind a value is: 'the text "10B"', "a pandas.DataFrame"."""
    if value is None or isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, str):
        return f'the text "{value if len(value) <= 40 else value[:36] + "..."}"'
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    if package == "sim":  # of several records with one name
        package = kind.__module__
    name = kind.__qualname__ if package == "builtins" else f"{package}.{kind.__qualname__}"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
