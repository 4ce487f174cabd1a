"""``plan``: the method and the setting to train with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.api.calls import CallError, Progress, ValueRefusedError, a_text, called, silent
from sim.api.levers import Levers
from sim.api.methods import several_methods
from sim.api.requirement import fraction
from sim.api.results import Result, provenance, telling
from sim.api.scenarios import Scenario, checked
from sim.api.wording import told

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sim.output.html_blocks import Picture
    from sim.planning.decision import Plan

Method = str | Callable[..., Any]


@dataclass(frozen=True, repr=False, eq=False)
class PlanResult(Levers, Result):
    """What to train with: ``frame()`` has the chosen settings first, then the whole front."""

    _plan: Plan
    _base: Scenario

    @property
    def recommended(self) -> Scenario:
        """The scenario with the recommended setting."""
        return self._of(self._plan.recommended.setting)

    @property
    def fastest(self) -> Scenario:
        """The scenario with the setting of least time."""
        return self._of(self._plan.fastest.setting)

    def _pictures(self) -> Sequence[Picture]:
        from sim.output.html_pictures import of_plan

        return of_plan(self.figures)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the time for the tokens against tokens per update, with what was chosen.

        Parameters
        ----------
        ax
            Where to draw; by default a new figure of pyplot's.
        """
        from sim.api.drawing import axes
        from sim.output.plan_pictures import drawn_on

        return drawn_on(axes(ax), self.figures)

    def plot_cost(self, ax: Axes | None = None) -> Axes:
        """Draw what the settings cost against the time that they take.

        Parameters
        ----------
        ax
            Where to draw; by default a new figure of pyplot's.

        Raises
        ------
        ValueError
            If nothing is priced.
        """
        from sim.api.drawing import axes
        from sim.output.plan_pictures import drawn_on

        with told():
            return drawn_on(axes(ax), self.figures, cost=True)

    def _of(self, setting: Any) -> Scenario:
        names = [site.name for site in self._base.resolved.sites]
        return self._base.replace(method=setting.method, settings=setting.keys(names))


@called
def plan(
    scenario: Scenario,
    target: float | str = 0.95,
    *,
    methods: Iterable[Method] | None = None,
    max_sync_every: int | None = 100,
    max_staleness: int | None = 1,
    max_tokens_per_update: float | None = None,
    quantize_gradients: bool = False,
    sensitivity: bool | None = None,
    out: str | Path | None = None,
    on_progress: Progress | None = None,
) -> PlanResult:
    """Find the method and the setting to train with.

    Searched are methods, how often they synchronize, fragments, delays, overlap, the type on the
    wire and the algorithm of the collectives. What a keyword of :func:`make_scenario` has given is
    kept; what a file says of its method is where you are now.

    Parameters
    ----------
    scenario
        What :func:`make_scenario` or :func:`load` returns.
    target
        Compute utilization to reach, as a fraction or like "95 %".
    methods
        Names or generator functions to search, also where they learned worse in our trainings; by
        default ddp, acco, diloco and streaming_diloco.
    max_sync_every
        Most inner steps between outer steps; None is no limit.
    max_staleness
        Most inner steps by which a result may be applied late; None is no limit.
    max_tokens_per_update
        Most tokens of all workers per update.
    quantize_gradients
        Whether int8 and fp4 are searched for gradients of every step as well.
    sensitivity
        Whether to compute the levers of the recommended setting, what each change does to its
        time; by default where all of them are foreseen to take less than a second.
    out
        Folder for the tables as CSV, the pictures of the front and plan.json; by default nothing
        is written. What it holds of another question is never replaced.
    on_progress
        Called with settings simulated and settings that may have to be.

    Raises
    ------
    CallError
        If ``scenario`` is none, or ``methods`` are no list of methods.
    ValueRefusedError
        If the target is no fraction, or the limits exclude every setting.
    ScenarioError
        If there is no such method.
    StudyError, LockedError
        If ``out`` holds something else, or is in use.

    Examples
    --------
    >>> from sim import make_scenario
    >>> scenario = make_scenario(model="1B", sites=2, bandwidth="2 Gbit/s", rtt="50 ms")
    >>> found = plan(scenario, 0.9)
    >>> found.figures["recommended"]["method"], found.recommended.method
    ('streaming_diloco', 'streaming_diloco')
    """
    from sim.output.effort import foresee_plan
    from sim.output.errors import naming_one_of
    from sim.output.lever_lines import with_levers_of_plan
    from sim.output.plan_folder import writing
    from sim.output.plan_report import report
    from sim.output.show import checked_folder
    from sim.planning.asked import asked_of
    from sim.planning.decision import NothingAdmissibleError
    from sim.planning.decision import plan as run
    from sim.planning.limits import Limits

    base = checked("plan", scenario)
    wanted = None if methods is None else several_methods("plan", methods)
    limits = Limits(
        sync_every=_whole("max_sync_every", max_sync_every, 1),
        staleness=_whole("max_staleness", max_staleness, 0),
        tokens_per_update=_positive("max_tokens_per_update", max_tokens_per_update),
        quantized_gradients=quantize_gradients,
    )
    with told():
        asked = asked_of(base._document, wanted)
        limits = limits.with_named(asked.named)
        reach = fraction("plan", target)
        folder = None if out is None else checked_folder("out", Path(a_text("plan", "out", out)))
        foresee_plan(asked)
        with writing(folder, asked, reach, limits) as write:
            with naming_one_of(asked.bases):
                try:
                    found = run(asked, reach, limits=limits, on_progress=on_progress or silent)
                except NothingAdmissibleError as error:
                    raise ValueRefusedError(f"plan: {error}") from None
            about = with_levers_of_plan(report(found, asked), found, sensitivity)
            write(about)
    origin = provenance(
        base.resolved,
        {found.recommended.setting.method: found.recommended.scenario},
        document=base._document,
    )
    origin = replace(origin, assumed=found.assumed)  # without what was searched
    return PlanResult(origin, telling(about, base), found, base)


def _whole(name: str, value: int | None, least: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise CallError(f"plan: {name} is a whole number or None, not {value!r}")
    if value < least:
        raise ValueRefusedError(f"plan: {name} {value}: must be at least {least}")
    return value


def _positive(name: str, value: float | None) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CallError(f"plan: {name} is a number or None, not {value!r}")
    if not value >= 1:
        raise ValueRefusedError(f"plan: {name} {value}: must be at least 1")
    return float(value)
