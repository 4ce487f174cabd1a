"""Scenarios of the Python API: made of keywords, or read from a file and changed by them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from sim.api.calls import CallError, a_text, called, named
from sim.api.keywords import Keywords, with_keywords
from sim.api.wording import told

if TYPE_CHECKING:
    from sim.output.tables import Report
    from sim.records.scenario import Scenario as Resolved
    from sim.scenario.document import Document

Rates = tuple[tuple[str, str], ...]


@dataclass(frozen=True, repr=False, eq=False)
class Scenario:
    """What runs where: what was given, and all that follows from it.

    Made by :func:`make_scenario` and :func:`load`; :func:`sim.simulate`, :func:`sim.sweep`,
    :func:`sim.compare` and :func:`sim.required` take it.
    """

    #: Frozen records in SI units, with everything filled in: what the simulator reads.
    resolved: Resolved
    # What was given, and where; of bandwidths that were given as numbers: key, what it was read as.
    _document: Document
    _rates: Rates

    @property
    def name(self) -> str:
        """Its name, or the file's; "" without both."""
        return self.resolved.name

    @property
    def method(self) -> str:
        """The name of its method."""
        return self.resolved.method.name

    @property
    def assumed(self) -> dict[str, str]:
        """What nobody gave: key -> the value that was assumed, derived or measured."""
        return dict(self.resolved.assumed)

    @property
    def sha256(self) -> str:
        """Hash of all that decides the answer; equal scenarios have the same."""
        return self.resolved.sha256

    @with_keywords
    def replace(self, **keywords: Unpack[Keywords]) -> Scenario:
        """Return it with other values; keywords as for :func:`make_scenario`.

        Raises
        ------
        ScenarioError
            One line: which keyword, what was given, and what to write instead.

        Examples
        --------
        >>> base = make_scenario(model="10B", bandwidth="1 Gbit/s")
        >>> base.replace(bandwidth="10 Gbit/s").resolved.rate(0, 1)  # bytes/s
        1250000000.0
        """
        return _overlaid(self._document, dict(keywords), self._rates)

    def __repr__(self) -> str:
        from sim.output.show import as_text

        return as_text(self._report)

    def _repr_html_(self) -> str:
        from sim.output.html import as_html

        return as_html(self._report)

    @property
    def _report(self) -> Report:
        from sim.output.run_report import assumed_values, subject
        from sim.output.tables import Block, Report, Table

        blocks: list[Block] = [subject(self.resolved), *assumed_values(self.resolved.assumed)]
        return Report(blocks, {}, Table([], []))


@with_keywords
@called
def make_scenario(**keywords: Unpack[Keywords]) -> Scenario:
    """Return a scenario that keywords describe; what they leave out is assumed, and listed.

    Parameters
    ----------
    **keywords
        The options of ``bandwise simulate``, with underscores: ``model``, ``method``, ``sites``,
        ``bandwidth``, ``rtt``, ``sync_every``, ``tokens``, ``mfu``, ...; arguments of the method,
        like ``outer_lr``; sections of a scenario file, like ``network={"per": "pair"}``; and
        ``settings={"network.within.rtt": "20 us"}`` for any key by its full name
        (:class:`sim.api.keywords.Keywords` lists them). Text has a unit, as in a file: "1 Gbit/s",
        "30 ms". A number is in SI units: seconds, bytes, FLOP/s, fractions from 0 to 1, and
        **bytes/s** for a bandwidth, which is then listed under what was assumed. ``method`` may be
        a generator function. None leaves a keyword out.

    Raises
    ------
    ScenarioError
        One line: which keyword, what was given, and what to write instead.

    Examples
    --------
    >>> scenario = make_scenario(model="10B", method="diloco", bandwidth="1 Gbit/s", rtt=0.03)
    >>> scenario.resolved.rate(0, 1)  # bytes/s
    125000000.0
    >>> make_scenario(model="10B", bandwidth=125e6).assumed["network.bandwidth"]
    '1 Gbit/s (a number is in bytes/s)'
    """
    from sim.scenario.document import Document

    return _overlaid(Document(), dict(keywords))


@with_keywords
@called
def load(source: str | Path, *, allow_code: bool = False, **keywords: Unpack[Keywords]) -> Scenario:
    """Return the scenario of a file, or a bundled one, changed by keywords.

    Parameters
    ----------
    source
        A TOML file, or the name of a bundled scenario (``bandwise scenarios``).
    allow_code
        Import the modules that the file names (a method) also where it is not in or below the
        working directory. They are programs: only for files that you trust.
    **keywords
        As for :func:`make_scenario`; they take precedence over the file.

    Raises
    ------
    ScenarioError
        One line: which file, which key, what was written, and what to write instead.

    Examples
    --------
    >>> load("three_sites", method="ddp").method
    'ddp'
    """
    from sim.scenario.consent import Allowed
    from sim.scenario.loading import document_of, refuse_study

    given = a_text("load", "source", source)
    named = Allowed(given) if allow_code else given if isinstance(source, str) else source
    with told():
        document = document_of(named)
        refuse_study(document, source)
    return _overlaid(document, dict(keywords))


def _overlaid(document: Document, keywords: dict[str, Any], known: Rates = ()) -> Scenario:
    from sim.scenario.keywords import key_changes, keyword_changes, rates_of
    from sim.scenario.resolution import resolve

    settings = keywords.pop("settings", None) or {}
    if not isinstance(settings, Mapping):
        text = 'settings is a dict of full keys, like settings={"network.rtt": "30 ms"}'
        raise CallError(f"{text}, not {type(settings).__name__}")
    with told():
        typed, keys = keyword_changes(keywords, given_method(document)), key_changes(settings)
        document = document.overlaid(typed).overlaid(keys)
        changed = {".".join(change.path) for change in (*typed, *keys)}
        kept = {key: text for key, text in known if key not in changed}
        rates = tuple((kept | dict(rates_of([*typed, *keys]))).items())
        return Scenario(noted(resolve(document), rates), document, rates)


def given_method(document: Document) -> object:
    """Return a method as it was given: a name, a function, or None."""
    given, steps = document.find(("method", "name"))
    return given.value if given is not None and steps == 2 else None


def noted(scenario: Resolved, rates: Rates) -> Resolved:
    """Return a scenario that lists how numbers for bandwidths were read as assumed."""
    return replace(scenario, assumed=(*scenario.assumed, *rates)) if rates else scenario


def checked(function: str, scenario: object) -> Scenario:
    """Return ``scenario`` if it is one.

    Raises
    ------
    CallError
        With what to write instead.
    """
    if isinstance(scenario, Scenario):
        return scenario
    raise CallError(f"{function}: takes a scenario, not {named(scenario)}; {_instead(scenario)}")


def _instead(value: object) -> str:
    from sim.scenario import bundled

    if isinstance(value, dict):
        return "write sim.make_scenario(**...) with its keys"
    if isinstance(value, str | Path):
        text = str(value)
        if text.endswith(".toml") or text in bundled():
            return f'write sim.load("{text}")'
        if text[:1].isdigit():
            return f'write sim.make_scenario(model="{text}")'
    return "sim.make_scenario(...) and sim.load(...) return one"
