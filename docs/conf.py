"""How Sphinx builds these pages: offline, with nothing fetched when they are read."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_extensions")]

from sim import __version__  # noqa: E402 - the tree's own, whatever is installed

project = "bandwise"
author = copyright = "The bandwise authors"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "generated",
    "plain_attributes",
]
exclude_patterns = ["_extensions"]
nitpicky = True
# Names of types in signatures; pages and sections are all checked.
nitpick_ignore_regex = [("py:.*", ".*")]
autodoc_typehints = "signature"
add_module_names = False
smartquotes = False  # what stands in quotes is typed as it is
highlight_language = "none"  # of blocks without a language: formulas
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]

html_theme = "furo"
html_title = "bandwise"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_copy_source = False
html_show_sourcelink = False
