"""What people wrote into a scenario: key, value and place, for a page that lists its inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from sim.scenario.document import Document, Given

_LONGEST = 2_000  # characters: a matrix of 30 sites


class GivenValue(NamedTuple):
    """A key that somebody wrote."""

    #: With the name of its site, where there are several: "site.osaka.step_time".
    key: str
    #: As it was written.
    value: str
    #: The file or the option; "" for what follows from the choice of sites.
    where: str


def given_values(document: Document) -> list[GivenValue]:
    """Return the keys of a document that somebody wrote, site by site, and what a study varies."""
    found = list(_leaves(document.tables, ""))
    for number, site in enumerate(document.sites):
        name = document.site_name(number)
        found += _leaves(site, f"site.{name}" if name else "site")
    for key, value in (document.study or {}).items():
        if key == "axis" and isinstance(value, dict):
            found += [
                GivenValue(f"study.axis.{axis}", _text(points), document.label)
                for axis, points in value.items()
            ]
        else:
            found.append(GivenValue(f"study.{key}", _text(value), document.label))
    return found


def _leaves(node: Any, path: str) -> Iterator[GivenValue]:
    if isinstance(node, Given):
        # "--set network.rtt" is the option: its key stands in the column before.
        label = "--set" if node.origin.label.startswith("--set ") else node.origin.label
        yield GivenValue(path, _text(node.shown), label)
        return
    for key, inner in node.items():
        yield from _leaves(inner, f"{path}.{key}" if path else str(key))


def _text(value: Any) -> str:
    """Return a value as a file has it; text without its quotes, a function by its name."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(value).removesuffix(".0")
    if isinstance(value, list | tuple):
        text = f"[{', '.join(map(_text, value))}]"
    elif isinstance(value, dict):
        text = ", ".join(f"{key} = {_inner(inner)}" for key, inner in value.items())
    else:
        text = str(getattr(value, "__name__", value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _inner(value: Any) -> str:
    """Return a value inside a table; a table in braces, as TOML has it."""
    return f"{{ {_text(value)} }}" if isinstance(value, dict) else _text(value)
