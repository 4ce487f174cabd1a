"""Messages of the command line in words of Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sim.output.errors import as_line

_COMMAND = re.compile(r"((?:bandwise|realrun) [a-z]+ (?:\S+ )?--?[a-zA-Z][^;,]*)")
_OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]*)")
_SETTING = re.compile(r"--set ([\w.]+)=[^\s;,)]*")


def in_python(text: str) -> str:
    """Return a message in words of Python; a whole command stays as it is typed.

    Examples
    --------
    >>> in_python("give it with --set method.f=; choose another --out")
    'give it with settings={"method.f": ...}; choose another out'
    >>> in_python("if you trust it, give --allow-code")
    'if you trust it, give allow_code=True'
    >>> in_python("bandwise study table4 --out DIR runs it")
    'bandwise study table4 --out DIR runs it'
    """
    parts = _COMMAND.split(text)
    return "".join(part if n % 2 else _reworded(part) for n, part in enumerate(parts))


def _reworded(text: str) -> str:
    text = _SETTING.sub(r'settings={"\1": ...}', text)
    text = text.replace("--allow-code", "allow_code=True").replace("--over ", "")
    text = text.replace("write the full key", 'write settings={"...": ...} with the full key')
    return _OPTION.sub(lambda found: found[1].replace("-", "_"), text)


@contextmanager
def told() -> Iterator[None]:
    """Let errors that are the caller's say what to write in Python; all others pass as they are."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        if as_line(error) is not None and len(error.args) == 1:
            error.args = (in_python(str(error)),)
        raise
