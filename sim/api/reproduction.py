"""``reproduce``: a published table computed again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.api.calls import CallError, Progress, a_text, called, silent
from sim.api.results import Result, provenance
from sim.api.wording import told

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, repr=False, eq=False)
class ReproductionResult(Result):
    """A published table next to ours: ``frame()`` has a row per cell."""

    _runs: pd.DataFrame

    @property
    def passed(self) -> bool:
        """Whether the cells lie within the tolerance that the study states."""
        return bool(self._report.data["passed"])

    @property
    def runs(self) -> pd.DataFrame:
        """The simulated runs of which the table was read: a row per case and bandwidth."""
        return self._runs.copy()

    def plot(self, ax: Axes | None = None, *, only: Mapping[str, Any] | None = None) -> Axes:
        """Draw utilization against bandwidth, a line per case.

        Parameters
        ----------
        ax
            Where to draw; by default a new figure of pyplot's.
        only
            Column of :attr:`runs` -> the value that a run must have to be drawn.
        """
        from sim.api.drawing import runs

        with told():
            return runs(self._runs, ax, only)


@called
def reproduce(
    name: str | Path = "streaming_diloco_table4",
    *,
    within: int | None = None,
    jobs: int | None = 1,
    allow_code: bool = False,
    on_progress: Progress | None = None,
) -> ReproductionResult:
    """Compute a published table again, cell by cell.

    Parameters
    ----------
    name
        A study with a published table (``study.compare_with``): a file, or a bundled one.
    within
        How many points of the bandwidth grid a cell may lie from the published one; by default what
        the study states.
    jobs
        Processes; None is as many as there are processors.
    allow_code
        As for :func:`load`.
    on_progress
        Called with runs done and runs in all.

    Raises
    ------
    ValueRefusedError
        If there is no published table of that name, or it cannot be read.
    ScenarioError
        If something in the study's file is wrong.
    """
    from sim.output.published import published_study
    from sim.output.reproduction_report import report
    from sim.processes.cores import cores_allowed
    from sim.questions.reproduce import reproduce as compare
    from sim.questions.study import run
    from sim.scenario.consent import Allowed

    given = a_text("reproduce", "name", name)
    for what, number, least in (("within", within, 0), ("jobs", jobs, 1)):
        whole = isinstance(number, int) and not isinstance(number, bool)
        if number is not None and not (whole and number >= least):
            raise CallError(f"reproduce: {what} is a whole number, {least} or more, not {number!r}")
    with told():
        study = published_study(Allowed(given) if allow_code else given)
        frame = run(study, None, jobs or cores_allowed(), on_progress or silent)
        about = report(compare(study, frame), study, within)
    return ReproductionResult(provenance(study.base), about, frame)
