"""The text of a user's method, by which results of another one are told apart."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any


def of_simulator(function: Callable[..., Any]) -> bool:
    """Whether a function comes with bandwise."""
    return (function.__module__ or "").partition(".")[0] == "sim"


def text_of(function: Callable[..., Any]) -> bytes:
    """Return what says what a method does.

    The text of the module that it is from. Of a function that was made by another one, its defaults
    and the values that it took along as well; of one that is in no file, its own text, and the
    values and functions outside that it names. What has no lasting text, like an object of a class,
    is never the same again.
    """
    owner = getattr(function, "__self__", None)
    whose = [] if owner is None else [repr(owner).encode()]
    return b"\0".join([*_parts(function, set()), *whose])


def _parts(function: Any, seen: set[int]) -> list[bytes]:
    function = inspect.unwrap(getattr(function, "__func__", function))
    if id(function) in seen:
        return []
    seen.add(id(function))
    file = getattr(sys.modules.get(function.__module__), "__file__", None)
    if file is not None and "<locals>" not in function.__qualname__:
        return [Path(file).read_bytes()]
    try:
        text = Path(file).read_bytes() if file else inspect.getsource(function).encode()
    except OSError:  # typed into an interpreter: nothing says whether it is the same again
        text = repr(function).encode()
    outside = inspect.getclosurevars(function)
    values = {**({} if file else outside.globals), **outside.nonlocals}
    found = [text, repr((function.__defaults__, function.__kwdefaults__)).encode()]
    for name, value in sorted(values.items()):
        found += [name.encode(), *_value(value, seen)]
    return found


def _value(value: Any, seen: set[int]) -> list[bytes]:
    if inspect.isfunction(value) and not of_simulator(value):
        return _parts(value, seen)
    if isinstance(value, ModuleType | type) or inspect.isfunction(value):
        return [value.__name__.encode()]
    return [repr(value).encode()]
