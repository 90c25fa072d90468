"""The page's paths: itself, its stream, its looks into dead letters, its actions, its files."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from functools import cache
from importlib.resources import files
from urllib.parse import parse_qsl

import trio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, request_response

from ...errors import KombuError
from ...fleet.errors import FleetError
from ...fleet.program import Program
from ..feed import Feed, Reader
from .actions import act
from .document import document
from .guard import Token, origin_refusal
from .letters import LOOKED_AT, group_list
from .safety import Safe
from .streaming import tell_changes
from .watching import Page

__all__ = ["page_routes"]

STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
FORM_MAX = 16_384
"""Bytes of an action: a queue's name, a path, an error's class."""
Handler = Callable[[Request], Awaitable[Response]]


def page_routes(page: Page, token: Token | None = None, names: Collection[str] = ()) -> Sequence[Route]:
    """``/`` and what belongs to it.

    Args:
        token: what has to be known to act; None: nobody may.
        names: host names of this page besides localhost and this machine's own.
    """

    one_look = trio.Lock()  # letters that are looked at are nobody else's meanwhile

    async def whole(request: Request) -> Response:
        stamp, frame, status = page.moment()
        version = _version()
        return HTMLResponse(document(status, frame, stamp=stamp, version=version, actions=page.acts))

    async def letters(request: Request) -> Response:
        queue = request.query_params.get("queue", "")
        refused = origin_refusal(request.headers)
        if refused is not None:
            return PlainTextResponse(f"{refused}\n", 403)
        if not isinstance(page.program, Program):
            return PlainTextResponse("this program has no fleet\n", 404)
        try:
            async with one_look, page.program.fleet.dead_letters(queue) as dead:
                found = await dead.list(LOOKED_AT)
        except (FleetError, KombuError) as error:
            return PlainTextResponse(f"The dead letters can't be looked at: {error}\n", 502)
        return HTMLResponse(group_list(queue, found, actions=page.acts))

    async def action(request: Request) -> Response:
        refused = origin_refusal(request.headers)
        if refused is not None:
            return _refusal(403, refused)
        if token is None or not isinstance(page.program, Program):
            return _refusal(403, "nothing may be done from here: run it with --allow-actions")
        refused = token.refusal(request.headers.get("authorization"))
        if refused is not None:
            return _refusal(401, refused)
        try:
            form = await _form(request)
        except ValueError as error:
            return _refusal(400, str(error))
        who = request.client.host if request.client is not None else "somebody"
        done = await act(page.program, request.path_params["name"], form, who)
        page.ask_again()
        return JSONResponse({"well": done.well, "words": done.words}, 200 if done.well else 409)

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in STATIC:
            return PlainTextResponse("there is no such file\n", 404)
        cached = {"cache-control": "public, max-age=31536000, immutable"} if request.url.query == _version() else {}
        return Response(_file(name), media_type=STATIC[name], headers=cached)

    async def stream(reader: Reader) -> None:
        await tell_changes(page, reader)

    def safe(handler: Handler) -> Safe:
        return Safe(request_response(handler), names)

    return (
        Route("/", safe(whole), methods=["GET"]),
        Route("/page/stream", Safe(Feed(stream), names), methods=["GET"]),
        Route("/page/letters", safe(letters), methods=["GET"]),
        Route("/page/actions/{name}", safe(action), methods=["POST"]),
        Route("/page/static/{name}", safe(static), methods=["GET"]),
    )


def _refusal(code: int, words: str) -> Response:
    return JSONResponse({"well": False, "words": words}, code)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; ``ValueError`` when it is none, or too large."""
    body = bytearray()
    try:
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > FORM_MAX:
                    raise ValueError(f"an action takes at most {FORM_MAX} bytes")
    except ClientDisconnect:
        raise ValueError("the request is not whole") from None
    return dict(parse_qsl(body.decode(), keep_blank_values=True))


@cache
def _file(name: str) -> bytes:
    return (files(__package__) / "static" / name).read_bytes()


@cache
def _version() -> str:
    """Of the files together: another one, and browsers take them anew."""
    return hashlib.sha256(b"".join(_file(name) for name in STATIC)).hexdigest()[:12]
