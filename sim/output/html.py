"""A report as HTML, for notebooks: the same titles, cells and sentences, escaped."""

from __future__ import annotations

from html import escape

from sim.output.tables import Block, Report, Section, Table, cells
from sim.text.visible import visible


def as_html(report: Report) -> str:
    """Return a report as HTML without scripts or styles of its own.

    Examples
    --------
    >>> as_html(Report(["1 < 2"], {}, Table([], [])))
    '<div><p>1 &lt; 2</p></div>'
    """
    return f"<div>{''.join(map(_block, report.blocks))}</div>"


def _block(block: Block) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Section):
        return f"<p><b>{escaped(block.title)}</b><br>{escaped(block.text)}</p>"
    return f"<p>{escaped(block)}</p>"


def _table(table: Table) -> str:
    header, rows = cells(table)
    sides = ["left" if column.kind == "text" else "right" for column in table.columns]
    title = f"<caption><b>{escaped(table.title)}</b></caption>" if table.title else ""
    head = f"<thead>{_row(header, sides, 'th')}</thead>" if any(header) else ""
    body = "".join(_row(row, sides, "td") for row in rows)
    return f"<table>{title}{head}<tbody>{body}</tbody></table>"


def _row(row: list[str], sides: list[str], kind: str) -> str:
    inner = (
        f'<{kind} style="text-align: {side}">{escaped(cell)}</{kind}>'
        for cell, side in zip(row, sides, strict=True)
    )
    return f"<tr>{''.join(inner)}</tr>"


def escaped(text: str) -> str:
    """Return a text as HTML shows it, with what cannot be printed as it is written."""
    return escape(visible(text)).replace("\n", "<br>")
