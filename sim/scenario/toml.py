"""Reading TOML within bounds: no number and no nesting beyond what any key could mean."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from sim.units import MOST, UnitError

DEEPEST = 16  # tables and lists in one another; no key needs more than five

_LONG_NUMBER = re.compile(r"(?<![\w\"'])[+-]?\d[\d_]{300,}")


class BeyondError(UnitError):
    """A number or a nesting that no key could mean. ``at`` names the key or the line."""

    def __init__(self, message: str, at: str = "") -> None:
        super().__init__(message)
        self.at = at


def parse(text: str) -> dict[str, Any]:
    """Read TOML, as tomllib does.

    Raises
    ------
    tomllib.TOMLDecodeError
        If it is not TOML.
    BeyondError
        If an integer is beyond 1e30, or tables and lists are nested too deeply.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise BeyondError(f"nested too deeply; at most {DEEPEST} levels are read") from None
    except ValueError:  # Python reads no integer of more than 4,300 digits
        raise _long_number(text) from None
    _check(data, (), 0)
    return data


def _check(node: Any, path: tuple[str, ...], depth: int) -> None:
    if isinstance(node, int) and abs(node) > MOST:
        raise BeyondError("is beyond any sensible number; at most 1e30", _named(path))
    if not isinstance(node, dict | list):
        return
    if depth > DEEPEST:
        raise BeyondError(f"nested too deeply; at most {DEEPEST} levels are read", _named(path))
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        step = f"[{key}]" if isinstance(node, list) else f".{key}"
        _check(value, (*path, step), depth + 1)


def _named(path: tuple[str, ...]) -> str:
    return "".join(path[:6]).removeprefix(".")


def _long_number(text: str) -> BeyondError:
    message = "holds an integer of more digits than any sensible number has; at most 1e30"
    for number, line in enumerate(text.splitlines(), 1):
        if _LONG_NUMBER.search(line):
            key = line.partition("=")[0].strip()[:60]
            return BeyondError(message, f"line {number}: {key}")
    return BeyondError(message)
