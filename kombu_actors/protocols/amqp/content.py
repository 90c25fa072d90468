"""Assembly of messages that come frame by frame.  Spec: AMQP 0-9-1, 4.2.6.

The sizes are judged at the header: of a body that is too large nothing is kept, and the channel goes on.
"""

from __future__ import annotations

import struct
from typing import Final

from ..._values.model import Delivery, Returned
from .channels import Channel, Content
from .deliveries import DeliveryScanner
from .errors import PeerProtocolError
from .events import Event, Got, MessageReturned, Oversized
from .fields import Arguments

__all__ = ["ContentAssembler"]

_HEAD: Final = struct.Struct(">HHQ")


class ContentAssembler:
    """Turns method, header and body frames into events, on behalf of all channels."""

    def __init__(self, scanner: DeliveryScanner, body_max: int) -> None:
        self.scanner = scanner
        self.body_max = body_max

    def begin(self, channel: Channel, method: str, arguments: Arguments) -> None:
        """Take a method that carries content."""
        if method == "basic.get-ok" and channel.answered(method) is None:
            raise PeerProtocolError(503, f"basic.get-ok on channel {channel.number}, where nothing was asked for")
        channel.content = Content(method, arguments)

    def header(self, channel: Channel, payload: bytes, events: list[Event]) -> None:
        """Take a content header."""
        content = channel.content
        if content is None or content.properties is not None:
            raise PeerProtocolError(505, f"a content header on channel {channel.number}, where a method is due")
        if len(payload) < _HEAD.size:
            raise PeerProtocolError(502, "a content header shorter than its fixed part")
        class_id, _, size = _HEAD.unpack_from(payload)
        if class_id != 60:
            raise PeerProtocolError(501, f"a content header of class {class_id} for {content.method}")
        content.properties = self.scanner.properties(payload[_HEAD.size :])
        content.missing = size
        if size > self.body_max:
            content.discarded = True
            token = channel.settle(content.method) if content.method == "basic.get-ok" else None
            events.append(Oversized(channel.number, token, content.method, content.arguments, size))
        elif not size:
            self._finish(channel, content, events)

    def body(self, channel: Channel, payload: bytes, events: list[Event]) -> None:
        """Take a piece of a body."""
        content = channel.content
        if content is None or content.properties is None:
            raise PeerProtocolError(505, f"a content body on channel {channel.number}, where none is due")
        content.missing -= len(payload)
        if content.missing < 0:
            raise PeerProtocolError(501, f"a body on channel {channel.number} is longer than its header said")
        if content.discarded:
            if not content.missing:
                channel.content = None
            return
        if payload:
            content.pieces.append(payload)
        if not content.missing:
            self._finish(channel, content, events)

    def _finish(self, channel: Channel, content: Content, events: list[Event]) -> None:
        channel.content = None
        body = b"".join(content.pieces)
        properties = content.properties if content.properties is not None else {}
        if content.method == "basic.deliver":
            tag, delivery_tag, redelivered, exchange, routing_key = content.arguments
            delivery = Delivery(tag, delivery_tag, redelivered, exchange, routing_key, properties, body)
            self.scanner.add(channel.number, delivery, events)
        elif content.method == "basic.get-ok":
            delivery_tag, redelivered, exchange, routing_key, remaining = content.arguments
            delivery = Delivery("", delivery_tag, redelivered, exchange, routing_key, properties, body)
            events.append(Got(channel.number, channel.settle(content.method), delivery, remaining))
        else:
            code, text, exchange, routing_key = content.arguments
            returned = Returned(code, text, exchange, routing_key, properties, body)
            events.append(MessageReturned(channel.number, returned))
