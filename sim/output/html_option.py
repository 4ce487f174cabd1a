"""``--html FILE``: the page of what a command has found, in one line of the command.

::

    def command(asked: Asked, html: Html = None, ...) -> None:
        ...
        show(report, form)
        write_page(html, report, lambda: pictures_of(report.data))

The file is tried when the option is read, and the inputs are read before the work, so that the page
says what was computed even if the scenario's file is edited while the command runs.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.output.show import checked_file, tell

if TYPE_CHECKING:
    from sim.output.html_blocks import Picture
    from sim.output.tables import Report
    from sim.scenario.given import GivenValue

PAGES = (".html", ".htm")
HELP = "Write the answer as a page of one file: tables, pictures, inputs, how to repeat it."


@dataclass(frozen=True)
class PageFile:
    """Where a page goes, and what it says of the command."""

    path: Path
    #: What was typed, quoted for a shell.
    command: str = ""
    given: Sequence[GivenValue] = ()

    def of(
        self, source: str | None, options: Mapping[str, str], settings: Sequence[str]
    ) -> PageFile:
        """Return it with what was given; arguments as for :func:`sim.scenario.load`."""
        from sim.scenario.given import given_values
        from sim.scenario.loading import document_of

        return replace(self, given=given_values(document_of(source, options, settings)))


def asked_page(context: typer.Context, value: PageFile | None) -> PageFile | None:
    """Check the file of a page, and note what was typed."""
    if value is None:
        return None
    checked_file("--html", value.path, PAGES)
    program = context.command_path.split()[0]
    return replace(value, command=" ".join(map(quoted, (program, *sys.argv[1:]))))


def option(callback: Callable[..., Any] = asked_page) -> Any:
    """Return the option; ``callback`` is called with the context and the value."""
    return typer.Option(
        "--html",
        metavar="FILE",
        help=HELP,
        parser=lambda text: PageFile(Path(text)),
        callback=callback,
        rich_help_panel="Output",
        show_default=False,
    )


Html = Annotated[PageFile | None, option()]


def write_page(
    page: PageFile | None, report: Report, pictures: Callable[[], Sequence[Picture]] = list
) -> None:
    """Write the page of a report if one was asked for; ``pictures`` is called only then."""
    if page is None:
        return
    from sim.output.html_page import Inputs, as_html_page

    save_page(page, as_html_page(report, Inputs(page.given, page.command, pictures())))


def save_page(page: PageFile, text: str, program: str = "bandwise") -> None:
    """Write a page that is made, and say so."""
    from sim.storage.files import replacing

    with replacing(page.path) as partial:
        partial.write_text(text, encoding="utf-8")
    tell(f"{program}: wrote {page.path}")


def quoted(word: str) -> str:
    r"""Quote a word for a shell; what cannot be printed as bash's ``$'\x1b'``.

    Examples
    --------
    >>> quoted("--rtt"), quoted("30 ms"), quoted("a'b") == "'a'\"'\"'b'"
    ('--rtt', "'30 ms'", True)
    >>> print(quoted("a\x1bb'"))
    $'a\x1bb\''
    """
    if word.isprintable():
        return shlex.quote(word)
    signs = (
        f"\\{sign}"
        if sign in "\\'"
        else sign
        if sign.isprintable()
        else "".join(f"\\x{byte:02x}" for byte in os.fsencode(sign))
        for sign in word
    )
    return f"$'{''.join(signs)}'"
