"""The report of a validation as a page of one file: the text of report.md, its pictures as SVG."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from realrun.validation import pictures
from realrun.validation.report import Findings, figures, report, verdict
from sim.output.html_blocks import MarkedTable, Picture
from sim.output.html_page import Page, Part, given_part, written
from sim.output.svg import as_svg
from sim.output.tables import Block, Column

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sim.output.html_option import PageFile

KIND = "Runs that were measured, next to their predictions by simulation."
_IMAGE = re.compile(r"!\[(?P<caption>.*)\]\((?P<name>\w+)\.png\)")
_BOLD = re.compile(r"\*\*(.+?)\*\*")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def as_page(found: Findings, file: PageFile) -> str:
    """Return the page of a validation; the same findings give the same text."""
    drawn = pictures.figures(found.rows, found.table)
    head, *sections = report(found).split("\n## ")
    title, *blocks = _blocks(head, drawn)
    assert isinstance(title, str)
    parts = [Part("Result", blocks[1:])]  # the verdict is the answer
    for section in sections:
        name, _, text = section.partition("\n")
        parts.append(Part(name, _blocks(text, drawn)))
    page = Page(
        title.removeprefix("# "),
        f"{verdict(found.held).replace('**', '')} {_errors(found)}",
        KIND,
        [*parts, given_part(file.given)],
        file.command,
    )
    return written(page)


def _errors(found: Findings) -> str:
    """Return the first line of the table of main figures as a sentence."""
    table = _table(figures(found).splitlines())
    record = table.records[0]
    modes = [
        f"{column.title} {record[column.key]}"
        for column in table.columns[1:]
        if record[column.key] != "-"
    ]
    name = str(record[table.columns[0].key])
    return f"{name.capitalize()}, informative configurations: {'; '.join(modes)}." if modes else ""


def _blocks(text: str, drawn: Mapping[str, Figure]) -> list[Block | Picture]:
    """Return what the Markdown of the report holds: paragraphs, tables, pictures."""
    found: list[Block | Picture] = []
    for chunk in filter(None, map(str.strip, text.split("\n\n"))):
        image = _IMAGE.fullmatch(chunk)
        if image is not None:
            caption, name = f"{image['caption']}.", image["name"]
            found.append(Picture(caption, as_svg(drawn[name], caption, name)))
        elif chunk.startswith("|"):
            found.append(_table(chunk.splitlines()))
        else:  # files next to report.md are not in the page
            found.append(_BOLD.sub(r"\1", _LINK.sub(r"\1", chunk)))
    return found


def _table(lines: Sequence[str]) -> MarkedTable:
    header, rule, *rows = ([cell.strip() for cell in line[1:-1].split("|")] for line in lines)
    columns = [
        Column(str(number), title, "number" if side.endswith(":") else "text")
        for number, (title, side) in enumerate(zip(header, rule, strict=True))
    ]
    records = [
        {str(number): _BOLD.sub(r"\1", cell) for number, cell in enumerate(row)} for row in rows
    ]
    strong = {
        (line, number)
        for line, row in enumerate(rows)
        for number, cell in enumerate(row)
        if _BOLD.fullmatch(cell)
    }
    return MarkedTable(columns, records, strong=frozenset(strong))
