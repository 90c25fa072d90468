"""Message properties between dicts and content headers, cached both ways.

Spec: AMQP 0-9-1, 4.2.6.1 (content header) and the properties of class basic.  py-amqp calls the
header table ``application_headers``; here it is ``headers``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

from .errors import PeerProtocolError
from .fields import read_short_string, read_table
from .tables import OCTETS, encode_table

__all__ = ["PROPERTIES", "UndecodableProperties", "decode_properties", "encode_properties"]

PROPERTIES: Final = (
    ("content_type", "s"),
    ("content_encoding", "s"),
    ("headers", "F"),
    ("delivery_mode", "o"),
    ("priority", "o"),
    ("correlation_id", "s"),
    ("reply_to", "s"),
    ("expiration", "s"),
    ("message_id", "s"),
    ("timestamp", "L"),
    ("type", "s"),
    ("user_id", "s"),
    ("app_id", "s"),
    ("cluster_id", "s"),
)
"""Names and types in wire order; the first has the highest flag bit."""

_FLAGS: Final = struct.Struct(">H")
_STAMP: Final = struct.Struct(">Q")
_BITS: Final = tuple((name, kind, 1 << (15 - index)) for index, (name, kind) in enumerate(PROPERTIES))
_UNDEFINED: Final = 0b11
"""The two lowest bits: one beyond basic's fourteen properties, and 'another flag word follows'."""


class UndecodableProperties(dict[str, object]):
    """Stands, empty, for properties that could not be decoded; ``reason`` says why.

    The frames around them were sound, so the message can still be rejected.  Ending the connection
    instead would repeat for ever: the broker would deliver the same message to the next one.
    """

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


def decode_properties(raw: bytes) -> dict[str, object]:
    """Decode the flags and the property list of a content header.

    Raises:
        PeerProtocolError: a length, a flag or a field type is wrong, or tables nest too deep.
    """
    end = len(raw)
    if end < 2:
        raise PeerProtocolError(502, "a content header without property flags")
    flags = _FLAGS.unpack_from(raw)[0]
    if flags & _UNDEFINED:
        raise PeerProtocolError(502, f"property flags {flags:#06x} name properties that class basic doesn't have")
    position = 2
    properties: dict[str, object] = {}
    for name, kind, bit in _BITS:
        if not flags & bit:
            continue
        if kind == "s":
            properties[name], position = read_short_string(raw, position, end)
        elif kind == "F":
            properties[name], position = read_table(raw, position, end)
        else:
            size = 1 if kind == "o" else 8
            if position + size > end:
                raise PeerProtocolError(502, f"the content header ends within {name}")
            properties[name] = raw[position] if kind == "o" else _STAMP.unpack_from(raw, position)[0]
            position += size
    if position != end:
        raise PeerProtocolError(502, f"{end - position} bytes too many in a content header")
    return properties


def encode_properties(properties: Mapping[str, Any]) -> bytes:
    """Encode validated properties, byte for byte as py-amqp's ``GenericContent`` does.

    Absent and ``None`` leave a property out; an empty ``headers`` is sent as an empty table.
    """
    flags = 0
    parts = [b""]
    for name, kind, bit in _BITS:
        value = properties.get(name)
        if value is None:
            continue
        flags |= bit
        if kind == "s":
            raw = value.encode()
            parts.append(OCTETS[len(raw)] + raw)
        elif kind == "F":
            parts.append(encode_table(value))
        else:
            parts.append(OCTETS[value] if kind == "o" else _STAMP.pack(value))
    parts[0] = _FLAGS.pack(flags)
    return b"".join(parts)
