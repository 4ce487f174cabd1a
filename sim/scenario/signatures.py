"""What a method's arguments mean: its signature and the Parameters of its docstring as a table."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from sim.scenario.method import describe, parameters_of


class Argument(NamedTuple):
    """One argument of a method."""

    name: str
    #: What it may be, in words.
    allowed: str
    #: As a file has it; "needed" where there is none.
    default: str
    #: The docstring's text; empty where it says nothing.
    meaning: str


def arguments(function: Callable[..., Any]) -> list[Argument]:
    """Return the arguments of a method, in the order of its signature.

    Raises
    ------
    MethodError
        If the signature cannot be a method's.

    Examples
    --------
    >>> from sim.methods import METHODS
    >>> arguments(METHODS["local_sgd"])[0].default
    '100'
    """
    parameters, said = parameters_of(function), _said(function)
    return [
        Argument(
            name,
            describe(annotation),
            _default(parameters.defaults[name]) if name in parameters.defaults else "needed",
            said.get(name, ""),
        )
        for name, annotation in parameters.annotations.items()
    ]


def _default(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else f"{value}"


def _said(function: Callable[..., Any]) -> dict[str, str]:
    """Read numpydoc's Parameters: a line of names, then lines that are indented."""
    text = inspect.getdoc(function) or ""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[^\n]*\n-+\n|\Z)", text, re.M | re.S)
    found: dict[str, str] = {}
    for names, body in re.findall(
        r"^(\w.*)\n((?:    .*\n?|\n)*)", section[1] if section else "", re.M
    ):
        for name in names.partition(" : ")[0].split(","):
            found[name.strip()] = " ".join(body.replace("``", "").split())
    return found
