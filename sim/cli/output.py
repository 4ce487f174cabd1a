"""Standard output and standard error: reports on the one, progress on the other."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sim.cli.errors import UserError
from sim.cli.tables import Report, Table, as_csv, as_json, as_markdown, cells

if TYPE_CHECKING:
    from rich.console import Console

_PROSE = 88  # longer lines are hard to read, however wide the window


def show(report: Report, form: str) -> None:
    """Print a report in one of the four formats."""
    if form == "json":
        typer.echo(as_json(report.data))
    elif form == "csv":
        typer.echo(as_csv(report.rows))
    elif form == "markdown":
        parts = [as_markdown(b) if isinstance(b, Table) else b for b in report.blocks]
        typer.echo("\n\n".join(parts))
    else:
        _show_table(report.blocks)


def _show_table(blocks: Sequence[str | Table]) -> None:
    console = _console()
    for number, block in enumerate(blocks):
        if number:
            console.print()
        if isinstance(block, Table):
            _print_table(console, block)
        else:
            for paragraph in block.splitlines():
                width = min(console.width, _PROSE)
                console.out(textwrap.fill(paragraph, width, subsequent_indent=_indent(paragraph)))


def _indent(paragraph: str) -> str:
    return " " * (len(paragraph) - len(paragraph.lstrip()))


def _console() -> Console:
    from rich.console import Console

    # Into a pipe or file a table is as wide as it needs to be: nothing is cut or folded.
    piped = not sys.stdout.isatty()
    return Console(
        file=sys.stdout, highlight=False, markup=False, emoji=False, width=10_000 if piped else None
    )


def _print_table(console: Console, table: Table) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as Drawn

    header, rows = cells(table)
    drawn = Drawn(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for title, column in zip(header, table.columns, strict=True):
        number = column.kind != "text"
        drawn.add_column(
            title,
            justify="right" if number else "left",
            overflow="fold",
            vertical="bottom" if number else "top",
        )
    for row in rows:
        drawn.add_row(*row)
    if table.title:
        console.print(table.title, style="bold")
    if not any(header):
        drawn.show_header = False
    with console.capture() as captured:
        console.print(drawn)
    # Cells are padded to their column: no line needs to end in spaces.
    console.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show runs done on standard error: a bar in a terminal, else a line now and then."""
    if not sys.stderr.isatty():
        yield _lines(what)
        return
    from rich import progress as rich
    from rich.console import Console

    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(what: str) -> Callable[[int, int], None]:
    printed = -1

    def line(done: int, total: int) -> None:
        nonlocal printed
        quarter = 4 * done // max(total, 1)
        if quarter != printed:
            printed = quarter
            typer.echo(f"{what}: {done} of {total} runs", err=True)

    return line


def tell(line: str) -> None:
    """Say something in passing, on standard error."""
    typer.echo(line, err=True)


def checked_file(option: str, path: Path, suffixes: Sequence[str]) -> Path:
    """Refuse a file that cannot be written before anything is computed for it.

    Raises
    ------
    UserError
        If the suffix says nothing, or the folder is not there.
    """
    if not path.name.endswith(tuple(suffixes)):
        *others, last = suffixes
        names = f"{', '.join(others)} or {last}" if others else last
        raise UserError(f'{option}: "{path}" must end in {names}')
    if path.is_dir():
        raise UserError(f"{option}: {path} is a folder")
    if not path.parent.is_dir():
        raise UserError(f"{option}: there is no folder {path.parent}")
    return path


def checked_folder(option: str, path: Path) -> Path:
    """Refuse a folder that cannot be made or written before anything is computed for it.

    Raises
    ------
    UserError
        If a file is in the way, or the folder is not ours to write.
    """
    if path.exists() and not path.is_dir():
        raise UserError(f"{option}: {path} is a file; name a folder")
    there = path if path.exists() else next(p for p in path.absolute().parents if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"{option}: {there} cannot be written to")
    return path
