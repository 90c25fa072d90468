"""AMQP 0-9-1 over TCP or TLS: RabbitMQ and what speaks like it.

``AMQPTransport`` dials, shakes hands and hands over an ``AMQPLink``.  This is the one edge where
errors of sockets, TLS and the protocol become ``kombu_actors.errors``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import trio
from amqp import exceptions as amqp_errors

from ..._values.endpoint import Endpoint, LinkOptions, body_max_of
from ..._values.model import Capabilities
from ...errors import BrokerUnreachable, HandshakeFailed
from ...protocols.amqp import (
    AMQPEngine,
    AMQPlainCredentials,
    ExternalCredentials,
    NotAMQP,
    PeerProtocolError,
    PlainCredentials,
    Preparer,
    content_of,
)
from ...protocols.amqp.events import ConnectionClosedByPeer, ConnectionOpened, Event
from ...protocols.amqp.negotiation import Credentials, check_wishes
from ...protocols.amqp.states import ConnectionState
from .._stream import STREAM_ERRORS, ByteStream, dial
from .._tls import explain_tls
from .link import AMQPLink

__all__ = ["AMQPTransport"]

FRAME_MAX: Final = 131072
"""Bytes of a frame that are asked for: RabbitMQ's own default."""
NO_FRAME_MAX: Final = 0xFFFFFFFF
"""Where this side sets no limit the protocol does."""
LAST_WORD_TIMEOUT: Final = 1.0
"""Seconds for close-ok to leave after a failed handshake: courtesy, so short."""


class AMQPTransport:
    """Opens AMQP connections and encodes messages for them.

    Raises ``ValueError`` for a ``frame_max`` or ``channel_max`` that can't be agreed on.

    ``transport_options["frame_max"]`` (131,072 bytes) bounds a message's properties and headers, which must
    fit one frame, until the broker has agreed to less.
    """

    name = "amqp"
    capabilities = Capabilities(
        heartbeats=True,
        confirms=True,
        exchange_types=frozenset({"direct", "topic", "fanout", "headers"}),
    )

    def __init__(self, transport_options: Mapping[str, Any] | None = None) -> None:
        options = transport_options or {}
        frame_max = options.get("frame_max", FRAME_MAX)
        check_wishes(frame_max, options.get("channel_max", 0))
        self._preparer = Preparer(frame_max=frame_max or NO_FRAME_MAX, body_max=body_max_of(options))
        self.prepare = self._preparer.prepare
        self.content_of = content_of

    async def connect(self, endpoint: Endpoint, options: LinkOptions) -> AMQPLink:
        """Dial ``endpoint`` and shake hands, within ``options.connect_timeout`` seconds altogether.

        Raises:
            BrokerUnreachable: nobody answers, or not in time, or the broker is going down.
            HandshakeFailed: the peer fails TLS or doesn't speak AMQP 0-9-1.
            amqp.exceptions.AccessRefused: user or password are wrong (403).
            amqp.exceptions.NotAllowed: the user may not use the virtual host, or there is none (530).

        Cancelled, it leaves no socket behind.
        """
        attempt = _Attempt(endpoint, options)
        with trio.move_on_after(options.connect_timeout):
            return await attempt.run()
        raise BrokerUnreachable(
            f"{attempt.where} did not answer within {options.connect_timeout:g} s ({attempt.phase})"
        )


class _Attempt:
    """One try to open a connection; ``phase`` is what it waits for."""

    def __init__(self, endpoint: Endpoint, options: LinkOptions) -> None:
        self.endpoint = endpoint
        self.options = options
        default_port = 5671 if endpoint.tls is not None else 5672
        self.port: int = endpoint.port or default_port
        self.where = f"{endpoint.host}:{self.port}"
        self.userid = "guest" if endpoint.userid is None else endpoint.userid
        self.phase = "while connecting"

    async def run(self) -> AMQPLink:
        engine = AMQPEngine(
            self._credentials(),
            self.endpoint.virtual_host,
            heartbeat=min(math.ceil(self.options.heartbeat or 0), 65535),
            frame_max=self.options.frame_max,
            channel_max=self.options.channel_max,
            body_max=self.options.body_max,
            properties=self.options.client_properties,
        )
        stream = await dial(self.endpoint.host, self.port, self.endpoint.tls)
        try:
            backlog = await self._shake_hands(engine, stream)
        except BaseException:
            stream.close()
            raise
        return AMQPLink(
            engine,
            stream,
            name=self.where,
            goodbye_timeout=self.options.connect_timeout,
            wire=self.options.make_lock(),
            reading=self.options.make_lock(),
            backlog=backlog,
        )

    def _credentials(self) -> Credentials:
        method = self.options.login_method or "PLAIN"
        if method == "EXTERNAL":
            return ExternalCredentials()
        by_password = _BY_PASSWORD.get(method)
        if by_password is None:
            raise ValueError(f"login_method must be 'PLAIN', 'AMQPLAIN' or 'EXTERNAL', not {method!r}")
        password = "guest" if self.endpoint.userid is None else self.endpoint.password
        return by_password(self.userid, password or "")

    async def _shake_hands(self, engine: AMQPEngine, stream: ByteStream) -> list[Event]:
        """Run the handshake; return what came after open-ok in the same bytes."""
        engine.start()
        while True:
            self.phase = f"AMQP handshake, {engine.state.value}"
            data = await self._exchange(engine, stream)
            try:
                happened = engine.receive(data)
            except PeerProtocolError as error:
                await self._last_word(engine, stream)
                raise HandshakeFailed(f"{self.where}: {error.text}") from error
            for index, event in enumerate(happened):
                if isinstance(event, ConnectionOpened):
                    return happened[index + 1 :]
                if isinstance(event, ConnectionClosedByPeer):
                    await self._last_word(engine, stream)
                    raise self._refused(event)

    async def _exchange(self, engine: AMQPEngine, stream: ByteStream) -> bytes:
        """Send what the engine has to say; return the answer."""
        try:
            await self._send(engine, stream)
            data = await stream.receive()
        except STREAM_ERRORS as error:
            raise self._cut_short(engine, error) from error
        if not data:
            raise self._cut_short(engine)
        return data

    async def _last_word(self, engine: AMQPEngine, stream: ByteStream) -> None:
        with trio.move_on_after(LAST_WORD_TIMEOUT):
            try:
                await self._send(engine, stream)
            except STREAM_ERRORS:
                return  # the peer hung up first; the reason is already known

    @staticmethod
    async def _send(engine: AMQPEngine, stream: ByteStream) -> None:
        await stream.send_all(engine.sender.take())
        engine.sender.sent()

    def _refused(self, closed: ConnectionClosedByPeer) -> Exception:
        user = f"user {self.userid!r}"
        if self.options.login_method == "EXTERNAL":
            tls = self.endpoint.tls
            shown = tls is not None and (tls.certfile or tls.own)
            user = "the user named by our TLS client certificate" if shown else "us without TLS client certificate"
        text = f"{self.where} refused {user}, virtual host {self.endpoint.virtual_host!r}: {closed.text}"
        if closed.code in (403, 530):
            refusal: Exception = amqp_errors.error_for_code(
                closed.code, text, closed.method if any(closed.method) else None, amqp_errors.ConnectionError
            )
            return refusal
        return BrokerUnreachable(f"{self.where} ended the handshake: {closed.code} {closed.text}")

    def _cut_short(self, engine: AMQPEngine, error: BaseException | None = None) -> Exception:
        tls = explain_tls(error, self.endpoint.host) if error is not None else None
        if tls is not None:
            return HandshakeFailed(f"{self.where}: {tls}")
        state = engine.state
        judged = engine.end_of_stream()
        if isinstance(judged, NotAMQP):
            return HandshakeFailed(f"{self.where}: {judged.text}")
        hint = _HINTS.get(state, "")
        if state is ConnectionState.AWAITING_START and self.endpoint.tls is not None:
            # TLS 1.3 brokers refuse after our side of the handshake is done; their alert may get lost.
            ours = self.endpoint.tls.certfile is not None
            hint = (
                ": did it refuse our TLS client certificate (certfile)?"
                if ours
                else (": does it want a TLS client certificate (certfile, keyfile)?")
            )
        detail = f" ({error})" if error is not None and str(error) else ""
        return HandshakeFailed(f"{self.where} closed the connection during the handshake, {state.value}{detail}{hint}")


_BY_PASSWORD: Final[Mapping[str, Callable[[str, str], Credentials]]] = {
    "PLAIN": PlainCredentials,
    "AMQPLAIN": AMQPlainCredentials,
}
_HINTS: Final[Mapping[ConnectionState, str]] = {
    ConnectionState.AWAITING_START: ": is this a broker's plain AMQP port?",
    ConnectionState.AWAITING_TUNE: ": user or password may be wrong",
    ConnectionState.AWAITING_OPEN: ": the virtual host may not exist, or not for this user",
}
