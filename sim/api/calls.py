"""Calls that cannot be meant, each answered in one line that says what to write."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sim.output.errors import UserError


class CallError(UserError, TypeError):
    """A call with an argument of the wrong kind; the text is one line that says what to write."""


class ValueRefusedError(UserError, ValueError):
    """An argument of the right kind with a value that cannot be."""


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
    name = kind.__qualname__ if package == "builtins" else f"{package}.{kind.__qualname__}"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


_OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]*)")
_SETTING = re.compile(r"--set ([\w.]+)=[^\s;,)]*")


def in_python(text: str) -> str:
    """Return a message of the command line's in words of Python.

    Examples
    --------
    >>> in_python("give it with --set method.f=; choose another --out")
    'give it with settings={"method.f": ...}; choose another out'
    >>> in_python("if you trust it, give --allow-code")
    'if you trust it, give allow_code=True'
    """
    text = _SETTING.sub(r'settings={"\1": ...}', text)
    text = text.replace("--allow-code", "allow_code=True").replace("--over ", "")
    text = text.replace("write the full key", 'write settings={"...": ...} with the full key')
    return _OPTION.sub(lambda found: found[1].replace("-", "_"), text)


@contextmanager
def told() -> Iterator[None]:
    """Let errors that are the caller's say what to write in Python; all others pass as they are."""
    from sim.output.errors import as_line

    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        if as_line(error) is not None and len(error.args) == 1:
            error.args = (in_python(str(error)),)
        raise
