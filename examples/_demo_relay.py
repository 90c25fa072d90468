"""How the demonstration loses its session: the cable to the broker is pulled, and put back at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import attrs
import trio

from kombu_actors.errors import BrokerUnreachable, InvalidURL
from kombu_actors.transport.memory import memory_broker

PORTS = {"amqp": 5672, "pyamqp": 5672, "redis": 6379}
"""Schemes whose connections can be relayed, and their ports."""


@asynccontextmanager
async def breakable(url: str) -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """The URL to use instead of ``url``, and a function that cuts every connection made with it.

    Nothing of a connection through a relay is simulated: the client sees the same resets, and the
    broker the same vanished client, as when a cable is pulled.

    Raises:
        InvalidURL: the URL isn't one that a relay can stand in for.
        BrokerUnreachable: nobody answers there.
    """
    if url.startswith("memory:"):
        # In this process there is no cable; its broker drops its connections when told to.
        yield url, memory_broker(urlsplit(url).hostname or "").cut
        return
    async with trio.open_nursery() as nursery:
        relays = [Relay.to(part) for part in url.split(";")]
        ports = [await nursery.start(relay.run) for relay in relays]

        def cut() -> None:
            for relay in relays:
                relay.cut()

        yield ";".join(relay.url(port) for relay, port in zip(relays, ports, strict=True)), cut
        nursery.cancel_scope.cancel()


@attrs.define
class Relay:
    """A TCP relay on a loopback port, in front of a broker."""

    host: str
    port: int
    _template: str
    _carrying: set[trio.CancelScope] = attrs.field(factory=set)

    @classmethod
    def to(cls, url: str) -> Relay:
        """The relay to the broker of a URL."""
        parts = urlsplit(url)
        if parts.scheme not in PORTS:
            raise InvalidURL(
                f"the demonstration cuts its connections in a relay, so it takes {', '.join(PORTS)} and memory URLs, "
                f"not {parts.scheme or 'ones without a scheme'} (a relay can't show the broker's certificate)"
            )
        user, at, _ = parts.netloc.rpartition("@")
        template = parts._replace(netloc=f"{user}{at}127.0.0.1:PORT").geturl()
        return cls(parts.hostname or "localhost", parts.port or PORTS[parts.scheme], template)

    def url(self, port: int) -> str:
        """The broker's URL by way of this relay."""
        return self._template.replace("127.0.0.1:PORT", f"127.0.0.1:{port}")

    async def run(self, task_status: trio.TaskStatus[int]) -> None:
        """Relay until cancelled; the status is the port."""
        try:
            await (await trio.open_tcp_stream(self.host, self.port)).aclose()
        except OSError as error:
            raise BrokerUnreachable(f"no broker at {self.host}:{self.port}: {error}") from error
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(self._carry, listeners)

    def cut(self) -> None:
        """Drop every connection, with all that is on its way."""
        for scope in self._carrying:
            scope.cancel()

    async def _carry(self, client: trio.SocketStream) -> None:
        # OSError: the broker can't be reached; the client learns it from its closed connection.
        with trio.CancelScope() as scope, suppress(OSError):
            self._carrying.add(scope)
            try:
                async with await trio.open_tcp_stream(self.host, self.port) as broker, trio.open_nursery() as nursery:
                    nursery.start_soon(self._copy, client, broker, scope)
                    nursery.start_soon(self._copy, broker, client, scope)
            finally:
                self._carrying.discard(scope)

    async def _copy(self, source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError):
            async for chunk in source:
                await target.send_all(chunk)
        scope.cancel()
