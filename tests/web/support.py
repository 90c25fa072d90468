"""Programs that are served on this machine, and what asks them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import trio

from kombu_actors.fleet.program import Program
from kombu_actors.web import application, serve
from kombu_actors.web.binding import Binding
from kombu_actors.web.page import Token
from kombu_actors.web.server import serve_application
from tests.support.processes import free_port

PATIENCE = 20.0
"""Seconds for anything on this machine, when it is busy."""


@attrs.frozen
class Answer:
    """An HTTP response, read to its end."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@attrs.frozen
class Site:
    """A server of a test."""

    port: int

    async def get(self, path: str, **headers: str) -> Answer:
        """Ask it once, over a connection of its own."""
        with trio.fail_after(PATIENCE):
            async with await self.open(path, **headers) as stream:
                got = bytearray()
                async for chunk in stream:
                    got += chunk
        return parse(bytes(got))

    async def post(self, path: str, form: str, **headers: str) -> Answer:
        """Send it a form."""
        more = {"content-type": "application/x-www-form-urlencoded", "content-length": str(len(form)), **headers}
        with trio.fail_after(PATIENCE):
            async with await self.open(path, "POST", form, **more) as stream:
                got = bytearray()
                async for chunk in stream:
                    got += chunk
        return parse(bytes(got))

    async def open(self, path: str, method: str = "GET", body: str = "", **headers: str) -> trio.SocketStream:
        """Ask, and leave the answer to be read."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        lines = [f"{method} {path} HTTP/1.1", "connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in {"host": "localhost", **headers}.items()]
        await stream.send_all("\r\n".join([*lines, "", body]).encode())
        return stream


def parse(data: bytes) -> Answer:
    """From the bytes of one response."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = dechunked(body)
    return Answer(int(first.split()[1]), headers, body.decode())


def dechunked(data: bytes) -> bytes:
    """The chunks of a body that ended as it should."""
    parts = list[bytes]()
    while True:
        size, _, data = data.partition(b"\r\n")
        if not int(size, 16):
            return b"".join(parts)
        parts.append(data[: int(size, 16)])
        data = data[int(size, 16) + 2 :]


async def counted(count: Callable[[], Awaitable[int]], wanted: int) -> None:
    """Wait for a figure of the broker, which tells only who asks."""
    with trio.fail_after(PATIENCE):
        while await count() != wanted:  # noqa: ASYNC110
            await trio.sleep(0.01)


@asynccontextmanager
async def served(program: Program) -> AsyncIterator[Site]:
    """Serve a program that the test runs, or doesn't."""
    listener = Binding().listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_application, application(program), listener)
        yield Site(listener.getsockname()[1])
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def serving(program: Program, *, token: Token | None = None) -> AsyncIterator[Site]:
    """Serve a program as ``--http`` does, with its page."""
    async with trio.open_nursery() as nursery:
        bind = Binding(port=free_port())
        await nursery.start(partial(serve, program, bind, token=token))
        yield Site(bind.port)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def run(program: Program) -> AsyncIterator[Site]:
    """Run a program and serve it; stop it at the end of the block."""
    with trio.fail_after(3 * PATIENCE):
        async with served(program) as site, trio.open_nursery() as nursery:
            await nursery.start(partial(program.run, signals=False))
            yield site
            program.stop("the test is over")
