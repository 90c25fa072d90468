"""Where a fleet tells a tracer what it does; without one none of this is called.  ``telemetry`` has the only one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol, Unpack

from ..broker import MessageProperties
from ..utils.uuid import uuid
from ._plans import CallNext, Middleware
from .message import Message, Outlet

__all__ = ["Settlement", "TracedOutlet", "Tracing", "destination", "processing", "publishing"]

Settlement = Literal["ack", "retry", "snooze", "dead-letter"]


class Tracing(Protocol):
    """What is told; each block is the time that it takes, and what comes out of it is how it failed."""

    def publishing(
        self, destination: str, *, message_id: str | None, conversation_id: str | None, because: Message | None
    ) -> AbstractContextManager[Mapping[str, str]]:
        """A message is published, and confirmed; yields headers that it is to have.

        ``because`` of a message whose handler is done: it is the reply.
        """

    def processing(self, messages: Sequence[Message]) -> AbstractContextManager[None]:
        """A handler is called, with a message or a batch of them."""

    def settling(self, message: Message, how: Settlement) -> AbstractContextManager[None]:
        """A message is acked, after what that takes before."""


class TracedOutlet:
    """An outlet whose publications are told of."""

    def __init__(self, outlet: Outlet, tracing: Tracing) -> None:
        self._outlet = outlet
        self._tracing = tracing

    async def publish(
        self,
        queue: str,
        body: object,
        *,
        delay: float | None = None,
        exchange: str = "",
        headers: Mapping[str, object] | None = None,
        serializer: str | None = None,
        timeout: float = 30.0,
        **properties: Unpack[MessageProperties],
    ) -> str:
        """See ``Client.publish``."""
        id = properties["message_id"] = properties.get("message_id") or uuid()
        asked = properties.get("correlation_id")
        with publishing(self._tracing, destination(queue, exchange), headers, id, asked) as given:
            return await self._outlet.publish(
                queue,
                body,
                delay=delay,
                exchange=exchange,
                headers=given,
                serializer=serializer,
                timeout=timeout,
                **properties,
            )


def destination(queue: str, exchange: str) -> str:
    """Where a message goes, in one word, as OpenTelemetry has it for RabbitMQ."""
    return f"{exchange}:{queue}" if exchange and queue else exchange or queue


@contextmanager
def publishing(
    tracing: Tracing | None,
    destination: str,
    headers: Mapping[str, object] | None,
    message_id: str | None,
    conversation_id: str | None,
    because: Message | None = None,
) -> Iterator[Mapping[str, object] | None]:
    """Around a publication, where there may be a tracer: yields the headers that it is to have."""
    if tracing is None:
        yield headers
        return
    told = tracing.publishing(destination, message_id=message_id, conversation_id=conversation_id, because=because)
    with told as more:
        yield {**(headers or {}), **more}


def processing(tracing: Tracing) -> Middleware:
    """Around the call of a handler with one message."""

    async def call(message: Message, call_next: CallNext) -> object:
        with tracing.processing([message]):
            return await call_next(message)

    return call
