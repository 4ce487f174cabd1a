"""Several methods, as calls in Python take them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sim.api.calls import CallError, named

Method = str | Callable[..., Any]


def several_methods(function: str, methods: Iterable[Method]) -> list[Method]:
    """Return a list of names and functions, each once.

    Raises
    ------
    CallError
        With what to write instead.
    """
    if isinstance(methods, str):
        names = ", ".join(f'"{name.strip()}"' for name in methods.split(","))
        raise CallError(f"{function}: methods are a list, like [{names}]")
    if callable(methods) or not isinstance(methods, Iterable) or isinstance(methods, dict):
        kind = "a function" if callable(methods) else type(methods).__name__
        raise CallError(f'{function}: methods are a list, like ["ddp", my_method], not {kind}')
    found = list(methods)
    for each in found:
        if not isinstance(each, str) and not callable(each):
            raise CallError(f"{function}: a method is a name or a function, not {named(each)}")
    found = list(dict.fromkeys(found))
    if not found:
        raise CallError(f'{function}: name at least one method, like ["ddp", "diloco"]')
    return found
