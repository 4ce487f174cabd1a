"""Tables, paragraphs and pictures of a page in HTML; every text is escaped."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sim.output.html import escaped
from sim.output.tables import Block, ListedElsewhere, Section, Table, cells

MOST_ROWS = 500
"""Rows of a table that a page shows; a page of many thousand rows is no longer read."""
_BAR = "█"
_FEW = 4  # columns that a telephone shows side by side
_LONGEST_WORD = 40  # signs of a text that is not broken into lines in a table of many columns
_LONGEST_NUMBER = 24  # signs of a cell that is not broken into lines


@dataclass(frozen=True)
class Picture:
    """A drawing with a sentence that says what it shows."""

    caption: str
    #: From :func:`sim.output.svg.as_svg`.
    svg: str


@dataclass(frozen=True)
class MarkedTable(Table):
    """A table of which some cells are in bold, by row and column from 0 on."""

    strong: frozenset[tuple[int, int]] = frozenset()


def block(shown: Block | Picture, name: str) -> str:
    """Return a block in HTML; ``name`` is what an untitled table is called by a screen reader."""
    if isinstance(shown, Picture):
        return _picture(shown)
    if isinstance(shown, Table):
        return table(shown, name)
    if isinstance(shown, Section):
        return f"<h3>{escaped(shown.title)}</h3>{prose(shown.text)}"
    return "" if isinstance(shown, ListedElsewhere) else prose(shown)


def prose(text: str) -> str:
    r"""Return lines as paragraphs; those that begin with "- " as a list, indented ones as typed.

    Examples
    --------
    >>> prose("Next:\n  bandwise plot")
    '<p>Next:</p><pre tabindex="0">bandwise plot</pre>'
    >>> prose("- a < b")
    '<ul><li>a &lt; b</li></ul>'
    """
    parts: list[tuple[str, list[str]]] = []
    for line in filter(str.strip, text.splitlines()):
        kind = "ul" if line.startswith("- ") else "pre" if line.startswith("  ") else "p"
        if kind == "p" or not parts or parts[-1][0] != kind:
            parts.append((kind, []))
        parts[-1][1].append(line)
    return "".join(_lines(kind, lines) for kind, lines in parts)


def _lines(kind: str, lines: Sequence[str]) -> str:
    if kind == "ul":
        return f"<ul>{''.join(f'<li>{escaped(line[2:])}</li>' for line in lines)}</ul>"
    if kind == "pre":
        typed = "\n".join(line.strip() for line in lines)
        return f'<pre tabindex="0">{_typed(typed)}</pre>'
    return f"<p>{escaped(lines[0])}</p>"


def command(text: str) -> str:
    """Return a line to be typed."""
    return f'<pre tabindex="0">{_typed(text)}</pre>'


def _typed(text: str) -> str:
    return escaped(text).replace("<br>", "\n")


def table(shown: Table, name: str) -> str:
    """Return a table with its caption; numbers to the right, the first column of text as heads."""
    header, rows = cells(shown)
    if not rows:
        return ""
    left = [column.kind == "text" for column in shown.columns]
    bars = [_is_bar(row[number] for row in rows) for number in range(len(header))]
    caption = f"<caption>{escaped(shown.title)}</caption>" if shown.title else ""
    if not caption:
        caption = f'<caption class="spoken">{escaped(name)}</caption>'
    head = ""
    if any(header):
        titles = zip(header, left, bars, strict=True)
        head = f"<thead><tr>{''.join(_title(*each) for each in titles)}</tr></thead>"
    strong = shown.strong if isinstance(shown, MarkedTable) else frozenset()
    body = "".join(
        _row(row, left, bars, {column for line, column in strong if line == number})
        for number, row in enumerate(rows[:MOST_ROWS])
    )
    text = escaped(shown.title or name)
    many = ' class="many"' if len(header) > _FEW else ' class="two"' if len(header) == 2 else ""
    more = ""
    if len(rows) > MOST_ROWS:
        more = f"<p>{len(rows) - MOST_ROWS} more rows are not shown here.</p>"
    return (
        f'<div class="wide" role="region" aria-label="{text}" tabindex="0">'
        f"<table{many}>{caption}{head}<tbody>{body}</tbody></table></div>{more}"
    )


def _is_bar(values: object) -> bool:
    found = [value for value in values if value]  # type: ignore[attr-defined]
    return bool(found) and all(set(value) == {_BAR} for value in found)


def _title(text: str, left: bool, bar: bool) -> str:
    if bar:  # says in signs what the column before says in digits
        return '<td aria-hidden="true"></td>'
    side = "" if left else ' class="number"'
    return f'<th scope="col"{side}>{escaped(text)}</th>' if text else f"<td{side}></td>"


def _row(
    row: Sequence[str], left: Sequence[bool], bars: Sequence[bool], strong: Collection[int]
) -> str:
    parts = []
    for number, (text, is_left, bar) in enumerate(zip(row, left, bars, strict=True)):
        long = ' class="long"' if len(text) > _LONGEST_WORD else ""
        if bar:
            parts.append(f'<td class="bar" aria-hidden="true">{text}</td>')
        elif number == 0 and is_left and text:
            parts.append(f'<th scope="row"{long}>{escaped(text)}</th>')
        else:
            number_or_text = "said" if len(text) > _LONGEST_NUMBER else "number"
            side = long if is_left else f' class="{number_or_text}"'
            shown = f"<strong>{escaped(text)}</strong>" if number in strong else escaped(text)
            parts.append(f"<td{side}>{shown}</td>")
    return f"<tr>{''.join(parts)}</tr>"


def _picture(shown: Picture) -> str:
    text = escaped(shown.caption)
    return (
        f'<figure><div class="wide picture" role="region" aria-label="{text}" tabindex="0">'
        f"{shown.svg}</div><figcaption>{text}</figcaption></figure>"
    )
