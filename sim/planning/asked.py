"""A search as it is asked for: which methods, and what the user has fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sim.planning.settings import ALGORITHM, EXCLUSIVE, ORDER
from sim.planning.space import METHODS
from sim.records.scenario import Scenario
from sim.scenario.balance import BALANCED
from sim.scenario.document import Document, Given
from sim.scenario.errors import ScenarioError
from sim.scenario.keywords import keyword_changes
from sim.scenario.resolution import resolve
from sim.scenario.study import by_method


@dataclass(frozen=True)
class Asked:
    """What is searched, from a scenario as it was written.

    ``bases`` has a scenario per method, which differ in the method alone, ``given`` the one as it
    was written; ``fixed`` are the keys that were typed, which keep their values. What a file
    says of its method is where the search starts from, and varied like anything else.
    """

    bases: dict[str, Scenario]
    given: Scenario
    fixed: frozenset[str] = frozenset()
    named: tuple[str, ...] = ()
    #: The same with batches balanced, where that was not said; None where nothing would change.
    balanced: dict[str, Scenario] | None = None


def asked_of(document: Document, methods: Sequence[object] | None = None) -> Asked:
    """Read a document.

    Parameters
    ----------
    document
        What was written, and where.
    methods
        Names or functions; by default the one that was typed, or METHODS.

    Raises
    ------
    ScenarioError
        If there is no such method, or an argument was typed that none takes.
    """
    given = resolve(document)
    typed = typed_keys(document)
    named = tuple(methods or ([given.method.name] if "method.name" in typed else ()))
    wanted = list(named or METHODS)
    bases = by_method(document, wanted)
    balanced = _balanced(document, wanted, bases)
    return Asked(bases, given, typed, tuple(map(str, bases)) if named else (), balanced)


def _balanced(
    document: Document, methods: list[object], bases: dict[str, Scenario]
) -> dict[str, Scenario] | None:
    """Return the bases with batches with which no worker waits for another one's step."""
    first = next(iter(bases.values()))
    steps = {worker.machine.step_seconds / worker.machine.speed for worker in first.workers}
    if len(steps) == 1 or any(site.get("batch_tokens") for site in document.sites):
        return None
    changes = keyword_changes({"batch_tokens": BALANCED})
    try:
        return by_method(document.overlaid(changes), methods)
    except ScenarioError:  # not even one sequence fits into a slow site's step
        return None


def typed_keys(document: Document) -> frozenset[str]:
    """Return the keys of the method and of the collectives that are kept: those that were typed.

    ``site.sync_every`` is kept wherever it was written.
    """
    network = document.tables.get("network", {})
    collective = network.get("collective", {}) if isinstance(network, dict) else {}
    found = {"method": document.tables.get("method", {}), "network.collective": collective}
    typed = {
        f"{section}.{key}"
        for section, table in found.items()
        if isinstance(table, dict)
        for key, given in table.items()
        if isinstance(given, Given) and given.origin.typed
    }
    if any(site.get("sync_every") for site in document.sites):
        typed.add("method.sync_every")  # each site's own number, which a common one would replace
    typed |= {f"method.{EXCLUSIVE[key[7:]]}" for key in typed if key[7:] in EXCLUSIVE}
    return frozenset(typed | ({ORDER} if ALGORITHM in typed else set()))
