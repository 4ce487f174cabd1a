"""Pictures of a plan: its front of time and tokens per update, and money against time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Places = dict[str, tuple[float, float]]

_FAR = 10.0  # points whose values differ by more are drawn on a logarithmic axis
_SLOWEST = 2.0  # times the least time: slower settings would leave no room for the others
_CHOSEN = ("recommended", "fastest", "leanest", "cheapest", "as_given")
_SIZE = (8.0, 5.0)
# Every row is undominated in time, tokens per update and bytes together.
_FRONT_OTHERS = "dominated in these two, not in bytes sent"
_COST_OTHERS = "dominated in these two, not in tokens per update or bytes sent"


def priced(record: Mapping[str, Any]) -> bool:
    """Whether a plan knows what its settings cost; ``record`` is what ``plan --json`` prints."""
    return all("money" in record[which] for which in _chosen(record))


def front(record: Mapping[str, Any], size: tuple[float, float] = _SIZE) -> Figure:
    """Draw the time for the tokens against tokens per update, a color per method.

    What was chosen has a ring and its name. A grey setting sends fewer bytes than those that are
    as good in these two or better.

    Parameters
    ----------
    record
        What ``plan --json`` prints.
    size
        Inches.
    """
    return _figure(record, size, _front_on)


def money(record: Mapping[str, Any], size: tuple[float, float] = _SIZE) -> Figure:
    """Draw what the settings cost against the time that they take; see :func:`front`.

    What takes more than twice as long as the fastest is left out, unless it was chosen.

    Raises
    ------
    ValueError
        If nothing is priced.
    """
    return _figure(record, size, _money_on)


def drawn_on(ax: Axes, record: Mapping[str, Any], *, cost: bool = False) -> Axes:
    """Draw one of the two on axes.

    Raises
    ------
    ValueError
        If the cost is asked for and nothing is priced.
    """
    from sim.figures.pictures.marks import name

    places = (_money_on if cost else _front_on)(record, ax)
    ax.legend(fontsize=8, frameon=False)
    name(ax, places)
    return ax


def _front_on(record: Mapping[str, Any], ax: Axes) -> Places:
    return _points(record, "tokens_per_update", "time_for_tokens_s", _FRONT_OTHERS, ax)


def _money_on(record: Mapping[str, Any], ax: Axes) -> Places:
    if not priced(record):
        raise ValueError("nothing is priced; give site.price or site.egress_price")
    most = _SLOWEST * record["fastest"]["time_for_tokens_s"]
    near = [row for row in record["front"] if row["time_for_tokens_s"] <= most]
    shown = {**record, "front": near}
    places = _points(shown, "time_for_tokens_s", "money", _COST_OTHERS, ax)
    chosen = record["recommended"]
    currency = chosen.get("currency")
    bound = ", at least" if chosen["money_is_lower_bound"] else ""
    ax.set_ylabel(f"cost ({currency}){bound}" if currency else f"cost{bound}")
    return places


def _figure(
    record: Mapping[str, Any],
    size: tuple[float, float],
    draw: Callable[[Mapping[str, Any], Axes], Places],
) -> Figure:
    from matplotlib.figure import Figure

    from sim.figures.pictures.marks import name
    from sim.output.drawn_columns import legend_below
    from sim.output.pictures import titled

    figure = Figure(figsize=size, layout="constrained")
    ax = figure.subplots()
    places = draw(record, ax)
    titled(figure, _title(record))
    legend_below(figure, [ax])
    name(ax, places)
    return figure


def _title(record: Mapping[str, Any]) -> str:
    from sim.output.tables import count

    target = f"target {100 * record['target_fraction']:g} %"
    missed = "" if record["reached"] else ", not reached"
    return f"{count(record['tokens'])} tokens, {target}{missed}"


def _points(record: Mapping[str, Any], x: str, y: str, others: str, ax: Axes) -> Places:
    import pandas as pd

    from sim.figures.pictures.pareto import pareto

    marked = _marked(record, x, y)
    rows = [{key: row[key] for key in (x, y, "method")} for row in record["front"]]
    frame = pd.DataFrame(rows)
    log = [
        axis
        for place, (axis, column) in enumerate((("x", x), ("y", y)))
        if _far([*frame[column], *(each[place] for each in marked.values())])
    ]
    return pareto(frame, x, y, "method", ax, log=log, others=others, marked=marked)


def _far(values: list[float]) -> bool:
    return min(values) > 0 and max(values) > _FAR * min(values)


def _chosen(record: Mapping[str, Any]) -> list[str]:
    """Return which were chosen; a cheapest one only where something is priced."""
    return [which for which in _CHOSEN if which in record]


def _marked(record: Mapping[str, Any], x: str, y: str) -> Places:
    """Return what was chosen, by name: what is at one place has one name."""
    names: dict[tuple[float, float], list[str]] = {}
    for which in _chosen(record):
        row = record[which]
        names.setdefault((float(row[x]), float(row[y])), []).append(which.replace("_", " "))
    return {", ".join(each): place for place, each in names.items()}
