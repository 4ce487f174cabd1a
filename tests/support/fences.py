"""Fenced blocks of a page in Markdown: what they hold, and what a reader does with them.

After the language a fence may say ``file: NAME`` (the reader saves it) or ``not-run: REASON``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INFO = re.compile(r"([\w{}-]*)(?: (file|not-run): (.+))?")


class Fence(NamedTuple):
    """One block."""

    language: str
    text: str
    #: Name under which it is saved, or "".
    file: str
    #: Why no test runs it, or "".
    not_run: str


def fences(page: str) -> list[Fence]:
    """Return the blocks of a page, in order.

    Raises
    ------
    ValueError
        If the line that opens a block says something else.
    """
    found = []
    for info, text in _FENCE.findall(page):
        match = _INFO.fullmatch(info.strip())
        if match is None:
            raise ValueError(f"a block is opened by {info!r}")
        language, word, rest = match.groups(default="")
        file, not_run = (rest if word == each else "" for each in ("file", "not-run"))
        found.append(Fence(language, text, file, not_run))
    return found
