"""What people wrote, before it means anything: a file, options and settings laid over it.

Levels: a file, over it options, over them ``--set``, over all a study's case. A key set at a
higher level replaces the lower one's, and so does another spelling of the same quantity; two
spellings at one level are an error. Every value remembers where it was written, so that a
message can say so.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sim.scenario.errors import NOWHERE, Origin, ScenarioError, did_you_mean, listed, problem
from sim.scenario.fields import RefusedError, jitter
from sim.scenario.schema import (
    BELONGS_TO_MODEL,
    DIMENSIONS,
    MERGED,
    MOVED,
    SPELLINGS,
    SiteSection,
)


@dataclass(frozen=True)
class Given:
    """A value, where it was written, and the text that was typed if it was not in a file.

    ``inner`` says of a table that counts as one value which of its keys were written elsewhere.
    """

    value: Any
    origin: Origin
    written: str | None = None
    inner: Mapping[tuple[str, ...], Origin] = field(default_factory=dict)

    @property
    def shown(self) -> Any:
        """What a message shows."""
        return self.value if self.written is None else self.written

    def origin_of(self, path: Iterable[str | int]) -> Origin:
        """Return where a key inside the value was written; no path is the value itself."""
        return self.inner.get(tuple(map(str, path)), self.origin)


@dataclass(frozen=True)
class Change:
    """One key to be set at a higher level. ``path`` has no site's name in it yet."""

    path: tuple[str, ...]
    given: Given


Table = dict[str, Any]  # of Given or Table
Level = dict[tuple[int, frozenset[str]], tuple[str, Given]]

DEFAULT_METHOD = "streaming_diloco"
DEFAULT_SITES = 2
_MOST_EXPANDED = 2_000


@dataclass
class Document:
    """A scenario's keys as nested tables of :class:`Given`; sites apart, as a list.

    ``folder`` is what relative paths start from, ``path`` the file itself, ``code_allowed`` whether
    modules that it names may be imported wherever it lies. ``study`` is the [study] table as read.
    ``described`` says that someone listed the sites, so that each stands for one unless it has
    a count; ``inherited`` are method arguments written for another method than the one now named
    (``written_for``) or for several (``several``), ``left_out`` the sites that ``--sites`` did not
    choose.
    ``stands_for`` gives the name of the block from which a site of several was taken apart,
    because a key names it; ``assumed_count`` says that nobody said how many those are.
    """

    label: str = ""
    folder: Path = field(default_factory=Path)
    stem: str = ""
    tables: Table = field(default_factory=dict)
    sites: list[Table] = field(default_factory=list)
    study: dict[str, Any] | None = None
    described: bool = False
    inherited: frozenset[str] = frozenset()
    written_for: str = ""
    several: bool = False
    left_out: frozenset[str] = frozenset()
    stands_for: dict[str, str] = field(default_factory=dict)
    assumed_count: bool = False
    path: Path | None = None
    code_allowed: bool = False

    @property
    def origin(self) -> Origin:
        """Where something missing should have been written."""
        return Origin(self.label)

    def plain(self) -> dict[str, Any]:
        """Return the values alone, as pydantic reads them."""
        tables: dict[str, Any] = _values(self.tables)
        tables["site"] = [_values(site) for site in self.sites]
        return tables

    def find(self, path: Iterable[str | int]) -> tuple[Given | None, int]:
        """Return the value at a path, or above it, and how many steps of the path it took."""
        node: Any = {**self.tables, "site": self.sites}
        steps = 0
        for step in path:
            if isinstance(node, Given):
                break
            try:
                node = node[step]
            except (KeyError, IndexError, TypeError):
                break
            steps += 1
        return (_first(node) if steps else None), steps

    def origin_of(self, *path: str | int) -> Origin:
        """Return where a key was written; the file itself if nowhere."""
        given, steps = self.find(path)
        return given.origin if given is not None and steps == len(path) else self.origin

    def has(self, *path: str | int) -> bool:
        """Whether someone wrote this key."""
        given, steps = self.find(path)
        return given is not None and steps == len(path)

    def site_name(self, index: int) -> str:
        """Return what a message calls a site: its name, or its place among several."""
        name = self.sites[index].get("name")
        if isinstance(name, Given) and isinstance(name.value, str) and name.value.strip():
            return name.value
        return str(index + 1) if len(self.sites) > 1 else ""

    def overlaid(self, changes: Iterable[Change]) -> Document:
        """Return a copy with one level of changes laid over this one."""
        result = copy.copy(self)
        result.tables = _copied(self.tables)
        result.sites = [_copied(site) for site in self.sites]
        # The list of sites first (others address them), then the method's name (it decides
        # which of the lower level's arguments stay).
        first = {("sites",): 0, ("site", "count"): 1, ("method", "name"): 2}
        ordered = sorted(changes, key=lambda c: first.get(c.path, 3))
        level: Level = {}
        apart = False
        for change in ordered:
            if change.path == ("sites",):
                result._choose_sites(change.given)
                continue
            if change.path == ("site", "count") and result.stands_for:
                one = next(iter(result.stands_for))
                text = f"a key names one of the sites ({one}, ...), so their number is settled"
                raise problem(change.given.origin, "site.count", text)
            if not apart and change.path != ("site", "count"):
                # Before any key is set: what a level says of all sites reaches each of them.
                apart = True
                for name in (c.path[1] for c in ordered if _names_site(c.path)):
                    result._take_apart(name)
            for table, section, rest in result._targets(change):
                if section == ("method",):
                    result._inherit(table, rest[0], change.given.value)
                _put(table, section, rest, change.given, level)
        result._drop_moved(ordered)
        return result

    def without(self, *paths: tuple[str, ...]) -> Document:
        """Return a copy without some keys; a path that begins with "site" is of every site."""
        result = copy.copy(self)
        result.tables = _copied(self.tables)
        result.sites = [_copied(site) for site in self.sites]
        for path in paths:
            tables = result.sites if path[0] == "site" else [result.tables.get(path[0])]
            for table in tables:
                if isinstance(table, dict):
                    table.pop(path[1], None)
        return result

    def _drop_moved(self, changes: Iterable[Change]) -> None:
        """Remove the other spelling of keys that have moved; refuse both at one level."""
        given = {change.path: change.given for change in changes}
        for pair in (pair for item in MOVED.items() for pair in (item, item[::-1])):
            if pair[0] not in given:
                continue
            if pair[1] in given:
                raise _both(pair[0], pair[1], given[pair[0]].origin)
            table, _, (key,) = self._targets(Change(pair[1], given[pair[0]]))[0]
            table.pop(key, None)

    def _inherit(self, method: Table, key: str, value: Any) -> None:
        """Note which arguments were written for another method: they stay only if they fit."""
        if key != "name":
            self.inherited -= {key}
            return
        lower = method.get("name")
        former = lower.value if isinstance(lower, Given) else DEFAULT_METHOD
        if former != value:
            self.inherited = frozenset(method) - {"name"}
            self.written_for = former if isinstance(former, str) else ""

    def for_several_methods(self, own: Iterable[str]) -> Document:
        """Return a copy whose method arguments are for several methods, but for ``own`` ones."""
        method = self.tables.get("method")  # a table, unless it was written as something else
        given = frozenset(method if isinstance(method, dict) else ()) - {"name", *own}
        return replace(self, inherited=given, written_for="", several=True)

    def _targets(self, change: Change) -> list[tuple[Table, tuple[str, ...], tuple[str, ...]]]:
        """Return (table, its section, the rest of the path) for all tables that a change means."""
        path = change.path
        if path[0] != "site":
            table: Table = self.tables
            section: tuple[str, ...] = ()
            for step in path[:-1]:
                if (*section, step) not in MERGED and section:
                    break
                node = table.setdefault(step, {})
                if isinstance(node, Given):
                    break
                table, section = node, (*section, step)
            return [(table, section, path[len(section) :])]
        if _names_site(path):
            return [(self._site(path[1], change.given.origin), ("site",), path[2:])]
        if not path[1:]:
            raise problem(change.given.origin, "site", "name a key, like site.step_time")
        if not self.sites:
            self.sites = [{}]
        return [(site, ("site",), path[1:]) for site in self.sites]

    def _site(self, name: str, origin: Origin) -> Table:
        known = [self.site_name(index) for index in range(len(self.sites))]
        if name in known:
            return self.sites[known.index(name)]
        if name.isdecimal() and 0 < int(name) <= len(self.sites):
            return self.sites[int(name) - 1]
        named = [shown for _, shown in self._shown_names()]
        many = f"; they are called {named[0]} to {named[-1]}" if len(named) > 8 else None
        hint = did_you_mean(name, named, many)
        raise problem(origin, f"site.{name}", f'there is no site "{name}"{hint}')

    def _shown_names(self) -> list[tuple[int, str]]:
        """Return each site's block and the name under which results show it."""
        shown: list[tuple[int, str]] = []
        for index, site in enumerate(self.sites or [{}]):
            name, given = site.get("name"), site.get("count")
            several = 1 if self.described else DEFAULT_SITES
            if isinstance(given, Given):
                number = given.value  # whether it is a number at all is checked later
                several = number if isinstance(number, int) and number > 0 else 1
            for number in range(min(several, _MOST_EXPANDED)):
                if not isinstance(name, Given):
                    shown.append((index, f"site-{len(shown) + 1}"))
                else:
                    shown.append(
                        (index, f"{name.value}-{number + 1}" if several > 1 else name.value)
                    )
        return shown

    def _take_apart(self, name: str) -> None:
        """Make a block that stands for several sites one block each, if one is called so."""
        shown = self._shown_names()
        block = next((index for index, other in shown if other == name), None)
        if block is None or name in [self.site_name(index) for index in range(len(self.sites))]:
            return
        names = [other for index, other in shown if index == block]
        self.sites = self.sites or [{}]
        original = self.sites[block]
        self.assumed_count = not self.described and "count" not in original
        before = self.site_name(block)
        original.pop("count", None)
        copies = [original, *(_copied(original) for _ in names[1:])]
        for site, own in zip(copies, names, strict=True):
            site["name"] = Given(own, self.origin)
        self.sites[block : block + 1] = copies
        self.stands_for = {**self.stands_for, **dict.fromkeys(names, before)}
        self.described = True

    def _choose_sites(self, given: Given) -> None:
        """Apply --sites: how many like the one described, or which by name."""
        if isinstance(given.value, int):
            if len(self.sites) > 1:
                names = listed([self.site_name(i) for i in range(len(self.sites))], "and")
                raise problem(
                    given.origin,
                    "",
                    f"the file describes different sites ({names}); name those to keep, like "
                    "--sites paris,dallas",
                    given.shown,
                )
            self.sites = self.sites or [{}]
            self.sites[0]["count"] = given
            return
        known = [self.site_name(index) for index in range(len(self.sites))]
        chosen: list[str] = list(given.value)
        if len(self.sites) < 2 and known != chosen:
            template = {k: v for k, v in (self.sites or [{}])[0].items() if k != "count"}
            self.sites = [
                {**_copied(template), "name": Given(name, given.origin)} for name in chosen
            ]
            self.described = True
            return
        for name in chosen:
            self._take_apart(name)
        known = [self.site_name(index) for index in range(len(self.sites))]
        for name in chosen:
            if name not in known:
                self._site(name, given.origin)
        network = self.tables.setdefault("network", {})
        if isinstance(network, dict) and "order" not in network:
            network["order"] = Given(known, NOWHERE)
        self.sites = [self.sites[known.index(name)] for name in chosen]
        self.left_out = frozenset(known) - frozenset(chosen)


def _names_site(path: tuple[str, ...]) -> bool:
    return path[0] == "site" and len(path) > 2 and path[1] not in SiteSection.model_fields


def wrapped(data: Mapping[str, Any], section: tuple[str, ...], origin: Origin) -> Table:
    """Return nested tables whose values know where they were written."""
    return {
        key: wrapped(value, (*section, key), origin)
        if isinstance(value, dict) and (*section, key) in MERGED
        else Given(value, origin)
        for key, value in data.items()
    }


def _values(node: Any) -> Any:
    if isinstance(node, Given):
        return node.value
    return {key: _values(value) for key, value in node.items()}


def _first(node: Any) -> Given | None:
    if isinstance(node, Given):
        return node
    children = node if isinstance(node, list) else node.values()
    return next((found for child in children if (found := _first(child)) is not None), None)


def _copied(table: Table) -> Table:
    return {k: _copied(v) if isinstance(v, dict) else v for k, v in table.items()}


def flattened(path: tuple[str, ...], value: Any) -> Iterable[tuple[tuple[str, ...], Any]]:
    """Yield (path, value) of the keys in a table; tables that are one value stay whole."""
    section = tuple(step for step in path if step)
    inside = section[:1] == ("site",) and section[-1] == "inside"  # laid over key by key
    if isinstance(value, dict) and (
        not section or section in MERGED or inside or _describes_site(section, value)
    ):
        for key, item in value.items():
            yield from flattened((*path, key), item)
    else:
        yield path, value


def _describes_site(section: tuple[str, ...], value: dict[str, Any]) -> bool:
    """Whether a table in a case is one site's, under its name: site.osaka = { speed = 0.5 }."""
    known = SiteSection.model_fields
    return (
        len(section) == 2
        and section[0] == "site"
        and section[1] not in known
        and set(value) <= set(known)
    )


def _put(
    table: Table, section: tuple[str, ...], rest: tuple[str, ...], given: Given, level: Level
) -> None:
    """Set one key and remove what it replaces."""
    key, stored = rest[0], given
    if len(rest) > 1:
        # Inside a table that otherwise counts as one value: jitter.cv.
        whole = table.get(key, Given({}, given.origin))
        if key == "jitter" and isinstance(whole.value, str):
            whole = _in_full(whole)
        if not isinstance(whole.value, dict):
            path = ".".join((*section, *rest))
            raise problem(given.origin, path, f"{key} is a value here, not a table")
        inner = dict(whole.value)
        node = inner
        for step in rest[1:-1]:
            found = node.get(step, {})
            if not isinstance(found, dict):
                path = ".".join((*section, *rest))
                raise problem(given.origin, path, f"{step} is a value here, not a table")
            node[step] = dict(found)
            node = node[step]
        node[rest[-1]] = given.value
        stored = Given(inner, whole.origin, inner={**whole.inner, rest[1:]: given.origin})
    spellings = SPELLINGS.get(section, ())
    mine = next((keys for keys in spellings if key in keys), None)
    if mine is not None:
        for other in spellings:
            if other is mine:
                continue
            rival = level.get((id(table), other))
            if rival is not None:
                raise _two_spellings(section, rival, key, given)
            replaced = [k for k in other if table.pop(k, None) is not None]
            if replaced and section == ("model",):
                _forget_model(table, level)
        level[(id(table), mine)] = (key, given)
        if section == ("model",) and key == "name":
            _forget_model(table, level)
        if section == ("model",) and key == "size":
            _forget_model(table, level, BELONGS_TO_MODEL | DIMENSIONS)
    level[(id(table), frozenset([key, "."]))] = (key, given)
    table[key] = stored


def _in_full(short: Given) -> Given:
    """Return jitter written like lognormal:0.05 as the table that it means."""
    try:
        return Given(jitter(short.value), short.origin)
    except RefusedError as error:
        raise problem(short.origin, "site.jitter", str(error), short.shown) from None


def _forget_model(table: Table, level: Level, keys: frozenset[str] = BELONGS_TO_MODEL) -> None:
    """A new model: what the lower level said about the old one's layers goes with it."""
    for key in keys:
        if (id(table), frozenset([key, "."])) not in level:
            table.pop(key, None)


def _two_spellings(
    section: tuple[str, ...], first: tuple[str, Given], second: str, given: Given
) -> ScenarioError:
    name, rival = ".".join((*section, first[0])), first[1].origin
    shown = rival.label if rival.label.startswith("--") else name
    text = f"excludes {shown}; give only one of them"
    return problem(given.origin, ".".join((*section, second)), text)


def _both(first: tuple[str, ...], second: tuple[str, ...], origin: Origin) -> ScenarioError:
    text = f"excludes {'.'.join(second)}; give only one of them"
    return problem(origin, ".".join(first), text)


def one_spelling(document: Document) -> None:
    """Refuse a document in which one quantity is written in two spellings."""
    for former, now in MOVED.items():
        if document.has(*former) and document.has(*now):
            raise _both(former, now, document.origin)
    for section, spellings in SPELLINGS.items():
        if section == ("site",):
            tables = [
                (f"site.{document.site_name(i)}".rstrip("."), s)
                for i, s in enumerate(document.sites)
            ]
        else:
            node: Any = document.tables
            for step in section:
                node = node.get(step) if isinstance(node, dict) else None
            tables = [(".".join(section), node)] if isinstance(node, dict) else []
        for shown, table in tables:
            used = [next((k for k in table if k in keys), None) for keys in spellings]
            present = [key for key in used if key is not None]
            if len(present) > 1:
                raise problem(
                    document.origin,
                    f"{shown}.{present[1]}",
                    f"excludes {shown}.{present[0]}; give only one of them",
                )
