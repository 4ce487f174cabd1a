"""Colors and markers of all pictures: a method or a cause has the same in every kind."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

# Okabe and Ito's palette: told apart by color-blind readers and on grey printers.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "os^Dv<>P"
LINES = ("-", "--", ":", "-.")
CAUSE_COLORS = {
    "compute": "#0072B2",
    "optimizer": "#56B4E9",
    "quantize": "#009E73",
    "contention": "#F0E442",
    "exposed_communication": "#D55E00",
    "exposed_inside": "#8B3A00",
    "waiting": "#CC79A7",
    "setup": "#E69F00",
    "other": "#999999",
}
# Its colors without the yellow, a grey, and the wine of Tol's muted scheme.
METHOD_STYLES = {
    "ddp": ("#000000", "o"),
    "local_sgd": ("#999999", "s"),
    "diloco": ("#0072B2", "^"),
    "streaming_diloco": ("#009E73", "D"),
    "delayed_diloco": ("#D55E00", "v"),
    "eager_diloco": ("#E69F00", "<"),
    "acco": ("#CC79A7", ">"),
    "dpu": ("#56B4E9", "P"),
    "wp": ("#882255", "X"),
}
BACKGROUND = "#BBBBBB"  # of what is only there for comparison; no method and no cause has it
_METHOD_COLUMNS = ("method.name", "method")


class Style(NamedTuple):
    """How one value, or combination of values, is drawn."""

    color: str
    marker: str
    #: A style of matplotlib's lines.
    line: str

    @property
    def hatch(self) -> str:
        """The hatch of a bar, where a color comes a second time."""
        return "" if self.line == "-" else "//"


def styles(
    columns: Sequence[str], values: Iterable[tuple[Hashable, ...]]
) -> dict[tuple[Hashable, ...], Style]:
    """Return the style of each combination of values of some columns.

    Methods have the colors of :data:`METHOD_STYLES`, and what else differs has other lines and
    markers where that is enough. Everything else has a color by its place in ``values``.

    Examples
    --------
    >>> styles(["method.name"], [("diloco",)]) == styles(["method"], [("diloco",)])
    True
    >>> found = styles(["method.name", "run.seed"], [("ddp", 1), ("ddp", 2)])
    >>> [(style.color, style.line) for style in found.values()]
    [('#000000', '-'), ('#000000', '--')]
    """
    keys = list(dict.fromkeys(values))
    at = next((place for place, name in enumerate(columns) if name in _METHOD_COLUMNS), None)
    # A study may call its own cases methods: those have no colors of their own.
    if at is not None and any(key[at] in METHOD_STYLES for key in keys):
        others = list(dict.fromkeys(_without(key, at) for key in keys))
        if len(others) <= len(LINES):
            own = _of_methods(str(key[at]) for key in keys)
            found = {}
            for key in keys:
                place = others.index(_without(key, at))
                color, marker = own[str(key[at])]
                marker = marker if len(others) == 1 else MARKERS[place]
                found[key] = Style(color, marker, LINES[place])
            return found
    return {
        key: Style(
            PALETTE[number % len(PALETTE)],
            MARKERS[number % len(MARKERS)],
            LINES[number // len(PALETTE) % len(LINES)],
        )
        for number, key in enumerate(keys)
    }


def _without(key: tuple[Hashable, ...], at: int) -> tuple[Hashable, ...]:
    return key[:at] + key[at + 1 :]


def _of_methods(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return color and marker by method; a method of the user's has what no other here has."""
    wanted = list(dict.fromkeys(names))
    taken = {METHOD_STYLES[name] for name in wanted if name in METHOD_STYLES}
    free = [style for style in reversed(METHOD_STYLES.values()) if style not in taken]
    free += list(METHOD_STYLES.values())
    others = [name for name in wanted if name not in METHOD_STYLES]
    found = {name: METHOD_STYLES[name] for name in wanted if name in METHOD_STYLES}
    return found | {name: free[place % len(free)] for place, name in enumerate(others)}
