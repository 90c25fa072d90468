"""Scripted servers that speak, or misspeak, RESP over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import hiredis
import trio

from kombu_actors.transport._stream import dial
from kombu_actors.transport._waiting import PendingReply
from kombu_actors.transport.redis.wire import Argument, RedisWire

HELLO = {"server": "redis", "version": "7.0.15", "proto": 3, "id": 7, "mode": "standalone", "role": "master"}
_MORE = object()


def hello(**changes: Any) -> bytes:
    """A good answer to ``HELLO 3``, but for the changes."""
    items = {**HELLO, **changes}.items()
    lines = [b"%%%d\r\n" % len(items)]
    for key, value in items:
        lines.append(b"$%d\r\n%s\r\n" % (len(key), key.encode()))
        lines.append(b":%d\r\n" % value if isinstance(value, int) else b"$%d\r\n%s\r\n" % (len(value), value.encode()))
    return b"".join(lines)


@attrs.define(eq=False)
class FakeClient:
    """One client of a fake server, from the server's side."""

    stream: trio.SocketStream
    port: int
    received: bytes = b""
    _reader: Any = attrs.field(factory=lambda: hiredis.Reader(notEnoughData=_MORE))

    async def command(self) -> list[bytes]:
        """The next command."""
        while (words := self._reader.gets()) is _MORE:
            data = await self.stream.receive_some()
            if not data:
                raise EOFError
            self.received += data
            self._reader.feed(data)
        return list(words)

    async def answer(self, *replies: bytes) -> None:
        """Take a command for each reply, and send it."""
        for reply in replies:
            await self.command()
            await self.send(reply)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def until_hangup(self) -> None:
        """Wait until the client has gone."""
        with suppress(trio.BrokenResourceError):
            while await self.stream.receive_some():
                pass


Script = Callable[[FakeClient], Awaitable[None]]


@asynccontextmanager
async def fake_redis(script: Script) -> AsyncIterator[int]:
    """A server on the port given that plays ``script`` to every client, each ended when its script is."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port: int = listeners[0].socket.getsockname()[1]

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            with suppress(EOFError, trio.BrokenResourceError):
                await script(FakeClient(stream, port))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        try:
            yield port
        finally:
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_test_wire(port: int, *, body_max: int = 1024 * 1024, hello: bool = True) -> AsyncIterator[RedisWire]:
    """A wire to a loopback port, RESP3 chosen, with its reader and writer running."""
    wire = RedisWire(await dial("127.0.0.1", port, None), name=f"127.0.0.1:{port}", body_max=body_max)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.run_reader)
        nursery.start_soon(wire.run_writer)
        try:
            if hello:
                await call(wire, "HELLO", 3)
            yield wire
        finally:
            wire.kill(ConnectionError("the test is over"))


def request(wire: RedisWire, *args: Argument, **hooks: Callable[[Any], None]) -> PendingReply[Any]:
    """Append one command; ``hooks`` are those of a ``PendingReply``."""
    pending: PendingReply[Any] = PendingReply(**hooks)

    def settle(reply: object) -> None:
        if isinstance(reply, BaseException):
            pending.fail(reply)
        else:
            pending.resolve(reply)

    wire.send(args, settle)
    return pending


async def call(wire: RedisWire, *args: Argument) -> Any:
    """Send one command and wait for its reply; raises an ``ErrorReply``, or why the wire died."""
    return await request(wire, *args).wait()
