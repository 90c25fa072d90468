"""Records between a parent and a worker: four bytes of length, then JSON.  Pure.

JSON, for what is said is JSON-able as it is (views, events, certificates), once a second, and needs no library.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

HEAD = struct.Struct("!I")
FRAME_MAX = 64 * 1024 * 1024
"""Bytes: the view of a worker with 100,000 actors has some 50 MB."""


class BadFrame(ValueError):
    """What came is no record."""


def encode(record: Mapping[str, object]) -> bytes:
    """One record; raises ``BadFrame`` when it is too long."""
    body = json.dumps(record, separators=(",", ":")).encode()
    if len(body) > FRAME_MAX:
        raise BadFrame(f"a record of {len(body)} bytes; the most is {FRAME_MAX}")
    return HEAD.pack(len(body)) + body


class Decoder:
    """Takes bytes as they come, and gives records."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[dict[str, object]]:
        """The records that are whole with these bytes; raises ``BadFrame``."""
        self._bytes += data
        records = []
        while len(self._bytes) >= HEAD.size:
            (length,) = HEAD.unpack_from(self._bytes)
            if length > FRAME_MAX:
                raise BadFrame(f"a record of {length} bytes; the most is {FRAME_MAX}")
            if len(self._bytes) < HEAD.size + length:
                break
            body = bytes(self._bytes[HEAD.size : HEAD.size + length])
            del self._bytes[: HEAD.size + length]
            try:
                record = json.loads(body)
            except ValueError as error:
                raise BadFrame(f"a record that is no JSON: {error}") from error
            if not isinstance(record, dict):
                raise BadFrame("a record that is no object")
            records.append(record)
        return records
