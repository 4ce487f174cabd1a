"""Reading files: each way in which that can fail has a message of its own."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from sim.scenario.document import Document, one_spelling, wrapped
from sim.scenario.errors import Origin, ScenarioError, path_shown, problem
from sim.scenario.toml import BeyondError, parse
from sim.storage.inputs import NotAFileError, read


def from_file(path: Path, label: str | None = None) -> Document:
    """Read a TOML file into a document."""
    label = label or path_shown(path)
    origin = Origin(label)
    data = read_toml(path, label)
    study = data.pop("study", None)
    if study is not None and not isinstance(study, dict):
        raise problem(origin, "study", "must be a table: [study]", study)
    written = "site" in data
    sites = data.pop("site", [])
    if isinstance(sites, dict):
        raise problem(origin, "site", "write [[site]], in double brackets: one block per site")
    if not isinstance(sites, list) or not all(isinstance(site, dict) for site in sites):
        raise problem(origin, "site", "must be [[site]] blocks, one per site", sites)
    if written and not sites:
        raise problem(origin, "site", "must not be empty: one [[site]] block per site")
    document = Document(label=label, folder=path.parent, path=path, stem=path.stem, study=study)
    document.tables = wrapped(data, (), origin)
    document.described = written
    document.sites = [wrapped(site, ("site",), origin) for site in sites]
    one_spelling(document)
    return document


def there(path: Path) -> bool:
    """Whether a path leads to anything; also where no path could be so long or so strange."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def siblings(path: Path, suffix: str) -> list[str]:
    """Return the files in a path's folder with a suffix, for "did you mean"."""
    if not there(path.parent) or not path.parent.is_dir():
        return []
    return sorted(other.name for other in path.parent.iterdir() if other.suffix == suffix)


def read_bytes(path: Path, origin: Origin, folder: str) -> bytes:
    """Read a file; every way in which that can fail has a message, ``folder`` that of a folder."""
    try:
        return read(path)
    except FileNotFoundError:
        raise problem(origin, "", "no such file") from None
    except IsADirectoryError:
        raise problem(origin, "", folder) from None
    except NotAFileError as error:
        raise problem(origin, "", str(error.strerror)) from None
    except OSError as error:
        raise problem(origin, "", f"cannot be read: {error.strerror}") from None


def read_toml(path: Path, label: str) -> dict[str, Any]:
    """Read a TOML file; every way in which that can fail has a message of its own."""
    origin = Origin(label)
    raw = read_bytes(path, origin, "is a folder; name a .toml file in it")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if b"\0" in raw:
            raise problem(origin, "", "is not a text file; a TOML file is expected") from None
        line = raw[: error.start].count(b"\n") + 1
        raise problem(origin, "", f"line {line} is not UTF-8; save the file as UTF-8") from None
    if "\0" in text:
        raise problem(origin, "", "is not a text file; a TOML file is expected")
    try:
        return parse(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax(origin, str(error), text) from None
    except BeyondError as error:
        raise problem(origin, error.at, str(error)) from None


def _syntax(origin: Origin, message: str, text: str) -> ScenarioError:
    """Say what is wrong in a line in words of our own: the parser's change with its version."""
    place = message.partition("(at line ")[2].partition(",")[0]
    if not place.isdigit():
        hint = "a bracket or a quotation mark is not closed"
        return problem(origin, "", f"not valid TOML up to its end: {hint}")
    found = text.splitlines()[int(place) - 1 : int(place)] or [""]
    line = found[0].strip()
    if "overwrite" in message or "twice" in message or "mutate" in message:
        hint = "this is there twice"
    else:
        hint = next((hint for pattern, hint in _HINTS if pattern.search(line)), "cannot be read")
    return problem(origin, f"line {place}", f"not valid TOML: {hint}: {line[:60]}")


# What people write instead of TOML, and what to say to them; the first that fits.
_HINTS = [
    (re.compile(pattern), hint)
    for pattern, hint in (
        (r"[\u201c\u201d\u2018\u2019\u00ab\u00bb]", 'use plain quotation marks, "'),
        (r"^[\w.-]+\s*:", "write = between a key and its value"),
        (r"=\s*$", "there is no value after ="),
        (r"=\s*(True|False|None|yes|no|null)\b", "the words for yes and no are true and false"),
        (r"^\[[^\]]*$", "a bracket is not closed"),
        (r'^[^"]*"[^"]*$', "a quotation mark is not closed"),
        (r"\\", "a backslash is written twice, or use 'single quotes'"),
        (r"=\s*[\d.+-]+\s*[A-Za-z%]", 'a value with a unit is written in quotes, like "30 ms"'),
        (r"=\s*[A-Za-z]", "text is written in quotes"),
        (r"^[^=]*$", "write a key, = and a value, or [section]"),
    )
]
