"""The addresses of the page, as an ASGI application; who may ask.

The application answers this machine alone: :mod:`sim.web.serving` listens on the loopback address,
and a request for another host, as DNS rebinding makes them, is refused here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.output.errors import UserError, did_you_mean
from sim.text.told import one_line
from sim.web import answers
from sim.web.inputs import as_given, inputs, read
from sim.web.page import elsewhere, page, status

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from sim.web.work import Work

HOSTS = ("127.0.0.1", "localhost")
LONGEST_ADDRESS = 4096
_HEADERS = {
    # Pictures have attributes "style"; nothing has a script, or comes from elsewhere.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
Query = Sequence[tuple[str, str]]


def application(work: Work) -> Starlette:
    """Return the ASGI application; it ends ``work`` when it ends.

    Parameters
    ----------
    work
        What computes the answers.
    """
    from contextlib import asynccontextmanager

    from starlette.applications import Starlette
    from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse
    from starlette.routing import Route

    async def answered(
        request: Request, query: Query, function: Callable[..., Any], *args: Any
    ) -> Any:
        try:
            chosen = read(query)
        except UserError as error:
            return as_given(query), {"error": one_line(str(error))}
        return chosen, await work.answer(function, chosen, *args, left=request.is_disconnected)

    def as_json(answer: Any) -> Response:
        return JSONResponse(dict(answer), 400 if "error" in answer else 200)

    async def whole(request: Request) -> Response:
        chosen, answer = await answered(request, request.query_params.multi_items(), answers.point)
        return HTMLResponse(page(chosen, answer), 400 if "error" in answer else 200)

    async def point(request: Request) -> Response:
        _, answer = await answered(request, request.query_params.multi_items(), answers.point)
        if "error" in answer:
            return as_json(answer)
        shown = {"status_html": status(answer), "elsewhere_html": elsewhere(answer)}
        return as_json({**answer, **shown})

    async def curve(request: Request) -> Response:
        query, own = _parted(request.query_params.multi_items(), ("of", "part"))
        try:
            method, part = _curve_of(own, query)
        except UserError as error:
            return as_json({"error": one_line(str(error))})
        _, answer = await answered(request, query, answers.curve, method, part)
        return as_json(answer)

    def part(function: Callable[..., Any]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            query = request.query_params.multi_items()
            return as_json((await answered(request, query, function))[1])

        return answer

    async def report(request: Request) -> Response:
        _, answer = await answered(request, request.query_params.multi_items(), answers.report)
        if "error" in answer:
            return PlainTextResponse(f"{answer['error']}\n", 400)
        name = {"Content-Disposition": 'attachment; filename="bandwise.html"'}
        return HTMLResponse(answer["page"], headers=name)

    async def file(request: Request) -> Response:
        kind = "text/javascript" if request.url.path.endswith(".js") else "text/css"
        return PlainTextResponse(_text(request.url.path[1:]), media_type=kind)

    async def failed(request: Request, error: Exception) -> Response:
        text = f"an error of bandwise, {type(error).__name__}; the terminal shows where"
        return JSONResponse({"error": text}, 500)

    @asynccontextmanager
    async def life(_: Any) -> Any:
        yield
        work.close()

    addresses = {
        "/": whole,
        "/answer": point,
        "/curve": curve,
        "/memory": part(answers.memory),
        "/required": part(answers.required),
        "/pictures": part(answers.pictures),
        "/report": report,
        "/page.js": file,
        "/page.css": file,
    }
    routes = [Route(path, of, methods=["GET"]) for path, of in addresses.items()]
    app = Starlette(routes=routes, lifespan=life, exception_handlers={Exception: failed})
    app.add_middleware(_Guard)
    return app


class _Guard:
    """Refuses who may not ask, and tells browsers what the page may load."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                added = [(k.lower().encode(), v.encode()) for k, v in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        refusal = _refusal(scope)
        if refusal is None:
            await self._app(scope, receive, with_headers)
            return
        from starlette.responses import PlainTextResponse

        await PlainTextResponse(f"{refusal[1]}\n", refusal[0])(scope, receive, with_headers)


def _refusal(scope: Any) -> tuple[int, str] | None:
    """Return a status and a message for a request that is not answered."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get("host", "").rpartition(":")
    if (host[0] or host[2]) not in HOSTS:
        return 400, f"this page answers for {' and '.join(HOSTS)} alone"
    if headers.get("sec-fetch-site") == "cross-site" and scope["path"] != "/":
        return 403, "other sites may link to the page, and ask nothing else"
    if len(scope["query_string"]) > LONGEST_ADDRESS:
        return 400, f"the address must be at most {LONGEST_ADDRESS} characters after the ?"
    return None


def _parted(query: Query, own: Sequence[str]) -> tuple[Query, dict[str, str]]:
    found = {name: value for name, value in query if name in own}
    return [pair for pair in query if pair[0] not in own], found


def _curve_of(own: dict[str, str], query: Query) -> tuple[str, int | None]:
    known = inputs()["method"].choices
    method = own.get("of") or next((v for n, v in query if n == "method"), "diloco")
    if method not in known:
        near = did_you_mean(method, known)
        raise UserError(f'of: "{method[:64]}": must be one of {", ".join(known)}{near}')
    part = own.get("part")
    allowed = [str(number) for number in range(len(answers.PARTS))]
    if part is not None and part not in allowed:
        raise UserError(f'part: "{part[:64]}": must be one of {", ".join(allowed)}')
    return method, None if part is None else int(part)


@lru_cache
def _text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
