"""Layers as traces write them: which of a model's layers an operation or a buffer is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any


def written(layers: range) -> str:
    """Write a range of layers as the trace's detail does.

    Examples
    --------
    >>> written(range(0, 24, 8)), written(range(3, 4)), written(range(2, 6))
    ('0:24:8', '3', '2:6')
    """
    # Not cached by the range itself: range(0, 4, 3) == range(0, 6, 3), but they read differently.
    return _written(layers.start, layers.stop, layers.step)


@lru_cache(maxsize=4096)
def _written(start: int, stop: int, step: int) -> str:
    if len(range(start, stop, step)) == 1:
        return str(start)
    return f"{start}:{stop}" if step == 1 else f"{start}:{stop}:{step}"


def numbered(detail: str, place: int, count: int) -> str:
    """Write which part of a buffer something is.

    Examples
    --------
    >>> numbered("0:24", 2, 51)
    '0:24 3/51'
    """
    return f"{detail} {place + 1}/{count}"


def applied_to(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[range | None, str]:
    """Return the layers that a verb is given, if any, and what traces write of its first argument.

    Examples
    --------
    >>> applied_to((range(2), 0), {}), applied_to((), {"layers": range(1)})
    ((range(0, 2), '0:2'), (range(0, 1), '0'))
    >>> applied_to(("update",), {}), applied_to((), {})
    ((None, 'update'), (None, ''))
    """
    first = args[0] if args else kwargs.get("layers")
    if isinstance(first, range):
        return first, _written(first.start, first.stop, first.step)
    return None, "" if first is None else str(first)


@lru_cache(maxsize=4096)
def read_layers(detail: str) -> range:
    """Read a detail back into a range of layers.

    Examples
    --------
    >>> read_layers("0:24:8"), read_layers("3")
    (range(0, 24, 8), range(3, 4))
    """
    numbers = [int(part) for part in detail.split(":")]
    return range(numbers[0], numbers[0] + 1) if len(numbers) == 1 else range(*numbers)
