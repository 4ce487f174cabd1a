"""Docstrings of attributes and properties as they are written.

Napoleon takes what stands before their first colon for a type; ours are sentences.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

_NAPOLEON = 500  # the priority at which it rewrites a docstring
_written: dict[str, list[str]] = {}


def keep(_: Sphinx, what: str, name: str, __: Any, ___: Any, lines: list[str]) -> None:
    """Note a docstring before it is rewritten."""
    if what in ("attribute", "property"):
        _written[name] = list(lines)


def restore(_: Sphinx, what: str, name: str, __: Any, ___: Any, lines: list[str]) -> None:
    """Put it back."""
    if what in ("attribute", "property"):
        lines[:] = _written.pop(name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx to call both."""
    app.connect("autodoc-process-docstring", keep, priority=_NAPOLEON - 1)
    app.connect("autodoc-process-docstring", restore, priority=_NAPOLEON + 1)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
