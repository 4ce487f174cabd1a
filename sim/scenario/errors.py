"""One-line messages: where, which key, what was written, what is allowed, what was near it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sim.text.told import one_line


class ScenarioError(ValueError):
    """Something in a scenario, an option or a file it names is wrong.

    The text is one line that says where and what, and what to write instead.
    """


@dataclass(frozen=True)
class Origin:
    """Where a value was written.

    ``label`` is a file as the user would name it, "--rtt" or "--set network.rtt"; empty for
    what no one wrote. ``names_key``: the label already says which key. ``prefix`` leads to
    the key inside its file, for the cases of a study. ``typed``: on the command line or in Python,
    and not in a file.
    """

    label: str
    names_key: bool = False
    prefix: str = ""
    typed: bool = False


NOWHERE = Origin("")
_MISSING = object()


def shown(value: Any) -> str:
    """Return a value as the file has it, shortened to what fits into a message."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(shown(item) for item in value) + "]"
    elif isinstance(value, dict):
        text = "{" + ", ".join(f"{key} = {shown(item)}" for key, item in value.items()) + "}"
    else:
        text = str(value)
    return text if len(text) <= 60 else text[:56] + " ..."


def problem(origin: Origin, key: str, text: str, value: Any = _MISSING) -> ScenarioError:
    """Compose the message; ``value`` is shown where one was written."""
    parts = [origin.label] if origin.label else []
    if key and not origin.names_key:
        parts.append(f"{origin.prefix}.{key}" if origin.prefix else key)
    if value is not _MISSING:
        parts.append(shown(value))
    message = ": ".join([*parts, " ".join(text.split())])
    return ScenarioError(one_line(message.replace("\n", "\\n").replace("\t", "\\t")))


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known word that was probably meant, if any is near."""
    spelled: dict[str, str] = {}
    for name in known:
        spelled.setdefault(_plain(name), name)
    if _plain(word) in spelled:
        return spelled[_plain(word)]
    matches = get_close_matches(_plain(word), spelled, n=1, cutoff=cutoff)
    return spelled[matches[0]] if matches else None


def _plain(word: str) -> str:
    return word.lower().replace("-", "_").replace(" ", "_")


# A file that is not there may be any file: only a slip of the pen is worth a guess.
FILE_CUTOFF = 0.75


def did_you_mean(
    word: str, known: Iterable[str], otherwise: str | None = None, cutoff: float = 0.6
) -> str:
    """Return '; did you mean "ring"?'; if nothing is near ``otherwise``, or the whole list."""
    names = list(known)
    match = nearest(word, names, cutoff)
    if match is not None:
        return f'; did you mean "{match}"?'
    return f"; known are {', '.join(names)}" if otherwise is None else otherwise


def listed(words: Iterable[str], last: str = "or") -> str:
    """Join words as a sentence does: a, b or c."""
    names = list(words)
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {last} {names[-1]}"


def path_shown(path: Path) -> str:
    """Return a path the way the user sees it: relative to the working directory if below it."""
    try:
        return path.absolute().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.as_posix()
