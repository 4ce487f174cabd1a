"""``compare``: methods side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sim.api.calls import CallError, Progress, a_text, called, silent
from sim.api.levers import Levers
from sim.api.methods import Method, several_methods
from sim.api.results import Result, provenance, telling
from sim.api.scenarios import Scenario, checked, noted
from sim.api.wording import told

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from sim.output.html_blocks import Picture
    from sim.records.scenario import Scenario as Resolved


@dataclass(frozen=True, repr=False, eq=False)
class ComparisonResult(Levers, Result):
    """Methods on equal tokens, under the same random numbers."""

    def frame(self) -> pd.DataFrame:
        """Return a row per method, on all sites."""
        rows = super().frame()
        return rows[rows["left_out"].isna()].drop(columns="left_out").reset_index(drop=True)

    def without_sites(self) -> pd.DataFrame:
        """Return a row per method and site left out; none with fewer than three sites."""
        rows = super().frame()
        return rows[rows["left_out"].notna()].reset_index(drop=True)

    def _pictures(self) -> Sequence[Picture]:
        from sim.output.html_pictures import of_methods

        return of_methods(self.figures)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw where the time of each method went, as bars.

        Parameters
        ----------
        ax
            Where to draw; by default a new figure of pyplot's.
        """
        import pandas as pd

        from sim.api.drawing import axes
        from sim.figures.plots import breakdown

        rows = [
            {
                "method.name": each["method"],
                "schema": self.figures["schema"],
                **{f"{cause}_fraction": part for cause, part in each["breakdown"].items()},
            }
            for each in self.figures["methods"]
        ]
        return breakdown(pd.DataFrame(rows), axes(ax))


@called
def compare(
    scenario: Scenario,
    methods: Iterable[Method] | None = None,
    *,
    tuned: bool = False,
    sensitivity: bool | None = None,
    out: str | Path | None = None,
    on_progress: Progress | None = None,
) -> ComparisonResult:
    """Put methods side by side on equal tokens, under common random numbers.

    Parameters
    ----------
    scenario
        What :func:`make_scenario` or :func:`load` returns; its method's arguments are for all
        methods that take them.
    methods
        Names, "package.module:function", or generator functions; by default those
        of ``bandwise compare``.
    tuned
        Whether each method gets its own best setting first, within the limits of :func:`plan`.
        What a keyword of :func:`make_scenario` has given is kept. ``figures["tuned"]`` says how to
        type what was found.
    sensitivity
        Whether to compute the levers of the fastest method, what each change does to its time; by
        default where all of them are foreseen to take less than a second.
    out
        Folder for the table and the levers as CSV, the picture and comparison.json; by default
        nothing is written. What it holds of another comparison is never replaced.
    on_progress
        Called with runs done and runs in all.

    Raises
    ------
    CallError
        If ``scenario`` is none, or ``methods`` are no list of methods.
    ScenarioError
        If there is no such method, or none takes an argument that was given.
    StudyError, LockedError
        If ``out`` holds something else, or is in use.

    Examples
    --------
    >>> from sim import make_scenario
    >>> scenario = make_scenario(model="10B", bandwidth="10 Gbit/s", sync_every=100)
    >>> frame = compare(scenario, ["ddp", "diloco"]).frame()
    >>> [round(part, 3) for part in frame["compute_utilization"]]
    [0.02, 0.833]
    """
    from sim.output.comparison_folder import writing
    from sim.output.comparison_report import COMPARED, report
    from sim.output.effort import foresee
    from sim.output.errors import naming_one_of
    from sim.output.lever_lines import with_levers_of_fastest
    from sim.output.show import checked_folder
    from sim.planning.tuning import tuned_cases
    from sim.questions.comparison import compare as run
    from sim.questions.comparison import runs_of

    base = checked("compare", scenario)
    asked = several_methods("compare", COMPARED if methods is None else methods)
    if not isinstance(tuned, bool):
        raise CallError(f"compare: tuned is True or False, not {tuned!r}")
    with told():
        cases = cases_of(base, asked)
        foresee(list(cases.values()), runs=runs_of(base.resolved))
        folder = None
        if out is not None:
            folder = checked_folder("out", Path(a_text("compare", "out", out)))
        with writing(folder, cases, tuned=tuned) as write:
            settings: dict[str, str] = {}
            if tuned:
                with naming_one_of(cases):
                    cases, settings = tuned_cases(base._document, cases, on_progress or silent)
            with naming_one_of(cases):
                found = run(cases, on_progress=on_progress or silent)
            about = with_levers_of_fastest(
                report(found, cases, settings), found, cases, sensitivity
            )
            write(about)
    return ComparisonResult(
        provenance(base.resolved, cases, document=base._document), telling(about, base)
    )


def cases_of(base: Scenario, methods: list[Method]) -> dict[str, Resolved]:
    """Return the scenario of each method, under its name."""
    from sim.scenario.study import by_method

    found = by_method(base._document, methods)
    return {name: noted(scenario, base._rates) for name, scenario in found.items()}
