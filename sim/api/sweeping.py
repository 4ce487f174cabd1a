"""``sweep``: keys of a scenario varied, one run per combination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.api.calls import CallError, Progress, a_text, called, silent
from sim.api.results import Result, provenance, telling
from sim.api.scenarios import Scenario, checked, given_method, noted
from sim.api.wording import told

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from sim.output.html_blocks import Picture
    from sim.scenario import Study


@dataclass(frozen=True, repr=False, eq=False)
class SweepResult(Result):
    """Runs that differ in what was varied."""

    _runs: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """Return a row per run: what was varied, then the figures, in SI units and fractions."""
        return self._runs.copy()

    def _pictures(self) -> Sequence[Picture]:
        from sim.output.html_pictures import of_study

        return of_study(self._runs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        only: Mapping[str, Any] | None = None,
        x: str | None = None,
        y: str | None = None,
        color: str | None = None,
        facet: str | None = None,
    ) -> Axes:
        """Draw utilization against bandwidth, or where the time went if that was not varied.

        With ``x`` and ``y``, draw one column against another instead.

        Parameters
        ----------
        ax
            Where to draw; by default a new figure of pyplot's.
        only
            Column of :meth:`frame` -> the value that a run must have to be drawn.
        x, y
            Columns to draw against each other, as after ``bandwise plot --x``.
        color, facet
            Columns with a line, and with a panel, per value. Panels need a figure of their own:
            the first of its axes is returned.

        Raises
        ------
        ValueError
            For more than 60 runs that do not vary the bandwidth, or if ``only`` leaves none;
            for columns that do not exist or cannot be drawn.
        """
        from sim.api.drawing import runs

        with told():
            return runs(self._runs, ax, only, x=x, y=y, color=color, facet=facet)


@called
def sweep(
    scenario: Scenario,
    *,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    jobs: int | None = 1,
    on_progress: Progress | None = None,
    **axes: Any,
) -> SweepResult:
    """Vary keys of a scenario: one run per combination.

    Parameters
    ----------
    scenario
        What :func:`make_scenario` or :func:`load` returns; what it says of a varied key gives way.
    settings
        Full keys with their values, like ``{"network.per": ["site", "pair"]}``.
    out
        Folder for results.csv, results.parquet and curves. The same call continues what was
        interrupted, and reuses what is finished, as ``bandwise sweep --out`` does. By default
        nothing is written.
    jobs
        Processes; None is one per processor, or one for what takes a few seconds.
    on_progress
        Called with runs done and runs in all.
    **axes
        What to vary, by the keywords of :func:`make_scenario`, each with several values, or with
        text as after ``--over``: ``bandwidth="0.1..100Gbit/s:25"`` is 25 points spaced by a
        factor. Several axes multiply.

    Raises
    ------
    CallError
        If ``scenario`` is none, or nothing is varied.
    ScenarioError
        If a value cannot be.
    StudyError, LockedError, DamagedError
        If ``out`` holds something else, is in use, or is damaged.

    Examples
    --------
    >>> from sim import make_scenario
    >>> scenario = make_scenario(model="10B", method="diloco", bandwidth="1 Gbit/s")
    >>> frame = sweep(scenario, sync_every=[30, 300]).frame()
    >>> [round(part, 3) for part in frame["compute_utilization_fraction"]]
    [0.13, 0.6]
    """
    from sim.output import run_tables
    from sim.output.effort import foresee
    from sim.output.pictures import save_curves
    from sim.output.show import checked_folder
    from sim.questions.study import run

    base = checked("sweep", scenario)
    if jobs is not None and (isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1):
        raise CallError(f"sweep: jobs is a number of processes, 1 or more, not {jobs!r}")
    with told():
        study = _study(base, axes, settings)
        folder = None if out is None else Path(a_text("sweep", "out", out))
        if folder is not None:
            checked_folder("out", folder)
        every = [case.scenario for case in study.cases()]
        number = foresee(every, jobs=jobs)
        frame = run(study, folder, number, on_progress or silent)
        if folder is not None:
            save_curves(frame, folder)
        about = run_tables.runs(study, frame)
    return SweepResult(
        provenance(base.resolved, runs=every, document=base._document), telling(about, base), frame
    )


def _study(base: Scenario, axes: Mapping[str, Any], settings: Mapping[str, Any] | None) -> Study:
    from sim.scenario.axes import column
    from sim.scenario.keywords import keyword_axis
    from sim.scenario.study import varied

    if settings is not None and not isinstance(settings, Mapping):
        text = 'sweep: settings is a dict of full keys, like {"network.per": ["site", "pair"]}'
        raise CallError(f"{text}, not {type(settings).__name__}")
    asked = {**axes, **(settings or {})}
    if not asked:
        raise CallError('sweep: name what to vary, like bandwidth=["1 Gbit/s", "10 Gbit/s"]')
    found = [
        keyword_axis(name, values, given_method(base._document)) for name, values in asked.items()
    ]
    study = varied(base._document, found, again=True)
    rates = tuple(pair for pair in base._rates if column(pair[0].split(".")) not in study.axes)
    cases = (replace(case, scenario=noted(case.scenario, rates)) for case in study.combinations)
    return replace(study, base=noted(study.base, rates), combinations=tuple(cases))
