"""A socket on the loopback address, and uvicorn on it."""

from __future__ import annotations

import socket
import webbrowser
from importlib.util import find_spec

from sim.output.errors import UserError
from sim.output.show import tell

HOST = "127.0.0.1"
PORT = 8765


def serve(port: int, *, opened: bool) -> None:
    """Serve the page until Ctrl-C.

    Parameters
    ----------
    port
        0 takes any free one.
    opened
        Whether to open the page in the browser.

    Raises
    ------
    UserError
        If the extra is missing or the port is in use.
    """
    check_installed()
    try:
        listening = socket.create_server((HOST, port))
    except OSError as error:
        raise UserError(
            f"--port {port}: {error.strerror or error}; choose another, or 0 for any that is free"
        ) from None

    import uvicorn

    from sim.web.application import application
    from sim.web.work import in_processes

    address = f"http://{HOST}:{listening.getsockname()[1]}/"
    app = application(in_processes())
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
    tell(f"bandwise: {address} answers this machine alone; Ctrl-C ends it")
    if opened:
        webbrowser.open(address)
    with listening:
        server.run(sockets=[listening])


def check_installed() -> None:
    """Refuse where what serves pages is not installed.

    Raises
    ------
    UserError
        With the command that installs it.
    """
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"serve: needs {' and '.join(missing)}, which is not installed; "
            'pip install "bandwise[web]"'
        )
