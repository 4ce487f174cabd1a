"""``memory``: the bytes that each method needs on an accelerator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sim.api.calls import called
from sim.api.comparison import cases_of
from sim.api.methods import Method, several_methods
from sim.api.results import Result, provenance, telling
from sim.api.scenarios import Scenario, checked
from sim.api.wording import told

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sim.output.html_blocks import Picture


@dataclass(frozen=True, repr=False, eq=False)
class MemoryResult(Result):
    """Bytes on an accelerator, by part: ``frame()`` has a row per method and kind of site."""

    def _pictures(self) -> Sequence[Picture]:
        from sim.output.html_pictures import of_memory

        return of_memory(self.figures)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the bytes of each method by part, as bars, with the memory of the accelerator.

        Parameters
        ----------
        ax
            Where to draw; by default a new figure of pyplot's.

        Raises
        ------
        ValueError
            For more than 40 bars.
        """
        from sim.api.drawing import axes
        from sim.output.pictures import memory_on

        with told():
            drawn = memory_on(self.figures, axes(ax))
        drawn.legend(fontsize=8, frameon=False)
        return drawn


@called
def memory(scenario: Scenario, methods: Iterable[Method] | None = None) -> MemoryResult:
    """Count the bytes that each method needs on an accelerator.

    Parameters
    ----------
    scenario
        What :func:`make_scenario` or :func:`load` returns; its method's arguments are for all
        methods that take them.
    methods
        Names, "package.module:function", or generator functions; by default all.

    Raises
    ------
    CallError
        If ``scenario`` is none, or ``methods`` are no list of methods.
    ScenarioError
        If there is no such method, or none takes an argument that was given.

    Examples
    --------
    >>> from sim import make_scenario
    >>> scenario = make_scenario(model="7.5B", step_time="1 s", sites=64)
    >>> frame = memory(scenario, ["ddp", "diloco", "acco"]).frame()
    >>> [round(size / 1e9) for size in frame["persistent_bytes"]]
    [120, 150, 46]
    """
    from sim.methods import METHODS
    from sim.output.errors import naming_one_of
    from sim.output.memory_report import report

    base = checked("memory", scenario)
    asked = several_methods("memory", METHODS if methods is None else methods)
    with told():
        cases = cases_of(base, asked)
        with naming_one_of(cases):
            about = report(cases)
    # The micro-batches that times would assume are not those of this answer.
    origin = replace(
        provenance(base.resolved, cases, document=base._document), assumed=about.data["assumed"]
    )
    return MemoryResult(origin, telling(about, base))
