"""What the native ``publish`` makes of its arguments, before a byte is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from .._frozen import Record
from ..actors.connection import ConnectionActor
from ..protocols.ledger import Entry
from ..serialization import dumps
from ..supervisors._interrupts import unprotected
from ..utils.time import milliseconds


class MessageProperties(TypedDict, total=False):
    """Properties that a message may have, under AMQP's names.  The broker acts on the first two, ``reply_to`` of a
    queue that it named, and ``user_id``; the others are for who receives it.  None is as good
    as absent."""

    priority: int | None
    """From 0 to 255; what is above the queue's ``max_priority`` counts as that."""
    expiration: float | str | None
    """Seconds that it may wait in a queue; then it is dead-lettered, or dropped.  Text is AMQP's own: milliseconds, as
    in ``message.properties``, so that a message can be passed on as it came."""
    message_id: str | None
    """Your name for it: stays the same when it is sent again after a fault, so receivers can tell duplicates."""
    correlation_id: str | None
    reply_to: str | None
    timestamp: int | None
    """Seconds since 1970."""
    type: str | None
    user_id: str | None
    """The user's name at the broker, which refuses any other (406)."""
    app_id: str | None


class Encoded(Record):
    """A body, and what its properties say of it."""

    data: bytes
    content_type: str
    content_encoding: str


def encode(body: object, serializer: str | None, content_type: str | None, content_encoding: str | None) -> Encoded:
    """Serialize a body; with a ``content_type`` it has been already."""
    payload: Any = body
    if content_type is None:
        content_type, content_encoding, payload = unprotected(dumps, body, serializer)
    data = payload.encode(content_encoding or "utf-8") if isinstance(payload, str) else payload
    return Encoded(data, content_type, content_encoding or "binary")


class Letter(Record):
    """What all messages of one call have in common."""

    exchange: str
    routing_key: str
    serializer: str | None
    content_type: str | None
    content_encoding: str | None
    headers: Mapping[str, object] | None
    persistent: bool
    mandatory: bool
    properties: MessageProperties


def make_entry(actor: ConnectionActor, body: object, letter: Letter) -> Entry:
    """An entry for the ledger; names of queues that the broker named are followed.

    Raises ``EncodeError`` for the body, ``ValueError`` naming the wrong argument.
    """
    exchange, routing_key, serializer, content_type, content_encoding, headers, persistent, mandatory, more = letter
    data, content_type, content_encoding = encode(body, serializer, content_type, content_encoding)
    properties: dict[str, object] = {
        "content_type": content_type,
        "content_encoding": content_encoding,
        "delivery_mode": 2 if persistent else 1,
        "headers": headers or {},
        **more,
    }
    seconds = more.get("expiration")
    if seconds is not None and not isinstance(seconds, str):
        properties["expiration"] = str(milliseconds("expiration", seconds))
    names = actor.topology.names
    follows = bool(names.by_known) and names.concern(exchange, routing_key, properties)
    if follows:
        routing_key, properties = names.present(exchange, routing_key, properties)
    prepared = actor.transport.prepare(
        data, exchange=exchange, routing_key=routing_key, properties=properties, mandatory=mandatory
    )
    entry = Entry(prepared, len(data) + 256, exchange, routing_key, mandatory)
    if follows:
        entry.follow = names.following(actor.transport.prepare, data, properties)
    return entry
