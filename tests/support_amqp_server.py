"""The broker's half of AMQP 0-9-1, for tests: frames as a broker sends them, and a scripted server.

It shares the encoders of argument lists with the code under test (they are py-amqp's) and decodes
what clients send with py-amqp's decoder, so that a mistake in our decoder can't hide itself.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import attrs
import trio
from amqp import spec
from amqp.basic_message import Message
from amqp.serialization import dumps, loads

from kombu_actors._values.endpoint import Endpoint, LinkOptions
from kombu_actors.errors import ConnectionClosed, ConnectionLost
from kombu_actors.transport.amqp import AMQPTransport
from kombu_actors.transport.amqp.link import AMQPLink

Signature = tuple[int, int]
GREETING = b"AMQP\x00\x00\x09\x01"

# What a client may send, with py-amqp's argument letters.
CLIENT_METHODS: dict[Signature, str] = {
    spec.Connection.StartOk: "FsSs",
    spec.Connection.SecureOk: "S",
    spec.Connection.TuneOk: "BlB",
    spec.Connection.Open: "ssb",
    spec.Connection.Close: "BsBB",
    spec.Connection.CloseOk: "",
    spec.Channel.Open: "s",
    spec.Channel.Close: "BsBB",
    spec.Channel.CloseOk: "",
    spec.Channel.Flow: "b",
    spec.Channel.FlowOk: "b",
    spec.Exchange.Declare: "BssbbbbbF",
    spec.Exchange.Delete: "Bsbb",
    spec.Exchange.Bind: "BsssbF",
    spec.Exchange.Unbind: "BsssbF",
    spec.Queue.Declare: "BsbbbbbF",
    spec.Queue.Bind: "BsssbF",
    spec.Queue.Unbind: "BsssF",
    spec.Queue.Purge: "Bsb",
    spec.Queue.Delete: "Bsbbb",
    spec.Basic.Qos: "lBb",
    spec.Basic.Consume: "BssbbbbF",
    spec.Basic.Cancel: "sb",
    spec.Basic.CancelOk: "s",
    spec.Basic.Publish: "Bssbb",
    spec.Basic.Get: "Bsb",
    spec.Basic.Ack: "Lb",
    spec.Basic.Nack: "Lbb",
    spec.Basic.Reject: "Lb",
    spec.Basic.Recover: "b",
    spec.Confirm.Select: "b",
}


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """One frame."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def method(channel: int, signature: Signature, layout: str = "", *values: Any) -> bytes:
    """One method frame."""
    return frame(1, channel, struct.pack(">HH", *signature) + dumps(layout, values))


def content(channel: int, body: bytes, properties: Mapping[str, Any] | None = None, *, piece: int = 131064) -> bytes:
    """A content header and the body in pieces; properties under py-amqp's names."""
    encoded: bytes = Message(**(properties or {}))._serialize_properties()
    frames = frame(2, channel, struct.pack(">HHQ", 60, 0, len(body)) + encoded)
    return frames + b"".join(frame(3, channel, body[at : at + piece]) for at in range(0, len(body), piece))


def delivery(
    channel: int,
    tag: int,
    body: bytes,
    *,
    consumer: str = "ctag",
    redelivered: bool = False,
    exchange: str = "ex",
    routing_key: str = "key",
    properties: Mapping[str, Any] | None = None,
    piece: int = 131064,
) -> bytes:
    """basic.deliver with its content."""
    head = method(channel, spec.Basic.Deliver, "sLbss", consumer, tag, redelivered, exchange, routing_key)
    return head + content(channel, body, properties, piece=piece)


def start(*, major: int = 0, minor: int = 9, mechanisms: str = "PLAIN EXTERNAL", **properties: Any) -> bytes:
    """connection.start."""
    return method(0, spec.Connection.Start, "ooFSS", major, minor, properties, mechanisms, "en_US")


def tune(channel_max: int = 2047, frame_max: int = 131072, heartbeat: int = 60) -> bytes:
    """connection.tune."""
    return method(0, spec.Connection.Tune, "BlB", channel_max, frame_max, heartbeat)


def open_ok() -> bytes:
    """connection.open-ok."""
    return method(0, spec.Connection.OpenOk, "s", "")


def connection_close(code: int, text: str, signature: Signature = (0, 0)) -> bytes:
    """connection.close."""
    return method(0, spec.Connection.Close, "BsBB", code, text, *signature)


def channel_open_ok(channel: int) -> bytes:
    """channel.open-ok."""
    return method(channel, spec.Channel.OpenOk, "S", "")


def channel_close(channel: int, code: int, text: str, signature: Signature = (0, 0)) -> bytes:
    """channel.close."""
    return method(channel, spec.Channel.Close, "BsBB", code, text, *signature)


@attrs.frozen
class ClientFrame:
    """What a client sent; ``arguments`` of a method, ``payload`` of anything else."""

    kind: int
    channel: int
    signature: Signature | None
    arguments: list[Any]
    payload: bytes


def parse_client(data: bytes) -> tuple[list[ClientFrame], bytes]:
    """Split what a client sent (after its greeting) into frames and an incomplete rest."""
    frames = []
    while len(data) >= 8:
        kind, channel, size = struct.unpack_from(">BHI", data)
        if len(data) < size + 8:
            break
        payload, end = data[7 : 7 + size], data[7 + size]
        assert end == 0xCE
        signature, arguments = None, []
        if kind == 1:
            signature = struct.unpack_from(">HH", payload)
            layout = CLIENT_METHODS[signature].replace("S", "x")
            arguments, consumed = loads(layout, payload, 4)
            assert consumed == size
        frames.append(ClientFrame(kind, channel, signature, arguments, payload))
        data = data[size + 8 :]
    return frames, data


class FakeConnection:
    """One client connection, as its script sees it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.frames: list[ClientFrame] = []
        self._rest = b""

    async def send(self, *data: bytes) -> None:
        """Send bytes."""
        await self.stream.send_all(b"".join(data))

    async def next_frame(self) -> ClientFrame:
        """The client's next frame, heartbeats included."""
        while not self.frames:
            data = await self.stream.receive_some()
            if not data:
                raise EOFError
            frames, self._rest = parse_client(self._rest + data)
            self.frames += frames
        return self.frames.pop(0)

    async def expect(self, signature: Signature) -> ClientFrame:
        """Take frames until this method comes; heartbeats and content are passed over."""
        while True:
            received = await self.next_frame()
            if received.kind == 1:
                assert received.signature == signature, f"expected {signature}, got {received}"
                return received

    async def expect_kind(self, kind: int) -> ClientFrame:
        """Take the next frame of a kind; others are passed over."""
        while True:
            received = await self.next_frame()
            if received.kind == kind:
                return received

    async def greet(self) -> None:
        """Take the protocol header."""
        greeting = b""
        while len(greeting) < 8:
            piece = await self.stream.receive_some(8 - len(greeting))
            assert piece, "the client hung up before its greeting"
            greeting += piece
        assert greeting == GREETING

    async def handshake(self, *, heartbeat: int = 0, frame_max: int = 131072, **properties: Any) -> None:
        """Everything up to open-ok."""
        await self.greet()
        await self.send(start(**properties))
        await self.expect(spec.Connection.StartOk)
        await self.send(tune(heartbeat=heartbeat, frame_max=frame_max))
        await self.expect(spec.Connection.TuneOk)
        await self.expect(spec.Connection.Open)
        await self.send(open_ok())

    async def grant_channel(self, number: int = 1) -> None:
        """channel.open with its answer."""
        assert (await self.expect(spec.Channel.Open)).channel == number
        await self.send(channel_open_ok(number))

    async def goodbye(self) -> None:
        """The client's connection.close with its answer."""
        await self.expect(spec.Connection.Close)
        await self.send(method(0, spec.Connection.CloseOk))

    async def until_hangup(self) -> bytes:
        """Read until the client closes; return what it sent unparsed."""
        data = self._rest
        try:
            async for piece in self.stream:
                data += piece
        except trio.BrokenResourceError:
            pass  # a reset hangs up too
        return data


Script = Callable[[FakeConnection], Awaitable[None]]


@asynccontextmanager
async def fake_broker(script: Script) -> AsyncIterator[Endpoint]:
    """Serve ``script`` to each client on a loopback port; leaving the block cancels what still runs.

    A script that returns hangs up.  Its failures are the test's.
    """

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await script(FakeConnection(stream))

    async with trio.open_nursery() as nursery:
        listen = partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
        listeners: list[trio.SocketListener] = await nursery.start(listen)
        port = listeners[0].socket.getsockname()[1]
        yield Endpoint(scheme="amqp", host="127.0.0.1", port=port, userid="ann", password="canary-secret")
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def served(link: AMQPLink, *, politely: bool = True) -> AsyncIterator[AMQPLink]:
    """Run a link's roles while the block runs, then close it; how it died is no failure here."""

    async def serve(role: str) -> None:
        with suppress(ConnectionLost):
            await link.run(role)

    async with trio.open_nursery() as nursery:
        for role in link.roles:
            nursery.start_soon(serve, role)
        try:
            yield link
        finally:
            if politely:
                with trio.CancelScope(shield=True):
                    await link.aclose()
            link.kill(ConnectionClosed("the test is over"))


@asynccontextmanager
async def linked(endpoint: Endpoint, **options: Any) -> AsyncIterator[AMQPLink]:
    """Connect to a fake, serve and drop; heartbeats are off unless asked for."""
    link = await AMQPTransport().connect(endpoint, LinkOptions(**{"heartbeat": 0, **options}))
    async with served(link, politely=False):
        yield link
