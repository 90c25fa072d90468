"""What a fleet publishes: every message with an id, confirmed, and to a queue that exists."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Unpack

import trio

from ..broker import Broker, MessageProperties
from ..supervisors._interrupts import protected, unprotected
from ..utils.uuid import uuid
from ._delays import delay_near
from ._plain import to_plain
from ._postponing import PUBLISH_TIMEOUT, Postponer
from ._publishes import Publishes
from .errors import FleetMistake

__all__ = ["Publisher", "encodable"]

KNOWN_MAX = 1024
"""Queues that are remembered to exist: some 100 KiB.  Those beyond it are looked for at each delayed publish."""


@protected
class Publisher:
    """Publishes over one connection, for a client and for the handlers of a fleet."""

    def __init__(self, broker: Broker, postponer: Postponer, publishes: Publishes) -> None:
        self._broker = broker
        self._postponer = postponer
        self._publishes = publishes
        self._known: set[str] = set()

    async def publish(
        self,
        queue: str,
        body: object,
        *,
        delay: float | None = None,
        exchange: str = "",
        headers: Mapping[str, object] | None = None,
        serializer: str | None = None,
        timeout: float = PUBLISH_TIMEOUT,
        **properties: Unpack[MessageProperties],
    ) -> str:
        """Publish one message, wait until the broker has confirmed it, and return its id; see ``Client.publish``."""
        if not properties.get("message_id"):
            properties["message_id"] = uuid()
        if properties.get("timestamp") is None:
            properties["timestamp"] = int(time.time())
        message_id = str(properties["message_id"])
        plain = encodable(body, serializer)
        if delay:
            if exchange:
                raise FleetMistake(
                    f"a message can wait for a queue only, not for exchange {exchange!r}: leave out delay= or exchange="
                )
            at = trio.current_time() + timeout
            await self._look_for(queue, timeout)
            publish = self._postponer.publish(
                delay_near(delay),
                queue,
                plain,
                serializer=serializer,
                headers=headers,
                timeout=max(at - trio.current_time(), 0.0),
                **properties,
            )
        else:
            publish = self._broker.publish(
                plain,
                routing_key=queue,
                exchange=exchange,
                headers=headers,
                serializer=serializer,
                mandatory=not exchange,
                timeout=timeout,
                **properties,
            )
        await self._publishes.confirmed(publish)
        return message_id

    async def _look_for(self, queue: str, timeout: float) -> None:
        """Raise ``NotFound`` unless a queue exists: at the end of its delay nobody would hear that it doesn't."""
        if queue not in self._known:
            await self._broker.inspect_queue(queue, timeout=timeout)
            if len(self._known) < KNOWN_MAX:
                self._known.add(queue)


def encodable(body: object, serializer: str | None) -> object:
    """A body for the serializer: JSON, the default, gets objects of classes as what they are made of."""
    return unprotected(to_plain, body) if serializer in (None, "json") else body
