"""A page of ours, read strictly: balanced, of one file, without scripts, readable by all."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

from sim.output.html_page import MOST_BYTES
from sim.text.visible import controls

VOID = {"meta"}


class Read(HTMLParser):
    """A page, read strictly: what is opened is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"{tag} has an attribute twice"
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open, f"{tag} closes itself outside a picture"
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(path: Path) -> Read:
    """Read a page and check what holds for each."""
    raw = path.read_bytes()
    assert len(raw) < MOST_BYTES
    text = raw.decode()
    assert not controls(text)
    read = Read(text)
    names = [name for name, _ in read.tags]
    assert not {"script", "link", "iframe", "img", "form", "base", "object", "a"} & set(names)
    for tag, attributes in read.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("href", "src"):
            assert attributes.get(name, "#").startswith("#"), tag
    elsewhere = set(re.findall(r"https?://[^\s\"'<]+|url\([^#)][^)]*\)|@import", text))
    assert elsewhere <= {"http://www.w3.org/2000/svg"}
    (policy,) = [
        each["content"]
        for each in read.named("meta")
        if each.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    identifiers = [each["id"] for _, each in read.tags if "id" in each]
    assert len(set(identifiers)) == len(identifiers)
    for _, attributes in read.tags:
        linked = [attributes["href"][1:]] if "href" in attributes else []
        for value in attributes.values():
            linked += re.findall(r"url\(#([^)]*)\)", value)
            assert set(linked) <= set(identifiers)
    readable(read, names)
    return read


def readable(read: Read, names: list[str]) -> None:
    """Check what people need who do not see the page, or see it on a telephone."""
    assert read.named("html") == [{"lang": "en"}]
    assert any(each.get("name") == "viewport" for each in read.named("meta"))
    headings = [int(name[1]) for name in names if re.fullmatch(r"h[1-6]", name)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))
    assert len(read.named("caption")) == len(read.named("table"))
    assert all(each.get("scope") in ("row", "col") for each in read.named("th"))
    for svg in read.named("svg"):
        assert svg["role"] == "img"
        assert {"id": svg["aria-labelledby"]} in read.named("title")
