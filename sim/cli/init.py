"""``bandwise init``: a scenario file to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sim.output.errors import UserError
from sim.output.show import checked_file
from sim.storage.files import replacing
from sim.text.visible import visible

_FILE = typer.Argument(metavar="FILE", help="The .toml file to write.", show_default=False)
_SITES = typer.Option("--sites", metavar="A,B,C", help="Names of the sites.")
_FORCE = typer.Option("--force", help="Overwrite a file that is there.")


def init(
    file: Annotated[Path, _FILE],
    sites: Annotated[str, _SITES] = "paris,dallas",
    force: Annotated[bool, _FORCE] = False,
) -> None:
    """Write a scenario file to start from.

    It loads as it is; what to edit is marked.
    """
    from sim.scenario import template

    checked_file("FILE", file, (".toml",))
    text = template([name.strip() for name in sites.split(",")])
    try:
        with replacing(file, overwrite=force) as partial:
            partial.write_text(text, encoding="utf-8")
    except FileExistsError:
        raise UserError(f"{file}: is there already; --force overwrites it") from None
    typer.echo(
        visible(f"Wrote {file}: edit the lines marked EDIT, then type\n  bandwise simulate {file}")
    )
