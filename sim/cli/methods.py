"""``bandwise methods``: what can be simulated, and whose idea it was."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from sim.output.errors import UserError, chosen
from sim.output.options import Format, Json
from sim.output.show import show
from sim.output.tables import Column, Report, Table, format_asked

_CITE = typer.Option("--cite", help="Print the papers' BibTeX instead.")
_NAMES = typer.Argument(
    metavar="NAME...",
    help="Only these; all by default. One of your own is package.module:function.",
    show_default=False,
)

# 'Stich 2019, arXiv:1805.09767', 'Li et al. 2020, "PyTorch Distributed", arXiv:2006.15704'
_PAPER = re.compile(r'(\w+(?: et al\.)? \d{4}),(?: "([^"]+)",)? arXiv:(\d{4}\.\d{4,5})')
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_ARGUMENTS = (
    Column("argument", "argument"),
    Column("default", "default"),
    Column("allowed", "may be"),
    Column("meaning", "meaning"),
)
_COLUMNS = (
    Column("method", "method"),
    Column("summary", "what it does"),
    Column("paper", "paper"),
    Column("arxiv", "arXiv"),
)


class Method(NamedTuple):
    """A method as its docstring describes it."""

    name: str
    program: Any
    summary: str
    papers: list[tuple[str, str]]  # who and when, arXiv id
    cited: list[str]  # every arXiv id that the docstring names


def methods(
    names: Annotated[list[str] | None, _NAMES] = None,
    cite: Annotated[bool, _CITE] = False,
    form: Format = "table",
    as_json: Json = False,
) -> None:
    """List the training methods and their papers.

    Of those that are named, the arguments as well.
    """
    form = format_asked(form, as_json)
    found = _methods(names)
    if cite:
        if form != "table":
            raise UserError("--cite: prints BibTeX; leave --format and --json out")
        typer.echo(_bibtex(found))
        return
    records = [_record(method) for method in found]
    between = "\n" if form == "table" else "; "
    rows = [
        {**record, "paper": between.join(record["papers"]), "arxiv": between.join(record["arxiv"])}
        for record in records
    ]
    table = Table(_COLUMNS, rows)
    taken = [_arguments(method) for method in found] if names else []
    for record, each in zip(records, taken, strict=False):
        record["arguments"] = each.records
    more = "bandwise methods --cite prints BibTeX. A method of your own: package.module:function."
    show(Report([table, *(each for each in taken if each.records), more], records, table), form)


def _methods(names: list[str] | None) -> list[Method]:
    from sim.methods import METHODS

    wanted = names or list(METHODS)
    return [described(name, METHODS.get(name) or _own(name)) for name in wanted]


def _own(name: str) -> Any:
    """Return a method of the user's own."""
    from sim.methods import METHODS
    from sim.scenario.method import MethodError, find_method

    if ":" not in name:
        chosen("NAME", name, METHODS)
    try:
        return find_method(name, Path.cwd())
    except MethodError as error:
        raise UserError(f"{name}: {error}") from error


def described(name: str, program: Any) -> Method:
    """Read a method's summary and papers from its docstring."""
    text = inspect.getdoc(program) or ""
    notes = " ".join(text.partition("Notes\n-----\n")[2].split())
    papers = [(match[1], match[3]) for match in _PAPER.finditer(notes)]
    return Method(name, program, text.partition("\n")[0], papers, _ARXIV.findall(notes))


def _arguments(method: Method) -> Table:
    """Return the table of a method's arguments, in the order of its signature."""
    from sim.scenario.signatures import arguments

    rows = [
        {
            "argument": each.name,
            "default": each.default,
            "allowed": each.allowed,
            "meaning": each.meaning,
        }
        for each in arguments(method.program)
    ]
    return Table(_ARGUMENTS, rows, f"Arguments of {method.name}")


def _record(method: Method) -> dict[str, Any]:
    return {
        "method": method.name,
        "summary": method.summary,
        "papers": [paper for paper, _ in method.papers],
        "arxiv": [number for _, number in method.papers],
    }


def _bibtex(found: list[Method]) -> str:
    text = Path(__file__).with_name("papers.bib").read_text(encoding="utf-8")
    entries = {}
    for entry in text.strip().split("\n\n"):
        number = re.search(r"eprint\s*=\s*\{([^}]+)\}", entry)
        if number is not None:
            entries[number[1]] = entry
    wanted = dict.fromkeys(number for method in found for number in method.cited)
    return "\n\n".join(
        entries.get(number, f"no BibTeX yet for arXiv:{number}") for number in wanted
    )
