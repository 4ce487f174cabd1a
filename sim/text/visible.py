"""Text that somebody else wrote, as it may be shown in a terminal, a page or a spreadsheet.

A name that holds escape sequences could rewrite a terminal's lines, one with marks of writing
direction could show another name than it is, and a cell that begins with "=" is a formula.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# C0 but for tab and line feed, DEL, C1, and what changes lines or the direction of writing.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_FORMULA = re.compile(r"'*[=+\-@\t\r].")
_GUARDED = re.compile(r"''*[=+\-@\t\r].")


def visible(text: str) -> str:
    r"""Return a text with what cannot be printed as it is written: \x1b, \u202e.

    Line feeds and tabs stay.

    Examples
    --------
    >>> visible("paris\x1b[2J\u202e") == r"paris\x1b[2J\u202e", visible("two\nlines")
    (True, 'two\nlines')
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _escaped(c) for c in text)


def visible_json(text: str) -> str:
    """Return JSON whose strings hold nothing that cannot be printed, and mean the same."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def controls(text: str, also: str = "") -> list[str]:
    r"""Return the control characters in a text, as :func:`visible` shows them.

    Examples
    --------
    >>> controls("a\nb"), controls("a\nb", also="\n\t") == [r"\n"]
    ([], True)
    """
    found = [c for c in text if c in also or _CONTROL.match(c)]
    return [_escaped(c) if _CONTROL.match(c) else {"\n": "\\n", "\t": "\\t"}[c] for c in found]


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def guarded(cell: str) -> str:
    """Return a text as a CSV cell that spreadsheets do not take for a formula.

    Numbers stay as they are; :func:`unguarded` gives the text back.

    Examples
    --------
    >>> guarded("=1+1"), guarded("+ overlapped"), guarded("-1.5"), guarded("-"), guarded("ddp")
    ("'=1+1", "'+ overlapped", '-1.5', '-', 'ddp')
    """
    if not _FORMULA.match(cell):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def unguarded(cell: str) -> str:
    """Return the text of which :func:`guarded` made a cell.

    Examples
    --------
    >>> [unguarded(guarded(text)) for text in ("=1+1", "'=1", "-1.5", "it's", "'tis")]
    ['=1+1', "'=1", '-1.5', "it's", "'tis"]
    """
    return cell[1:] if _GUARDED.match(cell) else cell


def guarded_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose texts, and names of columns, spreadsheets take for texts."""
    return _each_text(frame, guarded)


def unguarded_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table of which :func:`guarded_columns` made this one."""
    return _each_text(frame, unguarded)


def _each_text(frame: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    result = frame.rename(columns=lambda name: change(str(name)))
    for name in result.columns:
        values = result[name].tolist()
        if any(isinstance(value, str) for value in values):
            result[name] = [change(v) if isinstance(v, str) else v for v in values]
    return result
