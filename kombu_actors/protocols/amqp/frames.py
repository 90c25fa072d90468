"""Frames: the seven bytes before a payload and the one after it.  Spec: AMQP 0-9-1, 4.2.3."""

from __future__ import annotations

import struct
from typing import Final

from .errors import NotAMQP, PeerProtocolError

__all__ = ["BODY", "END", "FRAME_OVERHEAD", "GREETING", "HEADER", "HEARTBEAT", "METHOD", "FrameBuffer", "frame"]

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
HEARTBEAT: Final = 8
END: Final = 0xCE
FRAME_OVERHEAD: Final = 8
GREETING: Final = b"AMQP\x00\x00\x09\x01"
"""The protocol header: what we send first, and what a broker of another version answers with."""

_HEAD: Final = struct.Struct(">BHI")
_KINDS: Final = frozenset({METHOD, HEADER, BODY, HEARTBEAT})
_END: Final = bytes([END])


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """Encode one frame."""
    return _HEAD.pack(kind, channel, len(payload)) + payload + _END


class FrameBuffer:
    """Keeps what has been received and not yet parsed: never more than one frame's worth.

    Pieces are joined only once a whole frame is there, so bytes that drip in cost linear time.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._held = 0
        self._needed = 0

    def add(self, data: bytes) -> bytes:
        """Take new bytes; return all bytes to parse, or nothing while a frame is incomplete."""
        if not self._pieces:
            return data
        self._pieces.append(data)
        self._held += len(data)
        if self._held < self._needed:
            return b""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data

    def keep(self, rest: bytes, needed: int) -> None:
        """Keep the beginning of a frame that takes ``needed`` bytes, as far as is known."""
        if rest:
            self._pieces.append(rest)
            self._held, self._needed = len(rest), needed

    @property
    def kept(self) -> bytes:
        """What is waiting for the rest of its frame."""
        return b"".join(self._pieces)


def frame_at(data: bytes, position: int, payload_max: int) -> tuple[int, int, int]:
    """Return kind, channel and payload end of the frame at ``position``; the end may lie beyond ``data``.

    Needs seven bytes.  Judges the size before anybody waits for that many bytes.

    Raises:
        PeerProtocolError: unknown kind, too large, or no end octet where the size says it is.
    """
    kind, channel, size = _HEAD.unpack_from(data, position)
    if kind not in _KINDS:
        raise PeerProtocolError(501, f"unknown frame type {kind}")
    if size > payload_max:
        raise PeerProtocolError(501, f"a frame of {size} bytes, where {payload_max} is the most that was agreed on")
    end = position + 7 + size
    if end < len(data) and data[end] != END:
        raise PeerProtocolError(501, f"a frame ends with {data[end]:#04x} instead of {END:#04x}")
    return kind, channel, end


def recognise(data: bytes, *, whole: bool = False) -> bool:
    """Judge a peer's first bytes: True if they may be AMQP 0-9-1's, False while too few to tell.

    With ``whole`` nothing more will come.

    Raises:
        NotAMQP: they are something else; says what.
    """
    if data[:1] == b"\x01":
        return True
    if data[:2] == b"\x15\x03":
        raise NotAMQP("the port speaks TLS and refused plain AMQP: use amqps:// (ssl=True), or the broker's plain port")
    if len(data) < 8 and not whole:
        return False
    if data[:4] == b"AMQP":
        versions = ".".join(str(byte) for byte in data[4:8])
        raise NotAMQP(f"the peer answered with the protocol header AMQP {versions}: it doesn't accept AMQP 0-9-1")
    text = data[:40].split(b"\r")[0].split(b"\n")[0]
    if text.startswith(b"HTTP/"):
        raise NotAMQP(f"the peer answered in HTTP ({text.decode('latin-1')!r}): is this the management port?")
    raise NotAMQP(f"the peer's first bytes are {text!r}: this is not an AMQP broker")
