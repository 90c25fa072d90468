"""hypercorn's trio worker beside a program.

What hypercorn sends it shields from cancellation, and so somebody who takes nothing would hold up the program's end for
ever: here each connection has a stream that gives up on them.  That is why it is built of hypercorn's parts, as its own
``hypercorn.trio.serve`` is.
"""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Collection
from functools import partial
from typing import Any, cast

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from starlette.applications import Starlette

from ..fleet.program import Program
from ..hosting.depths import DepthSampler
from ..hosting.unix_sockets import remove_own
from .application import application
from .binding import Binding
from .observed import Observed
from .page import Page, Token

__all__ = ["serve", "serve_application"]

logger = logging.getLogger("kombu_actors.web")

GRACE = 0.5
"""Seconds at the end for answers that are under way; streams of events end at once."""
STALLED = 30.0
"""Seconds for a reader to take what is sent to it.  It is cut off then, and comes back if it lives."""
CONNECTIONS = 256
"""Connections at a time: more than probes, scrapers and people need, and less than would cost the program files."""


async def serve(
    program: Observed,
    bind: Binding,
    *,
    token: Token | None = None,
    names: Collection[str] = (),
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a program's status until cancelled: a companion of ``kombu-actors run``.

    Args:
        token: what has to be known to act from the page; None: nobody may.
        names: host names under which the page is known, besides localhost and this machine's.

    Raises ``OSError`` when nothing can be served there.
    """
    listener = bind.listen()
    inode = 0 if bind.path is None else os.stat(bind.path).st_ino
    depths = DepthSampler(program.fleet) if isinstance(program, Program) else None
    page = Page(program, depths, acts=token is not None)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(page.run)
            if depths is not None:
                nursery.start_soon(depths.run)
            logger.info("status is served at %s", bind.url(listener))
            task_status.started()
            app = application(program, page, depths=depths, token=token, names=names)
            await serve_application(app, listener)
            nursery.cancel_scope.cancel(reason="the server has ended")
    finally:
        listener.close()
        if bind.path is not None:
            remove_own(str(bind.path), inode)


async def serve_application(app: Starlette, listener: socket.socket) -> None:
    """Serve it until cancelled; then streams of events end, and what is being answered has ``GRACE`` seconds."""
    listener.setblocking(False)
    app.state.ending = ending = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_set_when_cancelled, ending)
        with trio.CancelScope(shield=True):  # it ends by the event, GRACE later at most
            await Server(app).run(listener, ending)
        nursery.cancel_scope.cancel(reason="the server has ended")


async def _set_when_cancelled(event: trio.Event) -> None:
    try:
        await trio.sleep_forever()
    finally:
        event.set()


class Server:
    """The connections to one application."""

    def __init__(self, app: Starlette) -> None:
        self._config = Config()
        self._config.errorlog = logging.getLogger("kombu_actors.web.hypercorn")
        self._config.include_server_header = False
        self._app = wrap_app(cast(Any, app), 0, "asgi")  # hypercorn and starlette type ASGI each in their way
        self._context = WorkerContext(None)
        self._streams: set[Stream] = set()

    async def run(self, listener: socket.socket, ending: trio.Event) -> None:
        """Accept connections until the event, and end them."""
        accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        async with trio.open_nursery() as connections:
            serve = partial(trio.serve_listeners, self._connected, [accepting], handler_nursery=connections)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                await ending.wait()
                nursery.cancel_scope.cancel(reason="the server ends")
            await self._context.terminated.set()
            at = connections.cancel_scope.deadline = trio.current_time() + GRACE
            for stream in self._streams:
                stream.give_up_at(at)

    async def _connected(self, transport: trio.SocketStream) -> None:
        if len(self._streams) == CONNECTIONS:
            await transport.aclose()
            return
        stream = Stream(transport)
        self._streams.add(stream)
        try:
            # It looks whether the stream speaks TLS, and takes what is like trio's.
            await TCPServer(self._app, self._config, self._context, ConnectionState({}), cast(Any, stream))
        finally:
            self._streams.discard(stream)


class Stream:
    """A connection that breaks when its peer takes nothing for too long."""

    def __init__(self, transport: trio.SocketStream) -> None:
        self.socket = transport.socket
        self.receive_some = transport.receive_some
        self.send_eof = transport.send_eof
        self.aclose = transport.aclose
        self._transport = transport
        self._latest = math.inf
        self._sending = trio.CancelScope()

    async def send_all(self, data: bytes) -> None:
        """Send, or raise ``trio.BrokenResourceError``."""
        self._sending = trio.CancelScope(deadline=min(trio.current_time() + STALLED, self._latest))
        with self._sending:
            await self._transport.send_all(data)
            return
        logger.info("a reader of status took nothing for %g s, and is cut off", STALLED)
        raise trio.BrokenResourceError("the peer takes nothing")

    def give_up_at(self, at: float) -> None:
        """Whatever is being sent is over then."""
        self._latest = at
        self._sending.deadline = min(self._sending.deadline, at)
