"""What the page shows of one set of inputs: figures, curves, required bandwidths, a report.

Every function takes a :class:`~sim.web.inputs.Point` and returns what JSON can hold. All figures
are those of the Python API, and so of the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from html import escape
from typing import TYPE_CHECKING, Any

from sim.output.errors import as_line
from sim.web.inputs import Point, inputs

if TYPE_CHECKING:
    from sim.api.results import Result
    from sim.api.simulation import SimulationResult
    from sim.output.html_blocks import Picture

Answer = Mapping[str, Any]

POINTS = 25
LOWEST_GBIT, HIGHEST_GBIT = 0.1, 1000.0
_FINE = tuple(number for number in range(POINTS) if number % 3)
PARTS = ((0, 6, 12, 18, 24), (3, 9, 15, 21), _FINE[::2], _FINE[1::2])
"""Numbers of a curve's points, coarse to fine: each part is asked for by itself."""
TARGETS = (0.5, 0.9, 0.95)


def bandwidths() -> list[float]:
    """Return a curve's bandwidths in Gbit/s, at equal ratios.

    Examples
    --------
    >>> len(bandwidths()), bandwidths()[0], bandwidths()[12], bandwidths()[24]
    (25, 0.1, 10.0, 1000.0)
    """
    ratio = HIGHEST_GBIT / LOWEST_GBIT
    return [float(f"{LOWEST_GBIT * ratio ** (n / (POINTS - 1)):.4g}") for n in range(POINTS)]


def point(chosen: Point) -> Answer:
    """Return the figures of a point, as JSON and as HTML, and how to ask for it elsewhere."""
    result = _run_of(chosen).result
    left_out = [f"{name}: {chosen.method} takes none; left out" for name in chosen.left_out]
    return {
        "figures": result.figures,
        "sentence": result._report.answer,
        **_parts(result),
        "left_out": left_out,
        "slow": chosen.slow,
        "address": chosen.address,
        "command": chosen.command,
        "toml": chosen.toml,
        "python": chosen.python,
    }


def curve(chosen: Point, method: str, part: int | None = None) -> Answer:
    """Return compute utilization against bandwidth.

    Parameters
    ----------
    chosen
        All else; arguments that ``method`` does not take are left out.
    method
        Whose curve it is.
    part
        Which of :data:`PARTS`; None for all points.

    Returns
    -------
    Answer
        "points": pairs of bandwidth in bytes/s and utilization as a fraction, by bandwidth.
    """
    from sim.api.scenarios import make_scenario
    from sim.output.effort import foresee
    from sim.output.errors import naming
    from sim.questions.replications import predicted

    numbers = range(POINTS) if part is None else PARTS[part]
    every = bandwidths()
    base = make_scenario(**chosen.with_value("method", method).keywords)
    found: list[list[float]] = []
    for number in numbers:
        scenario = base.replace(bandwidth=f"{every[number]:g} Gbit/s").resolved
        if not found:  # the others differ in their bandwidth alone, and take as much memory
            foresee([scenario], runs=len(numbers))
        with naming(method):
            figures = predicted(scenario).figures
        found.append([every[number] * 1e9 / 8, figures.compute_utilization])
    return {"method": method, "points": found, "left_out": chosen.left_out}


def required(chosen: Point) -> Answer:
    """Return the bandwidths that target utilizations need, as JSON and as HTML."""
    from sim.api.requirement import required as run
    from sim.api.scenarios import make_scenario

    result = run(make_scenario(**chosen.keywords), TARGETS)
    return {"figures": result.figures, "html": _as_html(result, "Required bandwidth")}


def memory(chosen: Point) -> Answer:
    """Return the bytes that the method needs on an accelerator, as JSON and as HTML."""
    from sim.api.memory import memory as run
    from sim.api.scenarios import make_scenario

    result = run(make_scenario(**chosen.keywords), [chosen.method])
    return {"figures": result.figures, "html": _as_html(result, "Memory")}


def pictures(chosen: Point) -> Answer:
    """Return the point's pictures as HTML: a part of the timeline, unlike workers."""
    from sim.output.html_blocks import block

    return {"html": "".join(block(each, "Picture") for each in _run_of(chosen).pictures)}


def report(chosen: Point) -> Answer:
    """Return the page of one file that ``bandwise simulate --html`` writes."""
    from sim.output.html_page import Inputs, as_html_page

    run = _run_of(chosen)
    inputs = Inputs(run.result.provenance.given, chosen.command, run.pictures)
    return {"page": as_html_page(run.result._report, inputs)}


@dataclass(frozen=True)
class _Run:
    """A point that was simulated."""

    result: SimulationResult

    @cached_property
    def pictures(self) -> Sequence[Picture]:
        """Its pictures, drawn when they are first asked for."""
        return self.result._pictures()


def _run_of(chosen: Point) -> _Run:
    """Simulate a point, or return what the last answer of this process was of, if it is the same.

    Only one is kept: its trace may have hundreds of thousands of rows.
    """
    return _simulated(replace(chosen, methods=()))  # curves do not belong to the point


@lru_cache(maxsize=1)
def _simulated(chosen: Point) -> _Run:
    from sim.api.scenarios import make_scenario
    from sim.api.simulation import simulate

    return _Run(simulate(make_scenario(**chosen.keywords), sensitivity=False))


def asked(function: Callable[..., Answer], *args: Any) -> Answer:
    """Return an answer; of inputs that cannot be answered "error", one line that says why."""
    try:
        return function(*args)
    except Exception as error:
        line = as_line(error)
        if line is None:
            raise
        return {"error": _of_the_page(line)}


def _of_the_page(line: str) -> str:
    """Return a message with the page's names for what the page has a control for."""
    for each in inputs().values():
        line = line.replace(f'settings["{each.key}"]', each.name)
    return line


def _parts(result: Result) -> dict[str, str]:
    """Return the figures, and what was assumed or explained, as HTML."""
    from sim.output.html_blocks import block
    from sim.output.tables import Section, Table

    shown: dict[str, list[str]] = {"html": [], "assumed_html": []}
    for each in result._report.blocks:
        assumed = isinstance(each, Table) and [c.key for c in each.columns][:1] == ["key"]
        part = "assumed_html" if assumed or isinstance(each, Section) else "html"
        shown[part].append(block(each, "Result"))
    return {name: "".join(blocks) for name, blocks in shown.items()}


def _as_html(result: Result, name: str) -> str:
    from sim.output.html_blocks import block

    return "".join(block(each, name) for each in result._report.blocks)


def error_html(line: str) -> str:
    """Return a message as the page shows it."""
    return f'<p class="error"><strong>Not answered.</strong> {escape(line)}</p>'
