"""Whether a scenario may import code: a method, a model or a loss of the user's own.

Opening a file must not run a stranger's program. A module is imported where its name was typed
(on the command line or in Python), or stands in a file in or below the working directory, or in a
scenario that comes along; for any other file the user says so, with ``--allow-code``.
"""

from __future__ import annotations

from pathlib import Path

from sim.scenario.document import Document
from sim.scenario.errors import problem

METHOD = (("method", "name"),)
# Imported by realrun alone: the simulator needs their sizes.
MODEL = (("model", "module"), ("model", "loss"))


class Allowed(str):
    """A scenario's file or name, with leave to import the modules that it names."""

    __slots__ = ()


def check_code(document: Document, keys: tuple[tuple[str, str], ...]) -> None:
    """Refuse to import what a file that is not the user's own names.

    Raises
    ------
    ScenarioError
        With the file, the key, the module and what to type.
    """
    for key in keys:
        given, steps = document.find(key)
        if given is None or steps < len(key) or given.origin.typed:
            continue
        value = given.value
        if not isinstance(value, str) or ":" not in value or document.code_allowed:
            continue
        if document.path is None or not is_own(document.path):
            module = value.partition(":")[0]
            text = (
                f"would import the module {module}, and this file is not in or below the working "
                "directory; if you trust it, give --allow-code"
            )
            raise problem(given.origin, ".".join(key), text, value)


def is_own(path: Path) -> bool:
    """Whether a file lies in or below the working directory, or came with the program."""
    real = path.resolve()
    return real.is_relative_to(Path.cwd().resolve()) or real.parent == bundled_folder().resolve()


def bundled_folder() -> Path:
    """Return where the scenarios that come with the program are."""
    package = Path(__file__).resolve().parents[1]
    # In a wheel they are inside the package, in a checkout next to it.
    folder = package / "scenarios"
    return folder if folder.is_dir() else package.parent / "scenarios"
