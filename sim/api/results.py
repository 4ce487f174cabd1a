"""What all results have in common: figures, a table for people, and where they come from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from sim.api.scenarios import Scenario
    from sim.output.html_blocks import Picture
    from sim.output.tables import Report
    from sim.records.scenario import Scenario as Resolved
    from sim.scenario.document import Document
    from sim.scenario.given import GivenValue


@dataclass(frozen=True)
class Provenance:
    """What a result is of, and which version computed it."""

    #: Of bandwise.
    version: str
    #: The scenario's name; "" where it has none.
    scenario: str
    #: Method -> hash of all in its scenario that decides the answer.
    scenario_sha256: dict[str, str]
    #: Key -> value that nobody gave.
    assumed: dict[str, str]
    #: Arguments that a method does not take, and that were given for others.
    left_out: tuple[str, ...]
    #: Method of the user's -> hash of its text, which the scenario's does not cover.
    methods_sha256: dict[str, str]
    #: Key, value and place (a file or keyword) of what was given.
    given: tuple[GivenValue, ...] = ()


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """An answer: what the command line prints, as figures, as a table and as text."""

    #: Where it comes from.
    provenance: Provenance
    _report: Report

    @cached_property
    def figures(self) -> dict[str, Any]:
        """What ``--json`` prints: SI units and fractions under names that say so."""
        from sim.output.tables import as_json

        found: dict[str, Any] = json.loads(as_json(self._report.data))
        return found

    def frame(self) -> pd.DataFrame:
        """Return flat rows: SI units and fractions under names that say so."""
        import pandas as pd

        rows = self._report.rows
        names = [column.key for column in rows.columns]
        return pd.DataFrame([{n: row.get(n) for n in names} for row in rows.records], columns=names)

    def __repr__(self) -> str:
        from sim.output.show import as_text

        return as_text(self._report)

    def _repr_html_(self) -> str:
        from sim.output.html import as_html

        return as_html(self._report)

    def to_html(self) -> str:
        """Return a page of one file, which needs nothing from elsewhere and no script.

        The answer, tables, pictures, what was given and assumed, version and hashes: what
        ``--html`` writes.

        Examples
        --------
        >>> from sim import make_scenario, simulate
        >>> page = simulate(make_scenario(model="1B", steps=100)).to_html()
        >>> page.splitlines()[0]
        '<!DOCTYPE html>'
        """
        from sim.output.html_page import Inputs, as_html_page

        return as_html_page(self._report, Inputs(self.provenance.given, pictures=self._pictures()))

    def _pictures(self) -> Sequence[Picture]:
        return ()


def telling(report: Report, scenario: Scenario) -> Report:
    """Return a report that says for what bandwidths were taken that were given as numbers."""
    if not scenario._rates:
        return report
    read = ", ".join(f"{key} = {text.partition(' (')[0]}" for key, text in scenario._rates)
    sentence = f"Bandwidths given as numbers are in bytes/s: {read}."
    return replace(report, blocks=[*report.blocks, sentence])


def provenance(
    scenario: Resolved,
    cases: Mapping[str, Resolved] | None = None,
    runs: Iterable[Resolved] = (),
    document: Document | None = None,
) -> Provenance:
    """Return where a result comes from.

    Parameters
    ----------
    cases
        Method -> its scenario, where there are several.
    runs
        What else was run; its hashes are in the rows of the result.
    document
        What was given.
    """
    from sim.scenario.given import given_values
    from sim.version import __version__

    every = cases or {scenario.method.name: scenario}
    run = [*every.values(), *runs]
    return Provenance(
        version=__version__,
        scenario=scenario.name,
        scenario_sha256={name: case.sha256 for name, case in every.items()},
        assumed=dict(scenario.assumed),
        left_out=tuple(dict.fromkeys(key for case in run for key in case.left_out)),
        methods_sha256=_texts(run),
        given=() if document is None else tuple(given_values(document)),
    )


def _texts(scenarios: Iterable[Resolved]) -> dict[str, str]:
    from sim.questions.method_text import of_simulator, text_of

    methods = {scenario.method.name: scenario.method.program for scenario in scenarios}
    return {
        name: hashlib.sha256(text_of(program)).hexdigest()
        for name, program in methods.items()
        if not of_simulator(program)
    }
