"""From what was written to checked sections, or to the one message that helps most."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from sim.scenario.document import Document
from sim.scenario.errors import Origin, ScenarioError, listed, nearest, problem
from sim.scenario.fields import RefusedError
from sim.scenario.method import method_arguments
from sim.scenario.schema import MERGED, SECTIONS, ScenarioFile, known_keys
from sim.scenario.words import SYNONYMS

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
    given, _ = document.find(path)
    steps: list[str] = []
    for position, step in enumerate(path):
        if isinstance(step, int) and position == 1 and path[0] == "site":
            name = document.site_name(step)
            steps += [name] if name else []
        else:
            steps.append(str(step))
    return (given.origin if given else document.origin), ".".join(steps)


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
    return problem(origin, key, f"{kind}; {meant(word, section)}")


def _holds_table(document: Document, path: Path) -> bool:
    return isinstance(document.tables.get(str(path[0])), dict) or (
        document.find(path)[0] is not None
        and isinstance(getattr(document.find(path)[0], "value", None), dict)
    )


def meant(word: str, section: tuple[str, ...]) -> str:
    """Return a hint at the key that was probably meant."""
    here = list(SECTIONS[section].model_fields) if section in SECTIONS else []
    same = nearest(word, here, 0.9)
    if same is None and word in SYNONYMS:
        target = SYNONYMS[word]
        return f"here it is called {'[[site]]' if target == 'site' else target}"
    match = same or nearest(word, here)
    if match is not None:
        return f"did you mean {_shown((*section, match))}?"
    elsewhere = {path.rpartition(".")[2]: path for path in reversed(known_keys())}
    elsewhere |= {name: f"method.{name}" for name in method_arguments() if name not in elsewhere}
    other = nearest(word, elsewhere, 0.8)
    if other is not None:
        return f"did you mean {elsewhere[other]}?"
    name = ".".join(section)
    if not name:
        return f"a scenario has {listed([*here, 'study'], 'and')}"
    return f"the keys of {name} are {listed(here, 'and')}"


def _shown(path: tuple[str, ...]) -> str:
    return "[[site]]" if path == ("site",) else ".".join(path)
