"""``memory``: the bytes that each method needs on an accelerator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sim.api.calls import called
from sim.api.comparison import cases_of
from sim.api.methods import Method, several_methods
from sim.api.results import Result, provenance, telling
from sim.api.scenarios import Scenario, checked
from sim.api.wording import told


@dataclass(frozen=True, repr=False, eq=False)
class MemoryResult(Result):
    """Bytes on an accelerator, by part: ``frame()`` has a row per method and kind of site."""


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
    return MemoryResult(provenance(base.resolved, cases), telling(about, base))
