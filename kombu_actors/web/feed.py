"""Server-sent events (WHATWG HTML, section 9.2): lines to a reader for as long as it listens.

An endpoint of ASGI rather than a response of starlette's, so that a reader that has left, one that no longer reads and
the server's end each end it at once.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Awaitable, Callable

import trio
from starlette.datastructures import Headers, QueryParams
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..fleet.program import EVENTS
from .observed import Observed

__all__ = ["Feed", "Reader", "event_route"]

READERS = 32
"""Readers at a time: people and their tools; each costs a task and its buffer of events."""
HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent: proxies cut what is silent for a minute, some after half of one."""
GZIP = 31
"""zlib's window of 32 KiB, with gzip's head (``zlib.compressobj``, wbits)."""
RETRY = 2000
"""Milliseconds after which a browser comes back."""


class Reader:
    """One who listens.  What it is sent is compressed where it takes that: rows of a table shrink to a tenth."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.query = QueryParams(scope["query_string"])
        self.sent = 0
        """Bytes so far."""
        takes = Headers(scope=scope).get("accept-encoding", "")
        self._squeeze = zlib.compressobj(wbits=GZIP) if "gzip" in takes else None
        self._send = send
        self._sent_at = trio.current_time()
        self._sending = trio.Lock()

    @property
    def compressed(self) -> bool:
        """Whether what it is sent is gzip's."""
        return self._squeeze is not None

    async def welcome(self) -> None:
        """Say that whatever happens from here on is told."""
        await self.write(f"retry: {RETRY}\n\n")

    async def tell(self, data: object, event: str | None = None) -> None:
        """Send an event: text as it is, anything else as JSON; ``event`` is its type, "message" when None."""
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, default=str)
        lines = [] if event is None else [f"event: {event}"]
        await self.write("\n".join([*lines, *(f"data: {line}" for line in text.split("\n")), "", ""]))

    async def write(self, text: str) -> None:
        """Send text as it is.  It waits for the reader, which the server cuts off when it takes nothing."""
        async with self._sending:
            body = text.encode()
            if self._squeeze is not None:
                body = self._squeeze.compress(body) + self._squeeze.flush(zlib.Z_SYNC_FLUSH)
            self.sent += len(body)
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
        self._sent_at = trio.current_time()

    async def beat(self) -> None:
        """Send a comment whenever nothing else has been sent for a while."""
        while True:
            await trio.sleep_until(self._sent_at + HEARTBEAT)
            if trio.current_time() >= self._sent_at + HEARTBEAT:
                await self.write(":\n\n")


class Feed:
    """An endpoint that has ``write(reader)`` send to each reader, until one of them ends it or the server does.

    Args:
        write: sends as long as it has something to tell, a welcome first; it is cancelled when the reader has left.
        readers: how many there may be at a time; the next one is told to come later (503).
    """

    def __init__(self, write: Callable[[Reader], Awaitable[None]], readers: int = READERS) -> None:
        self._write = write
        self._room = readers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if not self._room:
            busy = PlainTextResponse("there are as many readers as there may be\n", 503, {"retry-after": "30"})
            await busy(scope, receive, send)
            return
        self._room -= 1
        try:
            await self._serve(scope, receive, send)
        finally:
            self._room += 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        reader = Reader(scope, send)
        headers = [
            (b"content-type", b"text/event-stream"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
        ]
        if reader.compressed:
            headers.append((b"content-encoding", b"gzip"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        ending: trio.Event = scope["app"].state.ending
        async with trio.open_nursery() as nursery:

            async def cancel_after(wait: Callable[[], Awaitable[object]]) -> None:
                await wait()
                nursery.cancel_scope.cancel(reason="the feed has ended, or its reader has")

            nursery.start_soon(cancel_after, ending.wait)
            nursery.start_soon(cancel_after, lambda: left(receive))
            nursery.start_soon(reader.beat)
            await self._write(reader)
            nursery.cancel_scope.cancel(reason="there is nothing more to tell")
        await send({"type": "http.response.body", "body": b""})


async def left(receive: Receive) -> None:
    """Return when the reader has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


def event_route(program: Observed) -> Route:
    """``/events``: each event as JSON.  A reader that falls behind is told how many it has missed, as type "lost"."""

    async def write(reader: Reader) -> None:
        lost = 0
        async with program.events(EVENTS) as stream:
            await reader.welcome()
            async for event in stream:
                if stream.lost > lost:
                    await reader.tell({"lost": stream.lost - lost}, "lost")
                    lost = stream.lost
                await reader.tell(event.to_dict())

    return Route("/events", Feed(write), methods=["GET"])
