"""What comes over channels: methods, content, and the answers they ask for."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final

from amqp import spec

from .channels import Channel, ChannelTable
from .content import ContentAssembler
from .deliveries import DeliveryScanner
from .errors import PeerProtocolError
from .events import (
    ChannelClosed,
    ChannelClosedByPeer,
    ChannelOpened,
    Confirmed,
    ConsumerCancelled,
    Event,
    FlowChanged,
    Replied,
)
from .fields import Arguments, read_arguments
from .frames import END, HEADER, METHOD
from .methods import INCOMING, Incoming, encode_method, method_id
from .states import ChannelState, ChannelStep

__all__ = ["ChannelReceiver", "read_method"]

_ID: Final = struct.Struct(">I")
_ACK: Final = struct.Struct(">BHIIQBB")
_new: Final = tuple.__new__


def _identify(data: bytes, start: int, end: int) -> Incoming:
    if end - start < _ID.size:
        raise PeerProtocolError(502, "a method frame without class and method")
    number = _ID.unpack_from(data, start)[0]
    incoming = INCOMING.get(number)
    if incoming is None:
        raise PeerProtocolError(503, f"unknown method {number >> 16}.{number & 0xFFFF}")
    return incoming


def read_method(data: bytes, start: int, end: int) -> tuple[str, Arguments]:
    """Decode a method frame's payload into the method's name and arguments."""
    incoming = _identify(data, start, end)
    return incoming.name, read_arguments(incoming.layout, data, start + _ID.size, end)


class ChannelReceiver:
    """Judges and decodes each frame that belongs to a channel."""

    def __init__(self, channels: ChannelTable, body_max: int, send: Callable[[int, bytes], None]) -> None:
        self._channels = channels
        self._scanner = DeliveryScanner()
        self._content = ContentAssembler(self._scanner, body_max)
        self._send = send
        self.straight_paths: Final[Mapping[bytes, Callable[[bytes, int, int, list[Event]], int]]] = {
            _ID.pack(method_id(spec.Basic.Deliver)): self.deliveries,
            _ID.pack(method_id(spec.Basic.Ack)): self.confirms,
        }
        """By method: what takes whole frames straight from the buffer and leaves all doubtful ones."""
        self._methods: dict[str, Callable[[Channel, Arguments, list[Event]], None]] = {
            "channel.open-ok": self._on_opened,
            "channel.flow": self._on_flow,
            "channel.close": self._on_close,
            "channel.close-ok": self._on_closed,
            "basic.ack": self._on_ack,
            "basic.nack": self._on_nack,
            "basic.cancel": self._on_cancel,
        }

    def confirms(self, data: bytes, position: int, payload_max: int, events: list[Event]) -> int:
        """Take the basic.ack at ``position`` if it is whole and legal; return the position after it, or the same."""
        if len(data) - position < _ACK.size:
            return position
        kind, number, size, _, tag, multiple, closing = _ACK.unpack_from(data, position)
        channel = self._channels.by_number.get(number)
        if kind != METHOD or size != 13 or closing != END or channel is None or channel.content is not None:
            return position
        if channel.state is not ChannelState.OPEN:
            return position
        events.append(_new(Confirmed, (number, tag, multiple & 1 == 1, True)))
        return position + _ACK.size

    def deliveries(self, data: bytes, position: int, payload_max: int, events: list[Event]) -> int:
        """Take the whole deliveries that start at ``position``; return the position after them."""
        body_max = self._content.body_max
        return self._scanner.scan(data, position, payload_max, body_max, self._channels.by_number, events)

    def frame(self, kind: int, number: int, data: bytes, start: int, end: int, events: list[Event]) -> None:
        """Take one frame with its payload at ``data[start:end]``."""
        channel = self._channels.theirs(number)
        if channel is None:
            pass  # under way when the broker closed the channel
        elif kind == METHOD:
            self._method(channel, data, start, end, events)
        elif channel.state is ChannelState.CLOSING or channel.echoing:
            pass  # crossed a close on the wire
        elif kind == HEADER:
            self._content.header(channel, data[start:end], events)
        else:
            self._content.body(channel, data[start:end], events)

    def _method(self, channel: Channel, data: bytes, start: int, end: int, events: list[Event]) -> None:
        incoming = _identify(data, start, end)
        name = incoming.name
        handler = self._methods.get(name)
        if name.startswith("connection."):
            raise PeerProtocolError(503, f"{name} on channel {channel.number}")
        if channel.state is ChannelState.CLOSING and name not in ("channel.close", "channel.close-ok"):
            return  # crossed our close on the wire
        if channel.echoing and name not in ("channel.open-ok", "channel.close", "channel.close-ok"):
            return  # crossed the broker's close on the wire
        self._end_content(channel, name)
        arguments = read_arguments(incoming.layout, data, start + _ID.size, end)
        if handler is not None:
            handler(channel, arguments, events)
            return
        channel.take(ChannelStep.USE)
        if incoming.content:
            self._content.begin(channel, name, arguments)
        else:
            events.append(Replied(channel.number, channel.settle(name), name, arguments))

    @staticmethod
    def _end_content(channel: Channel, by: str) -> None:
        # A sender may give up a message by sending a method (spec 4.2.6); only a reply can't be given up.
        if channel.content is not None and channel.content.method == "basic.get-ok" and by != "channel.close":
            raise PeerProtocolError(505, f"{by} on channel {channel.number} inside the message of basic.get-ok")
        channel.content = None

    def _on_opened(self, channel: Channel, arguments: Arguments, events: list[Event]) -> None:
        channel.take(ChannelStep.OPENED)
        self._channels.opened(channel)
        events.append(ChannelOpened(channel.number, channel.settle("channel.open-ok")))

    def _on_flow(self, channel: Channel, arguments: Arguments, events: list[Event]) -> None:
        channel.take(ChannelStep.USE)
        (active,) = arguments
        self._send(channel.number, encode_method(spec.Channel.FlowOk, "b", active))
        events.append(FlowChanged(channel.number, active))

    def _on_close(self, channel: Channel, arguments: Arguments, events: list[Event]) -> None:
        code, text, class_id, method = arguments
        state = channel.take(ChannelStep.CLOSE)
        self._send(channel.number, encode_method(spec.Channel.CloseOk))
        if state is ChannelState.FREE:
            self._channels.closed_by_peer(channel)
            events.append(ChannelClosedByPeer(channel.number, code, text, (class_id, method), channel.abandon()))

    def _on_closed(self, channel: Channel, arguments: Arguments, events: list[Event]) -> None:
        channel.take(ChannelStep.CLOSED)
        self._channels.release(channel)
        events.append(ChannelClosed(channel.number))

    def _on_ack(self, channel: Channel, arguments: Arguments, events: list[Event]) -> None:
        tag, multiple = arguments
        self._confirm(channel, tag, multiple, True, events)

    def _on_nack(self, channel: Channel, arguments: Arguments, events: list[Event]) -> None:
        tag, multiple, _ = arguments
        self._confirm(channel, tag, multiple, False, events)

    def _confirm(self, channel: Channel, tag: int, multiple: bool, accepted: bool, events: list[Event]) -> None:
        channel.take(ChannelStep.USE)
        events.append(Confirmed(channel.number, tag, multiple, accepted))

    def _on_cancel(self, channel: Channel, arguments: Arguments, events: list[Event]) -> None:
        tag, nowait = arguments
        channel.take(ChannelStep.USE)
        if not nowait:
            raw = tag.encode("utf-8", "surrogateescape")
            self._send(channel.number, encode_method(spec.Basic.CancelOk, "s", raw))
        events.append(ConsumerCancelled(channel.number, tag))
