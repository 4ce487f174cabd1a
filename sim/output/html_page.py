"""A report as a page of one file: the answer, tables, pictures, inputs, and how to repeat it.

The page needs nothing from elsewhere and no script, and its policy forbids both. What it says
comes from the report; nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sim.output.html import escaped
from sim.output.html_blocks import Picture, block, command
from sim.output.html_style import STYLE
from sim.output.tables import PREDICTION, Block, Column, Report, Section, Table

if TYPE_CHECKING:
    from sim.scenario.given import GivenValue

MOST_BYTES = 2_000_000
"""Of a page: what mail servers and telephones take without complaint."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_ASSUMED = "Not given, so assumed, derived or read from the hardware file"


@dataclass(frozen=True)
class Part:
    """What stands under a heading."""

    title: str
    blocks: Sequence[Block | Picture]


@dataclass(frozen=True)
class Page:
    """What a page shows, from above."""

    title: str
    #: One or two sentences with the main figures.
    answer: str
    #: Predicted, measured or both, in a sentence.
    kind: str
    parts: Sequence[Part]
    #: What was typed, quoted for a shell; "" where it was not a command.
    command: str = ""


@dataclass(frozen=True)
class Inputs:
    """What a report was computed from."""

    given: Sequence[GivenValue] = ()
    command: str = ""
    pictures: Sequence[Picture] = field(default=())


def as_html_page(report: Report, inputs: Inputs) -> str:
    """Return the page of a report; the same report gives the same text."""
    return written(_page(report, inputs))


def _page(report: Report, inputs: Inputs) -> Page:
    blocks = [each for each in map(_without_kind, report.blocks) if each]
    notes = next((n for n, each in enumerate(blocks) if isinstance(each, Section)), len(blocks))
    data = report.data if isinstance(report.data, Mapping) else {}
    assumed = [each for each in blocks if isinstance(each, Table) and each.title == _ASSUMED]
    assumed = assumed or list(_assumed(data))
    kept = [each for each in blocks[notes:] if each not in assumed]
    return Page(
        report.title or "Report",
        report.answer,
        PREDICTION if PREDICTION in _first(report) else "",
        [
            Part("Result", [each for each in blocks[:notes] if each not in assumed]),
            Part("Pictures", inputs.pictures),
            Part("Notes", kept),
            Part("Inputs", [*_given(inputs.given), *assumed]),
            Part("Where it comes from", list(_provenance(data))),
        ],
        inputs.command,
    )


def _first(report: Report) -> str:
    return report.blocks[0] if report.blocks and isinstance(report.blocks[0], str) else ""


def _without_kind(shown: Block) -> Block:
    """Return a block without the sentence that stands at the top of the page."""
    if isinstance(shown, str) and shown.startswith(PREDICTION):
        return shown.removeprefix(PREDICTION).lstrip("\n")
    return shown


def given_part(values: Sequence[GivenValue]) -> Part:
    """Return the part that lists what was given."""
    return Part("Inputs", list(_given(values)))


def _given(values: Sequence[GivenValue]) -> Iterator[Block]:
    if values:
        columns = [Column("key", "key"), Column("value", "value"), Column("where", "given in")]
        yield Table(columns, [each._asdict() for each in values], "Given")


def _assumed(data: Mapping[str, Any]) -> Iterator[Table]:
    """Return what nobody gave, in all and by method."""
    values = dict(data.get("assumed") or {})
    for method, own in (data.get("assumed_of_methods") or {}).items():
        values |= {f"{method}: method.{key}": value for key, value in own.items()}
    if values:
        records = [{"key": key, "value": value} for key, value in values.items()]
        yield Table([Column("key", "key"), Column("value", "value")], records, _ASSUMED)


def _provenance(data: Mapping[str, Any]) -> Iterator[Block]:
    """Return the version and the hash of each scenario."""
    from sim.version import __version__

    hashes = data.get("scenario_sha256")
    found = hashes if isinstance(hashes, Mapping) else {"scenario": hashes} if hashes else {}
    records = [{"what": "bandwise", "value": f"version {data.get('version', __version__)}"}]
    records += [{"what": f"{name}, SHA-256", "value": value} for name, value in found.items()]
    yield Table([Column("what", ""), Column("value", "")], records)
    if found:
        yield (
            "The hash is of all that decides the answer; the same hash and version give the same "
            "figures."
        )


def written(page: Page) -> str:
    """Return the text of a page, its last pictures left out where it would be too large."""
    text = _written(page)
    while len(text.encode()) > MOST_BYTES and any(_pictures(page)):
        page = _without_last_picture(page)
        text = _written(page)
    return text


def _pictures(page: Page) -> list[Picture]:
    return [each for part in page.parts for each in part.blocks if isinstance(each, Picture)]


def _without_last_picture(page: Page) -> Page:
    last = _pictures(page)[-1]
    note = f"Left out, because the page would be too large: {last.caption}"
    parts = [
        Part(part.title, [note if each is last else each for each in part.blocks])
        for part in page.parts
    ]
    return Page(page.title, page.answer, page.kind, parts, page.command)


def _written(page: Page) -> str:
    parts = "\n".join(filter(None, map(_part, page.parts)))
    answer = f'<p class="answer">{escaped(page.answer)}</p>\n' if page.answer else ""
    kind = f'<p class="kind">{escaped(page.kind)}</p>\n' if page.kind else ""
    again = ""
    if page.command:
        again = f"\n<section>\n<h2>To repeat it</h2>\n{command(page.command)}\n</section>"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escaped(page.title)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{escaped(page.title)}</h1>\n{answer}{kind}</header>\n"
        f"<main>\n{parts}{again}\n</main>\n</body>\n</html>\n"
    )


def _part(part: Part) -> str:
    inner = "\n".join(filter(None, (block(each, part.title) for each in part.blocks)))
    return f"<section>\n<h2>{escaped(part.title)}</h2>\n{inner}\n</section>" if inner else ""
