"""``bandwise scenarios``: what comes along."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from sim.output.errors import chosen
from sim.output.options import Format, Json
from sim.output.show import show
from sim.output.tables import Column, Report, Table, format_asked

_SHOW = typer.Option(
    "--show", metavar="NAME", help="Print this scenario's file.", show_default=False
)
_COLUMNS = (
    Column("name", "name"),
    Column("kind", "kind"),
    Column("shows", "what it shows"),
)


def scenarios(
    name: Annotated[str | None, _SHOW] = None,
    form: Format = "table",
    as_json: Json = False,
) -> None:
    """List the scenarios that come with bandwise.

    Their names stand wherever a scenario file is asked for.
    """
    from sim.scenario import bundled

    form = format_asked(form, as_json)
    known = bundled()
    if name is not None:
        path = known[chosen("--show", name.removesuffix(".toml"), known)]
        typer.echo(path.read_text(encoding="utf-8").rstrip("\n"))
        return
    records = [_record(name, path) for name, path in known.items()]
    table = Table(_COLUMNS, records)
    next_ = "bandwise scenarios --show NAME prints one, to copy and change; bandwise simulate NAME "
    next_ += "runs a scenario, bandwise study NAME --out DIR a study."
    show(Report([table, next_], records, table), form)


def _record(name: str, path: Path) -> dict[str, Any]:
    from sim.scenario.reading import from_file

    kind = "scenario" if from_file(path).study is None else "study"
    shows = _first_sentence(path.read_text(encoding="utf-8"))
    return {"name": name, "kind": kind, "shows": shows}


def _first_sentence(text: str) -> str:
    """Return the first sentence of the comment that a file begins with."""
    comment = itertools.takewhile(lambda line: line.startswith("# "), text.splitlines())
    words = " ".join(line.removeprefix("# ").strip() for line in comment)
    sentence = re.match(r".+?\.(?= [A-Z]|$)", words)
    return sentence[0] if sentence is not None else words
