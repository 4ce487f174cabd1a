"""A figure as SVG inside a page: its text stays text, and its styles stay in it."""

from __future__ import annotations

import re
import warnings
from io import BytesIO
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from sim.text.visible import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_URL = re.compile(r"url\(#([^)]*)\)")
_DROPPED = (f"{_SVG}metadata", f"{_SVG}style")


def as_svg(figure: Figure, title: str, name: str) -> str:
    """Return a figure as an ``svg`` element; the same figure twice gives the same text.

    Parameters
    ----------
    figure
        What to draw.
    title
        What the picture shows, for people who do not see it.
    name
        Is in the page's other pictures no name: identifiers in the element begin with it.

    Raises
    ------
    ValueError
        If the figure's labels leave no room for anything else.
    """
    import matplotlib

    content = BytesIO()
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "bandwise"}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's browser may have it
        warnings.filterwarnings("error", ".*layout not applied")
        try:
            figure.savefig(content, format="svg", metadata={"Date": None})
        except UserWarning as error:
            raise ValueError("its labels leave no room for the picture; shorten them") from error
    root = ElementTree.fromstring(content.getvalue())
    _tidied(root)
    _renamed(root, name)
    width = root.attrib.pop("width", "")
    root.attrib.pop("height", None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title")
    # Not narrower than it was drawn: its text would be too small. A telephone scrolls it.
    root.set("style", f"min-width: {float(width.removesuffix('pt')):.0f}px")
    spoken = ElementTree.Element(f"{_SVG}title", {"id": f"{name}-title"})
    spoken.text = visible(title)
    root.insert(0, spoken)
    ElementTree.register_namespace("", _SVG[1:-1])
    return ElementTree.tostring(root, encoding="unicode").replace("\n", "")


def _tidied(node: ElementTree.Element) -> None:
    """Remove what a page does not need, and styles that would hold for all of it."""
    for child in list(node):
        if child.tag in _DROPPED:
            node.remove(child)
        else:
            _tidied(child)
    if not len(node) and node.text is not None:
        node.text = visible(node.text)
    elif len(node):
        node.text = None
    node.tail = None


def _renamed(root: ElementTree.Element, name: str) -> None:
    """Make identifiers differ from those of other pictures, and drop those that nobody refers to.

    References are ``href="#ID"``, and ``url(#ID)`` alone or in a style.
    """
    names: dict[str, str] = {}

    def own(identifier: str) -> str:
        return names.setdefault(identifier, f"{name}-{len(names)}")

    nodes = list(root.iter())
    for node in nodes:
        for key, value in list(node.attrib.items()):
            if key == _XLINK:
                del node.attrib[key]
                node.set("href", f"#{own(value.removeprefix('#'))}")
            else:
                node.set(key, _URL.sub(lambda found: f"url(#{own(found[1])})", value))
    for node in nodes:
        identifier = node.attrib.pop("id", None)
        if identifier in names:
            node.set("id", names[identifier])
