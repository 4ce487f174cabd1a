"""Reading files: each way in which that can fail has a message of its own."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from sim.scenario.document import Document, one_spelling, wrapped
from sim.scenario.errors import Origin, path_shown, problem


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
    document = Document(label=label, folder=path.parent, stem=path.stem, study=study)
    document.tables = wrapped(data, (), origin)
    document.sites = [wrapped(site, ("site",), origin) for site in sites]
    one_spelling(document)
    return document


def read_toml(path: Path, label: str) -> dict[str, Any]:
    """Read a TOML file; every way in which that can fail has a message of its own."""
    origin = Origin(label)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise problem(origin, "", "no such file") from None
    except IsADirectoryError:
        raise problem(origin, "", "is a folder; name a .toml file in it") from None
    except OSError as error:
        raise problem(origin, "", f"cannot be read: {error.strerror}") from None
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
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise problem(origin, "", f"not valid TOML: {_toml_hint(str(error), text)}") from None
    except RecursionError:
        raise problem(origin, "", "not valid TOML: nested too deeply") from None


def _toml_hint(message: str, text: str) -> str:
    """Return the parser's message with the line it stopped at."""
    line = message.partition("(at line ")[2].partition(",")[0]
    if not line.isdigit():
        return message
    found = text.splitlines()[int(line) - 1 : int(line)]
    return f"{message}: {found[0].strip()[:60]}" if found and found[0].strip() else message
