"""The hot path: whole deliveries, parsed straight from the buffer.

A delivery is three frames: basic.deliver, content header, one body frame.  When all three lie in
the buffer they are taken in one go by precompiled structs; whatever is incomplete, unusual or
wrong is left to the engine's frame-by-frame path, which also finds the words for what is wrong.
Routes, tags and properties repeat from message to message, so their decoded form is kept by
their bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from amqp import spec

from ..._values.model import Delivery
from .channels import Channel
from .errors import PeerProtocolError
from .events import Event, MessageDelivered
from .fields import read_short_string
from .methods import method_id
from .properties import UndecodableProperties, decode_properties
from .states import ChannelState

__all__ = ["DeliveryScanner"]

CACHE_SIZE: Final = 1024
"""Entries per cache.  A full cache is emptied: what never repeats then costs no more than without it."""
CACHED_PROPERTIES_MAX: Final = 512
"""Bytes of properties worth remembering; bounds that cache to some megabytes."""

_DELIVER: Final = method_id(spec.Basic.Deliver)
# End octet of the method frame, then the content header's frame head, class, weight and body size.
_HEADER: Final = struct.Struct(">BBHIHHQ").unpack_from
# End octet of the header frame, then the body's frame head.
_BODY: Final = struct.Struct(">BBHI").unpack_from
_OPEN: Final = ChannelState.OPEN
_new: Final = tuple.__new__


class _Heads(dict[int, Callable[..., tuple[Any, ...]]]):
    """By length of the consumer tag: frame head, method id, tag, delivery tag, redelivered."""

    def __missing__(self, length: int) -> Callable[..., tuple[Any, ...]]:
        head = self[length] = struct.Struct(f">BHII{length + 1}pQB").unpack_from
        return head


_HEADS: Final = _Heads()


class DeliveryScanner:
    """Parses runs of deliveries; owns the caches of what repeats in them."""

    def __init__(self) -> None:
        self._tags: dict[bytes, str] = {}
        self._routes: dict[bytes, tuple[str, str]] = {}
        self._properties: dict[bytes, dict[str, object]] = {}
        self._come_once: set[int] = set()
        """Hashes of properties, which are kept if they come again.  Those with an id never do: to keep a thousand of
        them would be three megabytes held, and new memory for each message."""

    def scan(
        self,
        data: bytes,
        position: int,
        payload_max: int,
        body_max: int,
        channels: Mapping[int, Channel],
        events: list[Event],
    ) -> int:
        """Take as many whole deliveries as start at ``position``; return the position after them."""
        routes, properties_cache, tags = self._routes, self._properties, self._tags
        current, current_tag = -1, b""
        name = ""
        batch: list[Delivery] | None = None
        began = position
        try:
            while True:
                kind, number, size, method, tag, delivery_tag, again = _HEADS[data[position + 11]](data, position)
                if method != _DELIVER or kind != 1 or size > payload_max:
                    return position
                if number != current or tag != current_tag:
                    channel = channels.get(number)
                    if channel is None or channel.state is not _OPEN or channel.content is not None:
                        return position
                    current, current_tag, batch = number, tag, None
                    name = tags.get(tag) or self._tag(tag)
                end = position + 7 + size
                route_bytes = data[position + 21 + len(tag) : end]
                closing, kind, number, size, class_id, _, body_size = _HEADER(data, end)
                if closing != 0xCE or kind != 2 or number != current or class_id != 60 or size > payload_max:
                    return position
                property_bytes = data[end + 20 : end + 8 + size]
                end += 8 + size
                if body_size:
                    closing, kind, number, size = _BODY(data, end)
                    if closing != 0xCE or kind != 3 or number != current or size != body_size or size > payload_max:
                        return position
                    start = end + 8
                    end = start + size
                    body = data[start:end]
                else:
                    body = b""
                if data[end] != 0xCE or body_size > body_max:
                    return position
                route = routes.get(route_bytes) or self.route(route_bytes)
                properties = properties_cache.get(property_bytes)
                if properties is None:
                    properties = self.properties(property_bytes)
                if batch is None:
                    if position == began:
                        batch = self._batch(current, name, events)
                    else:  # of somebody else than the one before
                        batch = []
                        events.append(_new(MessageDelivered, (current, name, batch)))
                batch.append(_new(Delivery, (name, delivery_tag, again & 1 == 1, route[0], route[1], properties, body)))
                position = end + 1
        except (IndexError, struct.error, PeerProtocolError):
            return position  # not wholly here, or wrong: the other path tells which

    def add(self, channel: int, delivery: Delivery, events: list[Event]) -> None:
        """Report one delivery that came frame by frame."""
        self._batch(channel, delivery.consumer_tag, events).append(delivery)

    @staticmethod
    def _batch(channel: int, tag: str, events: list[Event]) -> list[Delivery]:
        if events:
            last = events[-1]
            if type(last) is MessageDelivered and last.channel == channel and last.consumer_tag == tag:
                return last.deliveries
        batch: list[Delivery] = []
        events.append(MessageDelivered(channel, tag, batch))
        return batch

    def _tag(self, raw: bytes) -> str:
        if len(self._tags) >= CACHE_SIZE:
            self._tags.clear()
        tag = self._tags[raw] = raw.decode("utf-8", "surrogateescape")
        return tag

    def route(self, raw: bytes) -> tuple[str, str]:
        """Decode exchange and routing key, which must fill ``raw``."""
        exchange, position = read_short_string(raw, 0, len(raw))
        routing_key, position = read_short_string(raw, position, len(raw))
        if position != len(raw):
            raise PeerProtocolError(502, "bytes too many in the arguments of basic.deliver")
        if len(self._routes) >= CACHE_SIZE:
            self._routes.clear()
        route = self._routes[raw] = (exchange, routing_key)
        return route

    def properties(self, raw: bytes) -> dict[str, object]:
        """Decode properties; what can't be decoded becomes ``UndecodableProperties``."""
        try:
            properties = decode_properties(raw)
        except PeerProtocolError as error:
            return UndecodableProperties(error.text)
        if len(raw) <= CACHED_PROPERTIES_MAX:
            self._keep_if_repeated(raw, properties)
        return properties

    def _keep_if_repeated(self, raw: bytes, properties: dict[str, object]) -> None:
        fingerprint = hash(raw)
        if fingerprint in self._come_once:
            if len(self._properties) >= CACHE_SIZE:
                self._properties.clear()
            self._properties[raw] = properties
        else:
            if len(self._come_once) >= CACHE_SIZE:
                self._come_once.clear()
            self._come_once.add(fingerprint)
