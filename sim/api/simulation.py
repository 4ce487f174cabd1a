"""``simulate``: one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sim.api.calls import ValueRefusedError, a_text, called
from sim.api.levers import Levers
from sim.api.results import Result, provenance
from sim.api.scenarios import Scenario, checked
from sim.api.wording import told

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from sim.output.html_blocks import Picture
    from sim.questions.replications import Interval, Prediction


@dataclass(frozen=True, repr=False, eq=False)
class SimulationResult(Levers, Result):
    """One run, predicted: of what is random the replication of median wall-clock."""

    _prediction: Prediction

    @property
    def interval(self) -> Interval:
        """Where the median of the evaluated rounds' wall-clock lies, in seconds."""
        return self._prediction.interval

    def by_worker(self) -> pd.DataFrame:
        """Return a row per worker: rank, site, and the share of its time that each cause took."""
        import pandas as pd

        return pd.DataFrame(self.figures["breakdown_by_worker"])

    def _pictures(self) -> Sequence[Picture]:
        from sim.output.html_pictures import of_run

        return of_run(self.figures, lambda: self._prediction.trace)

    @cached_property
    def trace(self) -> pd.DataFrame:
        """What happened: a row per operation, collective and wait; made when it is asked for."""
        return self._prediction.trace.frame()

    def save_trace(self, path: str | Path) -> None:
        """Write what happened.

        Parameters
        ----------
        path
            .parquet or .csv for ``bandwise plot`` and ``replay``, .json or .json.gz for Perfetto.

        Raises
        ------
        ValueRefusedError
            If the file cannot be written.
        """
        from sim.output.show import checked_file
        from sim.output.traces import TRACES
        from sim.trace.files import save

        with told():
            target = checked_file("path", Path(a_text("save_trace", "path", path)), TRACES)
            save(self._prediction.trace, target)

    def plot(
        self, ax: Axes | None = None, *, begin: float | None = None, end: float | None = None
    ) -> Axes:
        """Draw what each worker did, and when.

        Parameters
        ----------
        ax
            Where to draw; by default a new figure of pyplot's.
        begin, end
            Part of the run in seconds; by default rounds 2 and 3, or all of a short run.

        Raises
        ------
        ValueError
            If too much happened in that part to be told apart, or it is none.
        """
        from sim.api.drawing import axes
        from sim.figures import plots

        trace = self._prediction.trace
        part = plots.readable(trace) if begin is None and end is None else None
        first, last, _ = part or (begin or 0.0, trace.total_s if end is None else end, 0)
        if not first < min(last, trace.total_s):
            text = f"plot: begin, {first:.6g} s, is not before the end, "
            raise ValueRefusedError(f"{text}{min(last, trace.total_s):.6g} s")
        with told():
            drawn = plots.timeline(trace, axes(ax), begin=first, end=min(last, trace.total_s))
        if part is not None:
            drawn.set_xlabel(f"time (s); rounds 2 and 3 of {part[2]}")
        return drawn


@called
def simulate(
    scenario: Scenario, *, replay: str | Path | None = None, sensitivity: bool | None = None
) -> SimulationResult:
    """Predict one run: time, utilization, where the time goes. Nothing is trained.

    Parameters
    ----------
    scenario
        What :func:`make_scenario` or :func:`load` returns.
    replay
        A trace whose observations are repeated instead of looking at the virtual clock.
    sensitivity
        Whether to compute levers, what each change does to the time; by default where all of them
        are foreseen to take less than a second. None are of a replayed trace.

    Returns
    -------
    SimulationResult
        The figures of ``bandwise simulate --json``.

    Raises
    ------
    CallError
        If ``scenario`` is none.
    ValueRefusedError
        If the method's arguments do not fit, or the run cannot fit into memory.
    SimulationError
        If the method cannot continue: a deadlock, collectives that do not match, too large a run.

    Examples
    --------
    >>> from sim import make_scenario
    >>> scenario = make_scenario(model="10B", method="diloco", bandwidth="1 Gbit/s", steps=1000)
    >>> result = simulate(scenario)
    >>> round(result.figures["compute_utilization"], 4)
    0.3333
    >>> result.figures["evaluated_rounds"]["tokens_per_update"]
    209715200.0
    """
    from sim.output.effort import foresee
    from sim.output.errors import naming
    from sim.output.lever_lines import with_levers
    from sim.output.run_report import report
    from sim.output.traces import logged
    from sim.questions.in_step import runs, warned
    from sim.questions.levers import levers, within
    from sim.questions.replications import predicted
    from sim.questions.unasked import alternatives

    resolved = checked("simulate", scenario).resolved
    with told():
        foresee(runs(resolved) if replay is None else [resolved])
        path = None if replay is None else Path(a_text("simulate", "replay", replay))
        if path is not None and not path.exists():
            raise ValueRefusedError(f"simulate: replay: {path}: no such file")
        observed = None if path is None else logged(path)
        with naming(resolved.method.name):
            prediction = predicted(resolved, replay=observed)
        about = report(
            resolved if path is not None else warned(resolved, prediction),
            prediction.figures,
            interval=prediction.interval,
            alternatives=[] if path is not None else alternatives(resolved, prediction),
        )
        within_s = within(sensitivity) if path is None else None
        if within_s is not None:
            found = levers(resolved, base=prediction, within_s=within_s)
            about = with_levers(about, found, resolved.method.name)
    return SimulationResult(provenance(resolved, document=scenario._document), about, prediction)
