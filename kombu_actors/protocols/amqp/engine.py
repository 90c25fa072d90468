"""The AMQP 0-9-1 connection as a machine of bytes: no socket, no clock, no waiting.

A driver feeds ``receive`` with what arrived and sends what the engine's ``sender`` has to send.  One
engine serves one connection, from protocol header to close-ok.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from amqp import spec

from ..._values.model import BODY_MAX
from .channels import ChannelTable
from .errors import NotAMQP, PeerProtocolError
from .events import (
    ConnectionBlocked,
    ConnectionClosed,
    ConnectionClosedByPeer,
    ConnectionOpened,
    ConnectionUnblocked,
    Event,
)
from .frames import END, FRAME_OVERHEAD, GREETING, HEARTBEAT, METHOD, FrameBuffer, frame, frame_at, recognise
from .handshake import Handshake
from .methods import REPLIES, Request, encode_method, method_id
from .negotiation import FRAME_MIN_SIZE, Credentials, Limits, agree, check_wishes
from .publishing import Prepared, publish_frames
from .receiving import ChannelReceiver, read_method
from .sender import Lone, Sender
from .states import ChannelState, ChannelStep, ConnectionState, ConnectionStep, connection_after

__all__ = ["AMQPEngine"]

_ACK: Final = struct.Struct(">BHIIQBB")
_BASIC_ACK: Final = method_id(spec.Basic.Ack)
_BASIC_NACK: Final = method_id(spec.Basic.Nack)
_BASIC_REJECT: Final = method_id(spec.Basic.Reject)
_HEARTBEAT: Final = frame(HEARTBEAT, 0, b"")


class AMQPEngine:
    """One AMQP connection, client side.

    ``heartbeat`` is in seconds, 0 asks for none; ``frame_max``, ``channel_max`` and ``heartbeat``
    are wishes until the broker's tune.  ``body_max`` bounds the body of a received message.

    ``limits`` and ``server_properties`` are the broker's from ``ConnectionOpened`` on.
    """

    def __init__(
        self,
        credentials: Credentials,
        virtual_host: str = "/",
        *,
        heartbeat: int = 0,
        frame_max: int = 131072,
        channel_max: int = 2047,
        body_max: int = BODY_MAX,
        properties: Mapping[str, object] | None = None,
    ) -> None:
        check_wishes(frame_max, channel_max)
        self._handshake = Handshake(credentials, virtual_host, properties)
        self.limits = Limits(channel_max, frame_max, heartbeat)
        self.server_properties: Mapping[str, object] = {}
        self.state = ConnectionState.IDLE
        self.body_max = body_max
        self.sender = Sender()
        """The encoded frames, and whose turn it is to send them; the driver's to empty."""
        self._payload_max = FRAME_MIN_SIZE - FRAME_OVERHEAD
        self._buffer = FrameBuffer()
        self._channels = ChannelTable()
        self._receiver = ChannelReceiver(self._channels, body_max, self._send)

    # -- bytes ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Greet the broker."""
        self._take(ConnectionStep.WE_GREET)
        self.sender.append(GREETING)

    def receive(self, data: bytes) -> list[Event]:
        """Parse received bytes; return what happened, in wire order.

        Raises:
            PeerProtocolError: the peer broke the protocol.  The connection is closed; what is to be
                sent may end with a connection.close that tells the peer why.
        """
        events: list[Event] = []
        if self.state is ConnectionState.CLOSED:
            return events
        try:
            self._parse(self._buffer.add(data), events)
        except PeerProtocolError as error:
            self.give_up(error)
            raise
        return events

    def whole_deliveries(self, data: bytes) -> tuple[list[Event], int]:
        """The deliveries at the beginning of bytes that are still to be received, and how many bytes they take.

        None in the middle of a frame, and none while an answer is awaited, which may change who gets them.
        """
        events: list[Event] = []
        if self.state is not ConnectionState.OPEN or self._buffer.kept or self.awaiting:
            return events, 0
        return events, self._receiver.deliveries(data, 0, self._payload_max, events)

    def end_of_stream(self) -> PeerProtocolError | None:
        """Judge an end of the byte stream: an error if what came last explains it, else None."""
        kept, state = self._buffer.kept, self.state
        self.state = ConnectionState.CLOSED
        if not kept:
            return None
        if state is ConnectionState.AWAITING_START:
            try:
                recognise(kept, whole=True)
            except NotAMQP as error:
                return error
        return PeerProtocolError(501, "the stream ended in the middle of a frame")

    def _parse(self, data: bytes, events: list[Event]) -> None:
        size = len(data)
        position = 0
        straight_paths = self._receiver.straight_paths
        if self.state is ConnectionState.AWAITING_START and data and not recognise(data):
            self._buffer.keep(data, size + 1)
            return
        while size - position >= FRAME_OVERHEAD:
            straight = straight_paths.get(data[position + 7 : position + 11])
            if straight is not None and self.state is ConnectionState.OPEN:
                before = position
                position = straight(data, position, self._payload_max, events)
                if position != before:
                    continue
            kind, number, end = frame_at(data, position, self._payload_max)
            if end >= size:
                self._buffer.keep(data[position:], end + 1 - position)
                return
            self._dispatch(kind, number, data, position + 7, end, events)
            if self.state is ConnectionState.CLOSED:
                return
            position = end + 1
        self._buffer.keep(data[position:], FRAME_OVERHEAD)

    def _dispatch(self, kind: int, number: int, data: bytes, start: int, end: int, events: list[Event]) -> None:
        if kind == HEARTBEAT:
            if number or start != end:
                raise PeerProtocolError(501, "a heartbeat must be empty and on channel 0")
        elif number == 0:
            if kind != METHOD:
                raise PeerProtocolError(503, "content on channel 0")
            self._connection_method(data, start, end, events)
        elif self._take(ConnectionStep.USE) is ConnectionState.OPEN:
            self._receiver.frame(kind, number, data, start, end, events)

    def _take(self, step: ConnectionStep) -> ConnectionState:
        self.state = connection_after(self.state, step)
        return self.state

    def give_up(self, error: PeerProtocolError) -> None:
        """Close the connection over what the peer did, and tell it why; a no-op when closed."""
        if self.state is ConnectionState.CLOSED:
            return
        if self.state not in (ConnectionState.AWAITING_START, ConnectionState.CLOSING):
            self._send_close(error.code, error.text[:60])
        self._channels.forget()
        self.state = ConnectionState.CLOSED

    # -- the connection's own methods ----------------------------------------------------------

    def close(self, code: int = 200, text: str = "bye") -> None:
        """Say goodbye; everything but the answer is discarded from now on.

        Before the broker's first word there is nobody to say it to: the connection is just closed.
        """
        if self.state in (ConnectionState.IDLE, ConnectionState.AWAITING_START):
            self.state = ConnectionState.CLOSED
            return
        self._take(ConnectionStep.WE_CLOSE)
        self._channels.forget()
        self._send_close(code, text)

    @property
    def awaiting(self) -> bool:
        """Whether the broker owes an answer to a request."""
        return any(channel.expecting for channel in self._channels)

    def abandon(self) -> tuple[object, ...]:
        """Give up all requests; return the tokens of those that got no reply, by channel, oldest first."""
        return tuple(token for channel in self._channels for token in channel.abandon())

    def heartbeat(self) -> None:
        """Send a heartbeat."""
        self.sender.append(_HEARTBEAT)

    def _send(self, number: int, payload: bytes) -> None:
        if len(payload) > self._payload_max:
            raise ValueError(
                f"a method of {len(payload)} bytes doesn't fit a frame of {self.limits.frame_max} bytes, on which the "
                "broker and this side have agreed (frame_max): use smaller arguments"
            )
        self.sender.append(frame(METHOD, number, payload))

    def _send_close(self, code: int, text: str) -> None:
        self._send(0, encode_method(spec.Connection.Close, "BsBB", code, text, 0, 0))

    def _connection_method(self, data: bytes, start: int, end: int, events: list[Event]) -> None:
        name, arguments = read_method(data, start, end)
        if name == "connection.start":
            self._take(ConnectionStep.START)
            self.server_properties = arguments[2]
            self._send(0, self._handshake.on_start(*arguments))
        elif name == "connection.secure":
            if self._take(ConnectionStep.SECURE) is not ConnectionState.CLOSING:
                self._send(0, self._handshake.on_secure())
        elif name == "connection.tune":
            if self._take(ConnectionStep.TUNE) is not ConnectionState.CLOSING:
                self._on_tune(Limits(*arguments))
        elif name == "connection.open-ok":
            if self._take(ConnectionStep.OPENED) is not ConnectionState.CLOSING:
                events.append(ConnectionOpened(self.server_properties, self.limits))
        elif name == "connection.close":
            code, text, class_id, method = arguments
            self._take(ConnectionStep.CLOSE)
            self._channels.forget()
            self._send(0, encode_method(spec.Connection.CloseOk))
            replies = REPLIES.get((class_id, method))
            blamed = tuple(token for channel in self._channels for token in channel.asking(replies))
            events.append(ConnectionClosedByPeer(code, text, (class_id, method), blamed))
        elif name == "connection.close-ok":
            self._take(ConnectionStep.CLOSED)
            events.append(ConnectionClosed())
        elif name in ("connection.blocked", "connection.unblocked"):
            if self._take(ConnectionStep.BLOCKING) is not ConnectionState.CLOSING:
                events.append(ConnectionBlocked(*arguments) if arguments else ConnectionUnblocked())
        else:
            raise PeerProtocolError(503, f"{name} on channel 0")

    def _on_tune(self, offered: Limits) -> None:
        self.limits = agree(offered, self.limits)
        self._payload_max = (self.limits.frame_max or 2**32) - FRAME_OVERHEAD
        for reply in self._handshake.on_tune(self.limits):
            self._send(0, reply)

    # -- channels ------------------------------------------------------------------------------

    def open_channel(self, token: object, *, kept: bool = False) -> int:
        """Ask for a channel with the lowest free number; ``ChannelOpened`` will carry ``token``.

        The highest number is kept for who asks for the ``kept`` one.

        Raises:
            ChannelLimitExceeded: no number is free.
        """
        self._take(ConnectionStep.WE_USE)
        channel = self._channels.allocate(self.limits.channel_max, kept)
        channel.take(ChannelStep.WE_OPEN)
        channel.expecting.append((("channel.open-ok",), token))
        self._send(channel.number, encode_method(spec.Channel.Open, "s", ""))
        return channel.number

    def close_channel(self, number: int, code: int = 200, text: str = "") -> tuple[object, ...]:
        """Close a channel; return the tokens of requests that will get no reply any more."""
        self._take(ConnectionStep.WE_USE)
        channel = self._channels.ours(number)
        channel.take(ChannelStep.WE_CLOSE)
        self._send(number, encode_method(spec.Channel.Close, "BsBB", code, text, 0, 0))
        return channel.abandon()

    def request(self, number: int, request: Request, token: object) -> None:
        """Send a synchronous method; its ``Replied`` or ``Got`` will carry ``token``.

        Raises:
            ValueError: the arguments don't fit into a frame.
        """
        self._take(ConnectionStep.WE_USE)
        channel = self._channels.ours(number)
        channel.take(ChannelStep.WE_USE)
        self._send(number, request.payload)
        channel.expecting.append((request.replies, token))

    def tell(self, number: int, request: Request) -> None:
        """Send a method whose ``nowait`` bit is set: the broker doesn't answer it, unless by ending the channel."""
        self._channels.ours(number).take(ChannelStep.WE_USE)
        self._send(number, request.payload)

    def check(self, prepared: Prepared) -> None:
        """Raise ``ValueError`` for a message whose properties don't fit into a frame of this connection."""
        size = len(prepared.header)
        if size > self._payload_max:
            raise ValueError(
                f"properties and headers of {size} bytes don't fit a frame of {self.limits.frame_max} bytes, on which "
                "the broker and this side have agreed (frame_max): put what is large into the body"
            )

    def publish(self, number: int, prepared: Prepared) -> None:
        """Send a message.

        Raises:
            ValueError: it fails ``check``; nothing is sent.
        """
        channel = self._channels.ours(number)
        if channel.state is not ChannelState.OPEN:
            channel.take(ChannelStep.WE_USE)
        if len(prepared.header) > self._payload_max:
            self.check(prepared)
        self.sender.extend(publish_frames(channel, prepared, self._payload_max))

    def publish_alone(self, number: int, prepared: Prepared) -> Lone:
        """As ``publish``, for a thread that sends it past what waits; safe beside ``receive`` in another thread."""
        if len(prepared.header) > self._payload_max:
            self.check(prepared)
        return Lone(b"".join(publish_frames(self._channels.ours(number), prepared, self._payload_max)))

    def ack_alone(self, number: int, tag: int, multiple: bool) -> Lone:
        """As ``ack``, for a thread that sends it past what waits."""
        return Lone(_ACK.pack(METHOD, number, 13, _BASIC_ACK, tag, multiple, END))

    def ack(self, number: int, tag: int, multiple: bool = False) -> None:
        """Acknowledge one delivery, or all up to it."""
        self._settle(number, _BASIC_ACK, tag, multiple)

    def ack_up_to(self, number: int, tag: int, former: bytes) -> bytes:
        """Acknowledge all deliveries up to one.  ``former``, returned for some of them, need not leave any more."""
        frame = self._settlement(number, _BASIC_ACK, tag, True)
        self.sender.supersede(former, frame)
        return frame

    def nack(self, number: int, tag: int, multiple: bool = False, requeue: bool = True) -> None:
        """Refuse one delivery, or all up to it."""
        self._settle(number, _BASIC_NACK, tag, multiple | requeue << 1)

    def reject(self, number: int, tag: int, requeue: bool = False) -> None:
        """Refuse one delivery."""
        self._settle(number, _BASIC_REJECT, tag, requeue)

    def _settle(self, number: int, method: int, tag: int, bits: int) -> None:
        self.sender.append(self._settlement(number, method, tag, bits))

    def _settlement(self, number: int, method: int, tag: int, bits: int) -> bytes:
        channel = self._channels.ours(number)
        if channel.state is not ChannelState.OPEN:
            channel.take(ChannelStep.WE_USE)
        return _ACK.pack(METHOD, number, 13, method, tag, bits, END)
