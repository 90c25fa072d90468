"""A message as published, and one copy of it in one queue."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from ._consumer import Consumer
    from ._queue import Queue

MESSAGE_OVERHEAD = 512
"""Bytes that a message costs the process beside its body and headers, for the memory alarm."""


@attrs.define(eq=False)
class Message:
    """What a publisher sent.  Never changed once made: queues, and repeated publishes, share it."""

    exchange: str
    routing_key: str
    properties: dict[str, Any]
    body: bytes
    mandatory: bool
    extra_keys: tuple[str, ...]
    """More routing keys, from the ``CC`` and ``BCC`` headers (RabbitMQ's sender-selected distribution)."""
    lifetime: float | None
    """Seconds from ``expiration``; None when it does not expire by itself."""
    priority: int
    size: int
    """Bytes it costs the process."""

    @property
    def headers(self) -> dict[str, Any]:
        """The application headers; never change them: they are shared."""
        found: dict[str, Any] = self.properties.get("headers") or {}
        return found

    @property
    def persistent(self) -> bool:
        """Whether it is to survive a restart (delivery mode 2)."""
        return self.properties.get("delivery_mode") == 2

    def with_header(self, name: str, value: object) -> Message:
        """A copy with one header more; this one is shared and stays as it is."""
        return attrs.evolve(self, properties={**self.properties, "headers": {**self.headers, name: value}})


def new_message(
    exchange: str,
    routing_key: str,
    properties: dict[str, Any],
    body: bytes,
    *,
    mandatory: bool = False,
) -> Message:
    """Make a message of ``properties`` as ``validate_content`` returned them; it keeps them."""
    headers = properties.get("headers")
    extra: tuple[str, ...] = ()
    size = MESSAGE_OVERHEAD + len(body)
    if headers:
        size += 64 * len(headers)
        if "CC" in headers or "BCC" in headers:
            extra = (*_keys(headers.get("CC", ())), *_keys(headers.get("BCC", ())))
            kept = {name: value for name, value in headers.items() if name != "BCC"}
            properties = {**properties, "headers": kept}
    expiration = properties.get("expiration")
    return Message(
        exchange,
        routing_key,
        properties,
        body,
        mandatory,
        extra,
        None if expiration is None else int(expiration) / 1000,
        properties.get("priority") or 0,
        size,
    )


def _keys(named: Iterable[object]) -> list[str]:
    return [key for key in named if isinstance(key, str)]


@attrs.define(eq=False)
class Entry:
    """One message in one queue: waiting there, or delivered and not yet acknowledged."""

    message: Message
    queue: Queue
    position: int
    """Where it stands in its queue's order of arrival, and returns to when it is requeued."""
    expires: float | None
    consumer: Consumer | None = None
    """Who has it; None while it waits, and for one taken by ``basic.get``."""
    redelivered: bool = False
    returns: int = 0
    """How often it was given back, for quorum queues' delivery limit."""
