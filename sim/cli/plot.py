"""``bandwise plot``: pictures of results and traces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.cli.errors import UserError, chosen
from sim.cli.output import checked_file, tell

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

KINDS = ("utilization", "timeline", "breakdown")
PICTURES = (".png", ".svg", ".pdf")

_RESULTS = typer.Argument(
    metavar="RESULTS",
    help="results.csv or results.parquet of study or sweep; for a timeline a trace "
    "(simulate --trace).",
    show_default=False,
)
_KIND = typer.Option("--kind", metavar="KIND", help="utilization, timeline or breakdown.")
_OUT = typer.Option("--out", metavar="FILE", help="Picture: .png, .svg or .pdf.", show_default=False)


def plot(
    results: Annotated[Path, _RESULTS],
    out: Annotated[Path, _OUT],
    kind: Annotated[str, _KIND] = "utilization",
) -> None:
    """Draw results or a trace.

    Kinds: utilization against bandwidth, a line per case; breakdown, a bar per run that says
    where its time went; timeline, what each worker did and when.
    """
    chosen("--kind", kind, KINDS)
    checked_file("--out", out, PICTURES)
    if not results.is_file():
        raise UserError(f"{results}: {'is a folder' if results.is_dir() else 'no such file'}")

    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    try:
        _draw(results, kind, figure.subplots())
    except ValueError as error:
        name = "" if str(error).startswith(str(results)) else f"{results}: "
        raise UserError(f"{name}{error}") from error
    figure.savefig(out, dpi=150)
    tell(f"bandwise: wrote {out}")


def _draw(path: Path, kind: str, ax: Axes) -> None:
    from sim import plots

    if kind == "timeline":
        from sim.trace import load

        plots.timeline(load(path), ax)
    else:
        getattr(plots, kind)(_results(path), ax)


def _results(path: Path) -> pd.DataFrame:
    """Read the results of a study.

    Raises
    ------
    UserError
        If the file holds something else.
    """
    import pandas as pd

    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except OSError:
        raise
    except Exception as error:
        raise UserError(
            f"{path}: cannot be read; give results.csv or results.parquet of study or sweep"
        ) from error
    if "compute_utilization_fraction" not in frame or "schema" not in frame:
        trace = "operation" in " ".join(map(str, frame.columns))
        hint = "; it looks like a trace, so draw --kind timeline" if trace else ""
        raise UserError(f"{path}: not the results of study or sweep{hint}")
    return frame
