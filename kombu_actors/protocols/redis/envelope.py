"""A message as it lies in Redis: kombu's JSON envelope, byte for byte as kombu 5.7 writes it.

``{"body": ..., "content-encoding": ..., "content-type": ..., "headers": {...}, "properties": {...}}``, where
``properties`` also say where the message was published (``delivery_info``) and how its body is
written (``body_encoding``).  The scripts put ``,"kombu_actors":[count,expires]`` in front of the last brace;
kombu keeps such a key when it restores a message, and otherwise ignores it.

Publishing and receiving run through here for every message: fragments that repeat are kept, the rest is
one call of the C encoder or scanner.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from functools import lru_cache
from json import JSONDecodeError
from typing import Any, Final

import attrs

from ...utils.json import dumps, loads

__all__ = ["BODY_ENCODINGS", "SUFFIX", "Envelope", "UndecodableEnvelope", "body_encoding_of", "decode", "encode"]

BODY_ENCODINGS: Final = ("base64", "utf-8", None)
"""``base64`` is kombu's default.  The others put text into the envelope as it is."""
SUFFIX: Final = "kombu_actors"
COUNT_HEADER: Final = "x-delivery-count"
_FRAGMENTS: Final = 1024
"""Fragments kept, each a few hundred bytes: enough for the content types and ways of a busy program."""
_NOT_OURS: Final = (0, 0)


class UndecodableEnvelope(ValueError):
    """What lies in the queue is no message of kombu's; says why, never what."""


@attrs.define
class Envelope:
    """One message, read."""

    body: bytes
    properties: dict[str, Any]
    """Under AMQP's names, ``headers`` included; kombu's own three (``delivery_info``, ``delivery_tag`` and
    ``body_encoding``) left out."""
    exchange: str
    routing_key: str
    redelivered: bool
    count: int
    """How often it was given back; known of messages that came by way of our scripts."""
    expires: int
    """Milliseconds since 1970 by the server's clock; 0 when it doesn't expire."""
    delivery_tag: str
    """kombu's id of the message, the same in all queues that got it; empty when its publisher gave none."""
    ours: bool
    """Whether our scripts put it there, not a stock publisher."""
    size: int = attrs.field(eq=False)
    """Bytes of its text."""


# writing


def encode(
    body: bytes | None,
    properties: Mapping[str, object],
    exchange: str,
    routing_key: str,
    tag: str,
    *,
    body_encoding: str | None = "base64",
) -> bytes:
    """Write an envelope as kombu does, without our suffix.

    ``properties`` are under AMQP's names with ``headers`` among them; kombu names a missing content type or
    encoding ``null`` and a missing priority 0.  Headers and properties may hold what
    ``utils.json`` knows.  Raises ``TypeError`` for a type that it doesn't.  Without a body (None) there are only
    its quotes, between which its text is to be put.
    """
    others = dict(properties)
    headers = others.pop("headers", None)
    priority = others.pop("priority", None) or 0
    content_encoding = others.pop("content_encoding", None)
    content_type = others.pop("content_type", None)
    return b"".join((
        b'{"body": ',
        b'""'
        if body is None
        else b'"%b"' % b2a_base64(body, newline=False)
        if body_encoding == "base64"
        else _text_body(body, content_encoding),
        _content(content_encoding, content_type),
        dumps(headers).encode() if headers else b"{}",
        b', "properties": ',
        b"%b, " % dumps(others).encode()[:-1] if others else b"{",
        _way(exchange, routing_key, priority, body_encoding)
        if type(priority) is int
        else _written_way(exchange, routing_key, priority, body_encoding),
        tag.encode(),
        b'"}}',
    ))  # fmt: skip


@lru_cache(_FRAGMENTS)
def _content(content_encoding: str | None, content_type: str | None) -> bytes:
    return b', "content-encoding": %b, "content-type": %b, "headers": ' % (
        dumps(content_encoding).encode(),
        dumps(content_type).encode(),
    )


def _written_way(exchange: str, routing_key: str, priority: object, body_encoding: str | None) -> bytes:
    info = dumps({"exchange": exchange, "routing_key": routing_key})
    return (
        f'"delivery_info": {info}, "priority": {dumps(priority)}, '
        f'"body_encoding": {dumps(body_encoding)}, "delivery_tag": "'
    ).encode()


_way: Final = lru_cache(_FRAGMENTS)(_written_way)


def _text_body(body: bytes, content_encoding: object) -> bytes:
    """A body as kombu writes it without base64: text as text, and what is not as its JSON writes bytes."""
    if content_encoding != "binary":
        try:
            return dumps(body.decode()).encode()
        except UnicodeDecodeError:
            pass
    return dumps(body).encode()


# reading


def decode(raw: bytes, *, queue: str = "", counted: bool = False) -> Envelope:
    """Read what was found in a queue, whoever put it there.

    A message that says neither exchange nor routing key was put directly into ``queue``.  ``counted`` asks
    for the ``x-delivery-count`` header of quorum queues on messages that were given back.

    Raises:
        UndecodableEnvelope: it is not JSON, or not what kombu would take for a message.
    """
    payload = _parse(raw)
    if type(payload) is not dict:
        raise UndecodableEnvelope(f"a message is a JSON object, not {_kind(payload)}")
    sent = payload.get("properties")
    if type(sent) is not dict:
        raise UndecodableEnvelope(f"its properties are {_kind(sent)}, not an object")
    body = _read_body(payload.get("body"), sent.pop("body_encoding", None))
    info = sent.pop("delivery_info", None)
    exchange, routing_key, redelivered = _delivery_info(info, queue)
    tag = sent.pop("delivery_tag", None)
    headers = payload.get("headers")
    if headers is None:
        headers = {}
    elif type(headers) is not dict:
        raise UndecodableEnvelope(f"its headers are {_kind(headers)}, not an object")
    count, expires = _NOT_OURS
    ours = False
    suffix = payload.get(SUFFIX)
    if suffix is not None:
        ours, count, expires = _read_suffix(suffix)
        if counted and count:
            headers[COUNT_HEADER] = count
    sent["content_type"] = payload.get("content-type")
    sent["content_encoding"] = payload.get("content-encoding")
    sent["headers"] = headers
    return Envelope(
        body,
        {name: value for name, value in sent.items() if value is not None} if None in sent.values() else sent,
        exchange,
        routing_key,
        redelivered or count > 0 or payload.get("redelivered") is True or headers.get("redelivered") is True,
        count,
        expires,
        tag if type(tag) is str else "",
        ours,
        len(raw),
    )


def body_encoding_of(raw: bytes) -> str | None:
    """How the body of an envelope that ``decode`` takes is written."""
    payload = _parse(raw)
    assert isinstance(payload, dict)
    encoding: str | None = payload["properties"].get("body_encoding")
    return encoding


def _parse(raw: bytes) -> object:
    """Read the JSON; a body in base64 is cut out before and stays bytes, for it needs no reading as JSON."""
    if raw.startswith(_START):
        start = len(_START)
        end = raw.find(b'"', start)
        if raw.startswith(_NEXT, end) and raw.find(b"\\", start, end) < 0:
            payload = _loads(b"{%b" % raw[end + len(_NEXT) :])
            if type(payload) is dict and "body" not in payload:
                properties = payload.get("properties")
                if type(properties) is dict and properties.get("body_encoding") == "base64":
                    payload["body"] = raw[start:end]
                    return payload
    return _loads(raw)


_START: Final = b'{"body": "'
_NEXT: Final = b'", '


def _loads(text: bytes) -> object:
    try:
        return loads(text)
    except JSONDecodeError as error:
        raise UndecodableEnvelope(f"not JSON: {error.msg} at character {error.pos}") from None
    except MemoryError:
        raise
    except Exception as error:  # an application's registered types may raise anything
        raise UndecodableEnvelope(f"not JSON as kombu writes it: {type(error).__name__}") from None


def _delivery_info(info: object, queue: str) -> tuple[str, str, bool]:
    if info is None:
        return "", queue, False
    if type(info) is not dict:
        raise UndecodableEnvelope(f"its delivery_info is {_kind(info)}, not an object")
    exchange = info.get("exchange")
    routing_key = info.get("routing_key")
    for name, value in (("exchange", exchange), ("routing_key", routing_key)):
        if value and not _is_sound_text(value):
            raise UndecodableEnvelope(f"its {name} is {_kind(value)} that can't be one")
    return exchange or "", routing_key or ("" if exchange else queue), info.get("redelivered") is True


def _is_sound_text(value: object) -> bool:
    if type(value) is not str:
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which could never be sent on
        return False
    return True


def _read_body(written: object, encoding: object) -> bytes:
    if written is None:
        return b""
    if encoding == "base64" and isinstance(written, (str, bytes)):
        try:
            return a2b_base64(written, strict_mode=True)
        except ValueError:
            return _from_loose_base64(written)
    if not encoding or (isinstance(encoding, str) and encoding.lower() == "utf-8"):
        return _from_text(written)
    raise UndecodableEnvelope("its body_encoding is not one that kombu knows, or doesn't fit its body")


def _from_loose_base64(written: str | bytes) -> bytes:
    """Other languages break base64 into lines."""
    try:
        letters = written if isinstance(written, bytes) else written.encode()
        return a2b_base64(b"".join(letters.split()), strict_mode=True)
    except ValueError:
        raise UndecodableEnvelope("its body is not the base64 that body_encoding says") from None


def _from_text(written: object) -> bytes:
    if isinstance(written, bytes):  # as kombu's JSON writes a body that is not text
        return written
    if not isinstance(written, str):
        raise UndecodableEnvelope(f"its body is {_kind(written)}, not text")
    try:
        return written.encode()
    except UnicodeEncodeError:
        raise UndecodableEnvelope("its body has half a surrogate pair, which is no text") from None


def _read_suffix(suffix: object) -> tuple[bool, int, int]:
    """Our own note on a message; one that isn't as our scripts write it is someone else's, and left alone."""
    if type(suffix) is list and len(suffix) == 2:
        count, expires = suffix
        if type(count) is int and type(expires) is int and count >= 0:
            return True, count, expires
    return False, *_NOT_OURS


def _kind(value: object) -> str:
    return _KINDS.get(type(value), f"a {type(value).__name__}")


_KINDS: Final[dict[type, str]] = {
    type(None): "missing",
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "a boolean",
}
