"""``bandwise serve``: the what-if page."""

from __future__ import annotations

from typing import Annotated

import typer

from sim.web.serving import PORT

_PORT = typer.Option(
    "--port", metavar="N", min=0, max=65535, help="Port of 127.0.0.1; 0 takes any that is free."
)
_OPEN = typer.Option("--open/--no-open", help="Open the page in the browser.")


def serve(port: Annotated[int, _PORT] = PORT, opened: Annotated[bool, _OPEN] = True) -> None:
    """Open a what-if page in the browser.

    It answers this machine alone, at 127.0.0.1. Every input stands in the address, so a link holds
    a question. Needs the extra "web".
    """
    from sim.web.serving import serve as run

    run(port, opened=opened)
