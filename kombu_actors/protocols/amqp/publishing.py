"""Encoding of a publish, apart from channel number and framing.

A ``Prepared`` message is immutable and belongs to no connection: after a reconnect the same object
is sent again.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

from amqp import spec
from amqp.serialization import dumps

from ..._frozen import Record
from ..._values.model import BODY_MAX
from .._content import refuse_size, validate_content
from .channels import Channel
from .frames import BODY, END, HEADER, METHOD, frame
from .methods import method_id
from .properties import PROPERTIES, decode_properties, encode_properties

__all__ = ["Preparer", "Prepared", "content_of", "publish_frames"]

CACHE_SIZE: Final = 1024
"""Entries per cache: more routes than a program has, and below 1 MiB of short strings each."""

_PUBLISH: Final = struct.pack(">I", method_id(spec.Basic.Publish))
_CONTENT_HEAD: Final = struct.Struct(">HHQ")
_KNOWN: Final = frozenset(name for name, _ in PROPERTIES)
_new = tuple.__new__
_SIZE: Final = struct.Struct(">I")
_MIDDLE: Final = struct.Struct(">BBHI")
_END: Final = bytes([END])


class Prepared(Record):
    """One message, validated and encoded: the payloads of its method, header and body frames."""

    method: bytes
    header: bytes
    body: bytes


def content_of(prepared: Prepared) -> tuple[dict[str, object], bytes]:
    """Properties, as a receiver would see them, and body of a prepared message."""
    return decode_properties(prepared.header[_CONTENT_HEAD.size :]), prepared.body


class Preparer:
    """Validates and encodes messages; its caches may be used from any thread.

    Equal routes and equal properties without headers are encoded once.
    """

    def __init__(self, *, frame_max: int = 131072, body_max: int = BODY_MAX) -> None:
        self.frame_max = frame_max
        self.body_max = body_max
        self._methods: dict[tuple[str, str, bool], bytes] = {}
        self._properties: dict[tuple[object, ...], bytes] = {}

    def prepare(
        self,
        body: bytes,
        *,
        exchange: str,
        routing_key: str,
        properties: Mapping[str, object],
        mandatory: bool = False,
    ) -> Prepared:
        """Validate and encode one message.

        Raises:
            ValueError: an argument breaks a rule of ``protocols._content``, or the body is too large.
            TypeError: the body is not bytes.
        """
        if type(body) is not bytes:
            if not isinstance(body, (bytes, bytearray, memoryview)):
                raise TypeError(f"body must be bytes, not {type(body).__name__}; serialize it first")
            body = bytes(body)
        if len(body) > self.body_max:
            refuse_size(len(body), self.body_max)
        method = self._methods.get((exchange, routing_key, mandatory))
        if method is None:
            method = self._encode_method(exchange, routing_key, mandatory)
        key, flat = self._key(properties)
        encoded = self._properties.get(key) if flat else None
        if encoded is None:
            encoded = self._encode_properties(exchange, routing_key, properties, key if flat else None)
        return _new(Prepared, (method, _CONTENT_HEAD.pack(60, 0, len(body)) + encoded, body))

    def _key(self, properties: Mapping[str, object]) -> tuple[tuple[object, ...], bool]:
        # Types are part of the key: True == 1 == 1.0, but only one of them is a priority.
        headers = properties.get("headers")
        if headers:
            return (), False
        scalars = dict(properties)
        scalars.pop("headers", None)
        key = (headers is None, *scalars.items(), *map(type, scalars.values()))
        try:
            hash(key)
        except TypeError:
            return (), False
        return key, True

    def _encode_method(self, exchange: str, routing_key: str, mandatory: bool) -> bytes:
        validate_content(exchange, routing_key, {}, frame_max=self.frame_max)
        method: bytes = _PUBLISH + dumps("Bssbb", (0, exchange, routing_key, mandatory, False))
        if len(self._methods) >= CACHE_SIZE:
            self._methods.clear()
        self._methods[exchange, routing_key, bool(mandatory)] = method
        return method

    def _encode_properties(
        self,
        exchange: str,
        routing_key: str,
        properties: Mapping[str, object],
        key: tuple[object, ...] | None,
    ) -> bytes:
        checked = validate_content(exchange, routing_key, properties, frame_max=self.frame_max)
        encoded = encode_properties(checked)
        if key is not None and _KNOWN.issuperset(properties):
            if len(self._properties) >= CACHE_SIZE:
                self._properties.clear()
            self._properties[key] = encoded
        return encoded


def publish_frames(channel: Channel, prepared: Prepared, payload_max: int) -> Sequence[bytes]:
    """The frames of one publish over a channel, in pieces; their payloads have ``payload_max`` bytes at most.

    The caller has seen to it that the header fits.
    """
    method, header, body = prepared
    size = len(body)
    head = channel.publish_heads.get(method) or _publish_head(channel, method)
    if 0 < size <= payload_max:
        middle = _MIDDLE.pack(END, BODY, channel.number, size)
        return head, _SIZE.pack(len(header)), header, middle, body, _END
    pieces = [frame(BODY, channel.number, body[start : start + payload_max]) for start in range(0, size, payload_max)]
    return head, _SIZE.pack(len(header)), header, _END, *pieces


def _publish_head(channel: Channel, method: bytes) -> bytes:
    # The whole method frame and the header frame up to its size: the same for each message of a route.
    if len(channel.publish_heads) >= CACHE_SIZE:
        channel.publish_heads.clear()
    head = frame(METHOD, channel.number, method) + struct.pack(">BH", HEADER, channel.number)
    channel.publish_heads[method] = head
    return head
