"""Which pictures a page has: where the time went, a part of the timeline, curves of a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sim.output.html_blocks import Picture

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from sim.trace.table import Trace

_MOST_SVG = 400_000  # characters of one picture
_MOST_WORKERS = 16  # bars or lanes
_MOST_BARS = 40
_ALIKE = 5e-4
_PLAN = (7.5, 4.6)  # inches
_SHORTEST = 64  # parts of two rounds: a shorter piece shows no round's shape


def of_run(record: Mapping[str, Any], trace: Callable[[], Trace]) -> list[Picture]:
    """Return where the time of unlike workers went, and what they did in a short part of the run.

    Parameters
    ----------
    record
        What ``--json`` prints of the run.
    trace
        Returns what happened; called once.
    """
    return [*_of_workers(record["breakdown_by_worker"]), *_timeline(trace())]


def of_methods(record: Mapping[str, Any]) -> list[Picture]:
    """Return where each method's time went, and how much it is.

    ``record`` is what ``compare --json`` prints.
    """
    from sim.output.pictures import comparison

    caption = (
        "Where the time of each method went, in percent of workers x wall-clock, and the time for "
        "equal tokens"
    )
    return _drawn(lambda: comparison(record["methods"], width=8.5), caption, "breakdown")


def of_targets(record: Mapping[str, Any]) -> list[Picture]:
    """Return where the time goes at each target; ``record`` is what ``required --json`` prints."""
    rows = {}
    for each in record["required"]:
        target = each["target_fraction"]
        name = "fits" if target is None else f"{100 * target:g} %"
        if each["outcome"] == "not reached":
            name += ", not reached"
        rows[name] = each["evaluated_rounds"]["breakdown"]
    what = record.get("of", "bandwidth")
    return _bars(rows, f"Where the time goes at the {what} that each target needs")


def of_plan(record: Mapping[str, Any]) -> list[Picture]:
    """Return the front, money against time, and levers; ``record`` is what ``plan --json`` prints.

    Without levers that were computed, or a change that is finite, there is no picture of them.
    """
    from sim.output import plan_pictures

    caption = "The least time for ever fewer tokens per update, and what was chosen"
    found = _drawn(lambda: plan_pictures.front(record, _PLAN), caption, "front")
    if plan_pictures.priced(record):
        caption = "What the settings cost against the time they take"
        found += _drawn(lambda: plan_pictures.money(record, _PLAN), caption, "cost")
    return [*found, *_levers(record)]


def _levers(record: Mapping[str, Any]) -> list[Picture]:
    from sim.figures.tornado import picture
    from sim.output.lever_lines import frame

    if not record.get("levers"):
        return []
    caption = f"What each change does to the time for equal tokens ({record['levers_of']})"
    return _drawn(lambda: picture(frame(dict(record)), width=_PLAN[0]), caption, "levers")


def of_memory(record: Mapping[str, Any]) -> list[Picture]:
    """Return what workers hold; ``record`` is what ``memory --json`` prints."""
    from sim.output.drawn_columns import legend_below
    from sim.output.pictures import memory_on

    def draw() -> Figure:
        figure = _figure(2.2 + 0.3 * len(record["memory"]))
        legend_below(figure, [memory_on(record, figure.subplots())])
        return figure

    return _drawn(draw, "Bytes per accelerator, by part", "memory")


def of_study(frame: pd.DataFrame) -> list[Picture]:
    """Return utilization against bandwidth where that was varied, and where the time went."""
    from sim.figures.plots import BANDWIDTH
    from sim.output.pictures import bars, curves

    found = []
    if BANDWIDTH in frame and frame[BANDWIDTH].nunique() > 1:
        caption = "Compute utilization against the bandwidth between sites"
        found += _drawn(lambda: curves(frame), caption, "curves")
    if len(frame) <= _MOST_BARS:
        found += _drawn(lambda: bars(frame), "Where the time of each run went", "runs")
    return found


def _of_workers(workers: Sequence[Mapping[str, Any]]) -> list[Picture]:
    """Return a bar per worker, where some spend their time otherwise than others."""
    rows = {f"{each['rank']} {each['site']}".strip(): _causes(each) for each in workers}
    first = next(iter(rows.values()))
    alike = all(abs(row[c] - first[c]) < _ALIKE for row in rows.values() for c in first)
    if alike or not 1 < len(rows) <= _MOST_WORKERS:
        return []
    return _bars(rows, "Where the time of each worker went")


def _causes(record: Mapping[str, Any]) -> dict[str, float]:
    return {key: value for key, value in record.items() if key not in ("rank", "site")}


def _bars(rows: Mapping[str, Mapping[str, float]], caption: str) -> list[Picture]:
    import pandas as pd

    from sim.figures.plots import breakdown

    frame = pd.DataFrame(
        [
            {"name": name, "schema": 0, **{f"{c}_fraction": part for c, part in spent.items()}}
            for name, spent in rows.items()
        ]
    ).fillna(0.0)

    def draw() -> Figure:
        figure = _figure(1.5 + 0.32 * len(frame))
        breakdown(frame, figure.subplots())
        return figure

    return _drawn(draw, f"{caption}, in percent of workers x wall-clock", "breakdown")


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(7.5, height), layout="constrained")


def _timeline(trace: Trace) -> list[Picture]:
    """Return rounds 2 and 3, or all of a short run; a part of that where it holds too much."""
    from sim.figures import plots

    part = plots.readable(trace)
    begin, end, _ = part or (0.0, trace.total_s, 0)
    rounds = "rounds 2 and 3" if part else "the whole run"
    for share in (1, 4, 16, _SHORTEST):
        stop = begin + (end - begin) / share
        which = rounds if share == 1 else f"the first part of {rounds}"
        caption = f"What each worker did in {which}, {begin:.4g} s to {stop:.4g} s"
        found = _drawn(partial(_lanes, trace, begin, stop), caption, "timeline")
        if found:
            return found
    return []


def _lanes(trace: Trace, begin: float, end: float) -> Figure:
    from sim.figures.plots import timeline

    figure = _figure(1.6 + 0.34 * min(trace.workers, _MOST_WORKERS))
    timeline(trace, figure.subplots(), begin=begin, end=end)
    return figure


def _drawn(draw: Callable[[], Figure], caption: str, name: str) -> list[Picture]:
    """Return a picture; none where there is too much to be told apart, or to be sent."""
    from sim.output.svg import as_svg

    try:
        svg = as_svg(draw(), caption, name)
    except ValueError:
        return []
    return [Picture(f"{caption}.", svg)] if len(svg) <= _MOST_SVG else []
