"""From what was written to checked sections, or to the one message that helps most."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from sim.methods import METHODS
from sim.scenario.advice import meant
from sim.scenario.document import DEFAULT_METHOD, Document
from sim.scenario.errors import Origin, ScenarioError, problem
from sim.scenario.fields import RefusedError
from sim.scenario.method import parameters_of
from sim.scenario.schema import MERGED, SECTIONS, ScenarioFile

Path = tuple[str | int, ...]


def validated(document: Document) -> ScenarioFile:
    """Check every key of a document that does not depend on another one.

    Raises
    ------
    ScenarioError
        About the first thing wrong; unknown keys come first, since a misspelled key also
        makes another one seem to be missing.
    """
    try:
        return ScenarioFile.model_validate(document.plain())
    except ValidationError as error:
        found = error.errors(include_url=False)
    unknown = [item for item in found if item["type"] == "extra_forbidden"]
    missing = [item for item in found if item["type"] == "missing"]
    rest = [item for item in found if item not in unknown and item not in missing]
    item: Any = (unknown + rest + missing)[0]
    path: Path = item["loc"]
    if item["type"] == "extra_forbidden":
        raise unknown_key(document, path) from None
    if item["type"] == "missing":
        raise refusal(document, path[:-1], f"needs {path[-1]}") from None
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, RefusedError) and cause.at:
        origin, key = place(document, path)
        if origin.names_key:
            # The label says only which key; the place inside its value must be said too.
            key, origin = cause.at.lstrip("."), Origin(origin.label)
        else:
            key += cause.at
        value = () if cause.value is None else (cause.value,)
        raise problem(origin, key, str(cause), *value) from None
    if item["type"].startswith("model_"):
        section = tuple(step for step in path if isinstance(step, str))
        name = ".".join(section)
        text = f"must be a table: [{name}]"
        if place(document, path)[0].names_key and section in MERGED:
            key = next(iter(SECTIONS[section].model_fields))
            text = f"is a section; name one of its keys, like {name}.{key}"
        raise refusal(document, path, text) from None
    raise refusal(document, path, str(cause) if cause else item["msg"]) from None


def place(document: Document, path: Path) -> tuple[Origin, str]:
    """Return where a key was written and what a message calls it: site.osaka.step_time."""
    given, found = document.find(path)
    steps: list[str] = []
    for position, step in enumerate(path):
        if isinstance(step, int) and position == 1 and path[0] == "site":
            name = document.site_name(step)
            steps += [name] if name else []
        else:
            steps.append(str(step))
    origin = given.origin_of(path[found:]) if given else document.origin
    return origin, ".".join(steps)


def refusal(document: Document, path: Path, text: str, value: Any = None) -> ScenarioError:
    """Compose the error about a key: where it was written, and the value as written."""
    given, steps = document.find(path)
    origin, key = place(document, path)
    if given is None or steps < len(path) - 1:
        return problem(document.origin, key, text)
    if steps < len(path):
        # Inside a table that is one value, like jitter.
        if path[-2] == "jitter" and isinstance(given.value, str):  # in its short form
            return problem(origin, key, text, given.shown)
        if not isinstance(given.value, dict):
            return problem(document.origin, key, text)
        if path[-1] not in given.value:
            return problem(origin, key, text)
        return problem(origin, key, text, given.value[path[-1]])
    section = tuple(step for step in path if isinstance(step, str))
    if value is None and section in SECTIONS and not _is_value(document, path):
        return problem(origin, key, text)
    return problem(origin, key, text, given.shown if value is None else value)


def _is_value(document: Document, path: Path) -> bool:
    node: Any = {**document.tables, "site": document.sites}
    for step in path:
        node = node[step]
    return not isinstance(node, dict | list)


def unknown_key(document: Document, path: Path) -> ScenarioError:
    """Compose the error about a key that does not exist, with the one that was meant."""
    origin, key = place(document, path)
    word = str(path[-1])
    section = tuple(step for step in path[:-1] if isinstance(step, str))
    if not section and word in ("calibration", "machine", "link"):
        text = 'belongs into a hardware file, which a scenario names: hardware = "FILE"'
        return problem(origin, key, text)
    if not section and word == "study":
        return problem(origin, key, "what a study asks is set in its file only")
    names = [document.site_name(index) for index in range(len(document.sites))]
    if section == ("site",) and word in names:
        return problem(origin, key, f"name a key of the site, like site.{word}.step_time")
    kind = "unknown key" if section or not _holds_table(document, path) else "unknown section"
    return problem(origin, key, f"{kind}; {meant(word, section, *_method(document))}")


def _method(document: Document) -> tuple[str, list[str] | None]:
    """Return the name of the method, and what it takes if it is one of ours."""
    given, steps = document.find(("method", "name"))
    name = str(given.value) if given is not None and steps == 2 else DEFAULT_METHOD
    method = METHODS.get(name)
    return name, None if method is None else list(parameters_of(method).annotations)


def _holds_table(document: Document, path: Path) -> bool:
    return isinstance(document.tables.get(str(path[0])), dict) or (
        document.find(path)[0] is not None
        and isinstance(getattr(document.find(path)[0], "value", None), dict)
    )
