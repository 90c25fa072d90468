"""What the native ``publish`` makes of its arguments, before a byte is sent."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..actors.connection import ConnectionActor
from ..protocols.ledger import Entry
from ..serialization import dumps
from ..supervisors._interrupts import unprotected


class Encoded(NamedTuple):
    """A body, and what its properties say of it."""

    data: bytes
    content_type: str
    content_encoding: str


def encode(body: Any, serializer: str | None, content_type: str | None, content_encoding: str | None) -> Encoded:
    """Serialize a body; with a ``content_type`` it has been already."""
    if content_type is None:
        content_type, content_encoding, payload = unprotected(dumps, body, serializer)
    else:
        payload = body
    data = payload.encode(content_encoding or "utf-8") if isinstance(payload, str) else payload
    return Encoded(data, content_type, content_encoding or "binary")


def make_entry(
    actor: ConnectionActor,
    encoded: Encoded,
    exchange: str,
    routing_key: str,
    properties: dict[str, Any],
    mandatory: bool,
) -> Entry:
    """An entry for the ledger; names of queues that the broker named are followed.

    Raises ``ValueError`` naming the wrong argument.
    """
    properties = {
        "content_type": encoded.content_type,
        "content_encoding": encoded.content_encoding,
        **properties,
    }
    names = actor.topology.names
    if names.by_known:
        if not exchange:
            routing_key = names.current(routing_key)
        if isinstance(properties.get("reply_to"), str):
            properties["reply_to"] = names.current(properties["reply_to"])
    prepared = actor.transport.prepare(
        encoded.data, exchange=exchange, routing_key=routing_key, properties=properties, mandatory=mandatory
    )
    return Entry(prepared, len(encoded.data) + 256, exchange, routing_key, mandatory)
