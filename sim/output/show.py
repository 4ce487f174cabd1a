"""Standard output and standard error: reports on the one, progress on the other."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from sim.output.errors import UserError
from sim.output.tables import Block, Report, Section, Table, as_csv, as_json, as_markdown, cells
from sim.storage.files import check_writable
from sim.text.visible import visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_GAP = 2  # between columns
_PROSE = 88  # longer lines are hard to read, however wide the window


def show(report: Report, form: str) -> None:
    """Print a report in one of the four formats."""
    if form == "json":
        typer.echo(as_json(report.data))
    elif form == "csv":
        typer.echo(as_csv(report.rows))
    elif form == "markdown":
        typer.echo("\n\n".join(map(_markdown, report.blocks)))
    else:
        typer.echo(_for_people(report.blocks, _console()))


def as_text(report: Report) -> str:
    """Return a report as text of its natural width, as it is printed into a file."""
    return _for_people(report.blocks, _console(in_file=True))


def typed() -> str:
    """How to type this command again: by its path where the shell would not find it."""
    invoked = Path(sys.argv[0])
    if invoked.name != "bandwise" or shutil.which("bandwise"):
        return "bandwise"
    return os.path.relpath(invoked)


def _markdown(block: Block) -> str:
    if isinstance(block, Section):
        return visible(f"**{block.title}**\n\n{block.text}")
    return as_markdown(block) if isinstance(block, Table) else visible(block)


def _for_people(blocks: Sequence[Block], console: Console) -> str:
    with console.capture() as captured:
        for number, block in enumerate(blocks):
            if number:
                console.print()
            title = "" if isinstance(block, str) else block.title
            if title:
                console.print(visible(title), style="bold")
            if isinstance(block, Table):
                console.print(_drawn(block, console.width))
            else:
                text = block.text if isinstance(block, Section) else block
                console.out(_wrapped(visible(text), min(console.width, _PROSE)), highlight=False)
    # Cells are padded to their column: no line needs to end in spaces.
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _wrapped(text: str, width: int) -> str:
    """Fill lines of prose; what is indented is to be typed, so not to be broken."""
    return "\n".join(
        line if line.startswith("  ") else textwrap.fill(line, width, break_on_hyphens=False)
        for line in text.splitlines()
    )


def _console(*, in_file: bool = False) -> Console:
    from rich.console import Console

    # Into a pipe or file a table is as wide as it needs to be: nothing is cut or folded.
    plain = in_file or not sys.stdout.isatty()
    return Console(
        file=StringIO() if in_file else sys.stdout,
        highlight=False,
        markup=False,
        emoji=False,
        width=10_000 if plain else None,
        force_terminal=False if in_file else None,
        force_jupyter=False if in_file else None,
    )


def _drawn(table: Table, available: int) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as Drawn

    header, rows = cells(table)
    drawn = Drawn(
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_edge=False,
        show_header=any(header),
    )
    widths = _widths([header, *rows], available)
    for title, column, width in zip(header, table.columns, widths, strict=True):
        justify: Literal["left", "right"] = "left" if column.kind == "text" else "right"
        drawn.add_column(title, justify=justify, width=width, overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    return drawn


def _widths(rows: Sequence[Sequence[str]], available: int) -> list[int]:
    """Return column widths that fit a window, breaking lines between words where need be."""
    columns = list(zip(*rows, strict=True))
    natural = [max(len(line) for cell in c for line in cell.split("\n")) for c in columns]
    least = [max((len(word) for cell in c for word in cell.split()), default=0) for c in columns]
    room = available - _GAP * (len(columns) - 1)
    if sum(natural) <= room:
        return natural
    share = max(0, room - sum(least)) / max(1, sum(natural) - sum(least))
    return [low + int((high - low) * share) for low, high in zip(least, natural, strict=True)]


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
    typer.echo(visible(line), err=True)


def checked_file(option: str, path: Path, suffixes: Sequence[str]) -> Path:
    """Refuse a file that cannot be written before anything is computed for it.

    Raises
    ------
    UserError
        If the suffix says nothing, the folder does not exist or its disk is full, or what exists
        cannot be replaced.
    """
    if not path.name.endswith(tuple(suffixes)):
        *others, last = suffixes
        names = f"{', '.join(others)} or {last}" if others else last
        raise UserError(f'{option}: "{path}" must end in {names}')
    if path.is_dir():
        raise UserError(f"{option}: {path} is a folder")
    if not path.parent.is_dir():
        raise UserError(f"{option}: there is no folder {path.parent}")
    if path.exists() and not path.is_file():
        raise UserError(f"{option}: {path} is not a regular file")
    if path.exists() and not os.access(path, os.W_OK):
        raise UserError(f"{option}: {path} is write-protected")
    try:
        check_writable(path)
    except OSError as error:
        raise UserError(f"{option}: {path} cannot be written: {error.strerror}") from error
    return path


def checked_folder(option: str, path: Path) -> Path:
    """Refuse a folder that cannot be made or written before anything is computed for it.

    Raises
    ------
    UserError
        If a file is in the way, the folder is not ours to write, or its disk is full.
    """
    if path.exists() and not path.is_dir():
        raise UserError(f"{option}: {path} is a file; name a folder")
    there = path if path.exists() else next(p for p in path.absolute().parents if p.exists())
    if not there.is_dir():
        raise UserError(f"{option}: {there} is a file; name a folder")
    try:
        check_writable(there / "any")
    except OSError as error:
        raise UserError(f"{option}: {there} cannot be written to: {error.strerror}") from error
    return path
