"""``bandwise plot``: pictures of results and traces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.output.errors import UserError, chosen
from sim.output.show import checked_file, tell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("utilization", "timeline", "breakdown", "curves", "heatmap", "pareto", "speedup")
COLUMNS = ("curves", "heatmap", "pareto", "speedup")
PICTURES = (".png", ".svg", ".pdf")

_RESULTS = typer.Argument(
    metavar="RESULTS",
    help="results.csv or results.parquet of study or sweep; for a timeline a trace "
    "(simulate --trace).",
    show_default=False,
)
_KIND = typer.Option(
    "--kind",
    metavar="KIND",
    help="utilization, timeline, breakdown, curves, heatmap, pareto or speedup; by default curves "
    "where --x or --y is given, else utilization.",
    show_default=False,
)
_OUT = typer.Option(
    "--out", metavar="FILE", help="Picture: .png, .svg or .pdf.", show_default=False
)

_BEGIN = typer.Option("--begin", metavar="20s", help="Start of a timeline.", show_default=False)
_END = typer.Option("--end", metavar="60s", help="End of a timeline.", show_default=False)

_X = typer.Option("--x", metavar="COLUMN", help="Column across.", show_default=False)
_Y = typer.Option("--y", metavar="COLUMN", help="Column upwards.", show_default=False)
_COLOR = typer.Option(
    "--color",
    metavar="COLUMN",
    help="Column with a line or a color per value; what the cells of a heatmap show.",
    show_default=False,
)
_FACET = typer.Option(
    "--facet", metavar="COLUMN", help="Column with a panel per value.", show_default=False
)
_WHERE = typer.Option(
    "--where",
    metavar="COLUMN=VALUE",
    help="Draw these runs alone; several values have commas between them. Repeatable.",
    show_default=False,
)
_LOG = typer.Option(
    "--log", metavar="x|y", help="Make an axis logarithmic. Repeatable.", show_default=False
)
_SIZE = typer.Option("--size", metavar="8x5", help="Width and height, inches.", show_default=False)


def plot(
    results: Annotated[Path, _RESULTS],
    out: Annotated[Path, _OUT],
    kind: Annotated[str | None, _KIND] = None,
    begin: Annotated[str | None, _BEGIN] = None,
    end: Annotated[str | None, _END] = None,
    x: Annotated[str | None, _X] = None,
    y: Annotated[str | None, _Y] = None,
    color: Annotated[str | None, _COLOR] = None,
    facet: Annotated[str | None, _FACET] = None,
    where: Annotated[list[str] | None, _WHERE] = None,
    log: Annotated[list[str] | None, _LOG] = None,
    size: Annotated[str | None, _SIZE] = None,
) -> None:
    """Draw results or a trace.

    Kinds: utilization against bandwidth, a line per case; breakdown, a bar per run that says
    where its time went; timeline, what each worker did and when; curves, any column
    against another; heatmap, a column by two others; pareto, two columns to be minimized; speedup
    against workers, with the ideal line.
    """
    kind = kind or ("curves" if x or y else "utilization")
    chosen("--kind", kind, KINDS)
    checked_file("--out", out, PICTURES)
    for option, text in (("--begin", begin), ("--end", end)):
        if text is not None and kind != "timeline":
            raise UserError(f"{option}: is for --kind timeline; {kind} has no time axis")
    columns = {"--x": x, "--y": y, "--color": color, "--facet": facet, "--log": log}
    for option, given in {**columns, "--where": where, "--size": size}.items():
        if given and kind not in COLUMNS:
            raise UserError(f"{option}: is for --kind {', '.join(COLUMNS)}; not for {kind}")
    for each in log or []:
        chosen("--log", each, ("x", "y"))
    inches = None if size is None else _inches(size)
    if not results.is_file():
        raise UserError(f"{results}: {'is a folder' if results.is_dir() else 'no such file'}")

    from sim.figures.plots import save

    try:
        if kind in COLUMNS:
            from sim.output.drawn_columns import drawn
            from sim.questions import result_files, selected_runs

            frame = selected_runs.where(result_files.load(results), where or [])
            figure = drawn(
                frame, kind, x=x, y=y, color=color, facet=facet, log=log or [], size=inches
            )
        else:
            figure = _drawn(results, kind, _seconds("--begin", begin), _seconds("--end", end))
        save(figure, out)
    except ValueError as error:
        name = "" if str(error).startswith(str(results)) else f"{results}: "
        raise UserError(f"{name}{error}") from error
    tell(f"bandwise: wrote {out}")


def _drawn(path: Path, kind: str, begin: float | None, end: float | None) -> Figure:
    from matplotlib.figure import Figure

    from sim.figures import plots
    from sim.output.pictures import bars, curves, titled
    from sim.questions import result_files

    if kind == "utilization":
        return curves(result_files.load(path))
    if kind == "breakdown":
        frame = result_files.load(path)
        result_files.check_breakdown(frame, path)
        return bars(frame)

    from sim.trace.files import load

    trace = load(path)
    figure = Figure(figsize=(8, 5), layout="constrained")
    part = plots.readable(trace) if begin is None and end is None else None
    ax = figure.subplots()
    if part is not None:
        begin, end, rounds = part
        tell(f"bandwise: drawn are rounds 2 and 3 of {rounds}; --begin and --end choose others")
    begin = begin or 0.0
    last = trace.total_s if end is None else min(end, trace.total_s)
    if not begin < last:
        raise UserError(f"--begin: {begin:.6g} s is not before the end, {last:.6g} s")
    plots.timeline(trace, ax, begin=begin, end=end)
    if part is not None:
        ax.set_xlabel(f"time (s); rounds 2 and 3 of {part[2]}")
    titled(figure, plots.title_of_trace(trace))
    return figure


def _seconds(option: str, text: str | None) -> float | None:
    from sim.units import UnitError, parse_duration

    try:
        return None if text is None else parse_duration(text)
    except UnitError as error:
        raise UserError(f'{option}: "{text}": {error}') from error


def _inches(text: str) -> tuple[float, float]:
    try:
        wide, high = (float(each) for each in text.split("x"))
    except ValueError:
        wide = high = 0.0
    if not (2 <= wide <= 40 and 2 <= high <= 40):
        raise UserError(f'--size: "{text}" must be like 8x5: inches, each from 2 to 40')
    return wide, high
